// Command fixed-answer-llm turns every chat request into the same answer, in the shape of an OpenAI-compatible API.
//
// It is not a model. It stands where a model server would, so that what a workspace sends and how it reads an answer can
// be tested without one: each request is recorded, and GET /requests gives the records back. A line `call TOOL {ARGUMENTS}` of the
// user's last message is done first, so that an assistant's tools can be tested too (see tools.go).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxBody     = 8 << 20 // a coding agent sends whole files
	maxRecorded = 200     // the oldest go first
)

// record is one request as it came in. The Authorization header is reduced to whether there was one.
type record struct {
	At            time.Time       `json:"at"`
	Method        string          `json:"method"`
	Path          string          `json:"path"`
	From          string          `json:"from"`
	Authorization bool            `json:"authorization"`
	Body          json.RawMessage `json:"body,omitempty"`
}

type server struct {
	model, answer string

	mu       sync.Mutex
	requests []record
}

func main() {
	listen := flag.String("listen", ":8000", "address to listen on")
	model := flag.String("model", "fixed-answer", "name of the one model it claims to serve")
	answer := flag.String("answer", "This is the fixed answer of a test server, not of a model.", "text of every answer")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "fixed-answer-llm: unexpected argument %q\nhint: see fixed-answer-llm -help\n", flag.Arg(0))
		os.Exit(64)
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))

	s := &server{model: *model, answer: *answer}
	web := &http.Server{Addr: *listen, Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = web.Shutdown(grace)
	}()
	slog.Info("listening", "address", *listen, "model", *model)
	if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		slog.Error("cannot serve", "address", *listen, "error", err)
		os.Exit(1)
	}
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("POST /v1/chat/completions", s.chat)
	mux.HandleFunc("GET /requests", s.recorded)
	mux.HandleFunc("DELETE /requests", s.forget)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		apiError(w, http.StatusNotFound, "no such endpoint: "+r.Method+" "+r.URL.Path)
	})
	return mux
}

func (s *server) models(w http.ResponseWriter, r *http.Request) {
	s.remember(r, nil)
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list",
		"data":   []any{map[string]any{"id": s.model, "object": "model", "created": 0, "owned_by": "fixed-answer-llm"}},
	})
}

func (s *server) chat(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		apiError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body of at most %d bytes is read: %v", maxBody, err))
		return
	}
	var ask struct {
		Model         string    `json:"model"`
		Messages      []message `json:"messages"`
		Tools         []tool    `json:"tools"`
		Stream        bool      `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.Unmarshal(body, &ask); err != nil {
		apiError(w, http.StatusBadRequest, "the body is not a chat completion request: "+err.Error())
		return
	}
	s.remember(r, body)
	if len(ask.Messages) == 0 {
		apiError(w, http.StatusBadRequest, "messages: expected at least one")
		return
	}
	if ask.Model != s.model {
		apiError(w, http.StatusNotFound, fmt.Sprintf("no model %q here; the one model is %q", ask.Model, s.model))
		return
	}
	wanted := nextCall(ask.Messages, ask.Tools)
	if ask.Stream {
		s.stream(w, wanted, ask.StreamOptions.IncludeUsage)
		return
	}
	said, reason := map[string]any{"role": "assistant", "content": s.answer}, "stop"
	if wanted != nil {
		said, reason = map[string]any{"role": "assistant", "tool_calls": []any{wanted}}, "tool_calls"
	}
	reply := s.envelope("chat.completion", []any{map[string]any{"index": 0, "finish_reason": reason, "message": said}})
	reply["usage"] = s.usage()
	writeJSON(w, http.StatusOK, reply)
}

// stream sends the answer word by word, so that a client that joins chunks wrongly is caught.
func (s *server) stream(w http.ResponseWriter, wanted map[string]any, usage bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	send := func(value any) {
		data, _ := json.Marshal(value)
		fmt.Fprintf(w, "data: %s\n\n", data)
		_ = out.Flush()
	}
	chunk := func(delta map[string]any, finish any) {
		send(s.envelope("chat.completion.chunk", []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}))
	}
	chunk(map[string]any{"role": "assistant", "content": ""}, nil)
	if wanted != nil {
		chunk(map[string]any{"tool_calls": []any{wanted}}, nil)
		chunk(map[string]any{}, "tool_calls")
	} else {
		for _, word := range strings.SplitAfter(s.answer, " ") {
			chunk(map[string]any{"content": word}, nil)
		}
		chunk(map[string]any{}, "stop")
	}
	if usage {
		last := s.envelope("chat.completion.chunk", []any{})
		last["usage"] = s.usage()
		send(last)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
	_ = out.Flush()
}

func (s *server) envelope(object string, choices []any) map[string]any {
	return map[string]any{
		"id": "chatcmpl-fixed", "object": object, "created": time.Now().Unix(), "model": s.model, "choices": choices,
	}
}

// usage is made up, but never zero: some clients take zero for a failure.
func (s *server) usage() map[string]int {
	words := len(strings.Fields(s.answer))
	return map[string]int{"prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1}
}

func (s *server) remember(r *http.Request, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, record{
		At: time.Now().UTC(), Method: r.Method, Path: r.URL.Path, From: r.RemoteAddr,
		Authorization: r.Header.Get("Authorization") != "", Body: body,
	})
	if excess := len(s.requests) - maxRecorded; excess > 0 {
		s.requests = s.requests[excess:]
	}
}

func (s *server) recorded(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"requests": append([]record{}, s.requests...)})
}

func (s *server) forget(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = nil
	w.WriteHeader(http.StatusNoContent)
}

func apiError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error"}})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}
