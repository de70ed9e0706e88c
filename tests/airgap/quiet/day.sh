#!/usr/bin/env bash
# A working day, inside the workspace: it starts as a pod does, and then does what a developer does in four languages.
# `done: STEP` is printed for each step that went well.
set -uo pipefail
exec 2>&1

step() { # NAME COMMAND...
  local name=$1
  shift
  if (set -e; "$@"); then echo "done: $name"; else echo "NOT done: $name"; fi
}

# opencode's tools are called by the model at the lines `call`: see deploy/local/fixed-answer-llm.
prompt() { timeout 90 opencode run | grep -q 'fixed answer'; }

until_there() { # COMMAND...
  local deadline=$((SECONDS + 40))
  until "$@" >/dev/null 2>&1; do [ "$SECONDS" -lt "$deadline" ] && sleep 0.2 || return 1; done
}

listens() { (: <>/dev/tcp/127.0.0.1/7681) 2>/dev/null; }
start() {
  /usr/bin/tini -s -- /usr/local/bin/devplane-entrypoint &
  until_there listens
}

languages() { printf '{"$schema": "https://opencode.ai/config.json", "lsp": true, "formatter": true}\n' >opencode.json; }

repository() {
  git clone -q https://packages.example.test/git/trial.git ~/trial
  cd ~/trial
  echo one >file && git add file && git commit -q -m one && git push -q origin HEAD
  git fetch -q && git pull -q && git log --oneline | grep -q one
}

go_project() {
  mkdir -p ~/go-project && cd ~/go-project && git init -q && languages
  go mod init example.test/app
  printf 'package main\n\nimport "example.test/greet"\n\nfunc main() { println(greet.Hello()) }\n' >main.go
  go get example.test/greet && go mod tidy && go build -o app . && go vet ./... && go test ./... && ./app
  prompt <<'PROMPT'
Say it twice.
call read {"filePath":"/workspace/go-project/main.go"}
call write {"filePath":"/workspace/go-project/main.go","content":"package main\n\nimport \"example.test/greet\"\n\nfunc main() {\n\tprintln(greet.Hello())\n\tprintln(greet.Hello())\n}\n"}
call bash {"command":"cd /workspace/go-project && go build ./...","description":"Builds it"}
PROMPT
  [ "$(grep -c println main.go)" = 2 ]
}

rust_project() {
  mkdir -p ~/rust-project/src && cd ~/rust-project && git init -q && languages
  printf '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2024"\n' >Cargo.toml
  echo 'fn main() {}' >src/main.rs
  prompt <<'PROMPT'
Say something.
call read {"filePath":"/workspace/rust-project/src/main.rs"}
call write {"filePath":"/workspace/rust-project/src/main.rs","content":"fn main() {\n    println!(\"hello\");\n}\n"}
PROMPT
  grep -q hello src/main.rs
}

python_project() {
  mkdir -p ~/python-project && cd ~/python-project && git init -q && languages
  python3 -m venv .venv && . .venv/bin/activate
  pip install -q devplane-trial && python -c 'import devplane_trial' && pip list --outdated
  prompt <<'PROMPT'
Use it.
call write {"filePath":"/workspace/python-project/app.py","content":"import devplane_trial\n\nprint(devplane_trial.here)\n"}
call bash {"command":"cd /workspace/python-project && .venv/bin/python app.py","description":"Runs it"}
PROMPT
  python app.py | grep -q True
}

typescript_project() {
  mkdir -p ~/typescript-project && cd ~/typescript-project && git init -q && languages
  echo '{"name": "app", "version": "1.0.0"}' >package.json
  echo '{"compilerOptions": {"strict": true}}' >tsconfig.json
  npm install devplane-trial && npm ls && npm outdated
  prompt <<'PROMPT'
Use it.
call write {"filePath":"/workspace/typescript-project/app.ts","content":"const trial = require(\"devplane-trial\");\nconsole.log(trial);\n"}
PROMPT
  grep -q devplane-trial app.ts && node -e 'require("devplane-trial")'
}

# As a user starts it, in the terminal's tmux, with everything that its screen does by itself.
screen() {
  export TMUX_TMPDIR=/tmp
  tmux send-keys -t =workspace: 'cd ~/go-project && opencode' Enter
  shows() { tmux capture-pane -p -t =workspace: | grep -q "$1"; }
  until_there shows 'Ask anything' && sleep 1
  tmux send-keys -t =workspace: 'hello' && sleep 1 && tmux send-keys -t =workspace: Enter
  until_there shows 'fixed answer of' || { tmux capture-pane -p -t =workspace: && return 1; }
  tmux send-keys -t =workspace: C-c
}

tools() { zsh -lic 'kubectl version --client && helm version && npm --version && pip --version && go version && git --version' && opencode models | grep -q fixed-answer; }

# Where the site has named no mirror: refused at once, by the program itself.
without_mirrors() {
  local began=$SECONDS
  unset PIP_INDEX_URL npm_config_registry GOPROXY
  cd ~/typescript-project && ! npm install left-pad
  cd ~/go-project && ! go get example.test/other
  ! ~/python-project/.venv/bin/pip install requests
  mkdir -p ~/bare && cd ~/bare && echo hello | prompt
  [ $((SECONDS - began)) -lt 60 ]
}

step 'the workspace starts' start
# What shells read.
. ~/.config/devplane/env.sh
step 'git clones, commits and pushes' repository
step 'a Go project' go_project
step 'a Rust project' rust_project
step 'a Python project' python_project
step 'a TypeScript project' typescript_project
step 'opencode on the screen' screen
step 'the tools of the image' tools
step 'without mirrors' without_mirrors
