package main

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// message is what of a message matters here.
type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// tool is one that the assistant offers.
type tool struct {
	Function struct {
		Name string `json:"name"`
	} `json:"function"`
}

// content is text, or a list of parts of which some are text.
type content string

func (c *content) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, (*string)(c)) == nil {
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return fmt.Errorf("content is neither text nor a list of parts: %w", err)
	}
	for _, part := range parts {
		*c += content(part.Text + "\n")
	}
	return nil
}

var callLine = regexp.MustCompile(`(?m)^"?call ([a-z_]+) (\{.*\})"?\s*$`)

// nextCall turns the first line `call TOOL {ARGUMENTS}` of the user's last message that has no result yet into a call of that tool;
// nil when there is none, or the assistant does not offer it.
func nextCall(messages []message, tools []tool) map[string]any {
	asked, done := "", 0
	for _, m := range messages {
		switch m.Role {
		case "user":
			asked, done = string(m.Content), 0
		case "tool":
			done++
		}
	}
	calls := callLine.FindAllStringSubmatch(asked, -1)
	if done >= len(calls) {
		return nil
	}
	name, arguments := calls[done][1], calls[done][2]
	for _, offered := range tools {
		if offered.Function.Name == name && json.Valid([]byte(arguments)) {
			return map[string]any{
				"index": 0, "id": fmt.Sprintf("call_%d", done+1), "type": "function",
				"function": map[string]any{"name": name, "arguments": arguments},
			}
		}
	}
	return nil
}
