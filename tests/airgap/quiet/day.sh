#!/usr/bin/env bash
# A working day, inside the workspace: it starts as a pod does, and then does what a developer does in four languages.
# `done: STEP` is printed for each step that went well.
set -uo pipefail
exec 2>&1

# A step ends at its first command that fails. In a condition bash would go on to the last one; so there is none around it, and steps put
# one command on a line instead of joining them.
step() { # NAME COMMAND...
  local name=$1 status began=$SECONDS
  shift
  (set -e; "$@")
  status=$?
  echo "$((SECONDS - began)) s: $name"
  if [ "$status" = 0 ]; then echo "done: $name"; else echo "NOT done: $name (status $status)"; fi
}

# opencode's tools are called by the model at the lines `call`: see deploy/local/fixed-answer-llm.
prompt() {
  local said
  said=$(timeout 90 opencode run)
  grep -q 'fixed answer' <<<"$said"
}

until_there() { # COMMAND...
  local deadline=$((SECONDS + 90))
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
  echo one >file
  git add file
  git commit -q -m one
  git push -q origin HEAD
  git fetch -q
  git pull -q
  git ls-remote -q origin HEAD >/tmp/remote
  grep -q "$(git rev-parse HEAD)" /tmp/remote
}

project() { # NAME: a new one, and in it
  mkdir -p ~/"$1"
  cd ~/"$1"
  git init -q
  languages
}

go_project() {
  project go-project
  go mod init example.test/app
  printf 'package main\n\nimport "example.test/greet"\n\nfunc main() { println(greet.Hello()) }\n' >main.go
  go get example.test/greet
  go mod tidy
  go build -o app .
  go vet ./...
  go test ./...
  ./app
  prompt <<'PROMPT'
Say it twice.
call read {"filePath":"/workspace/go-project/main.go"}
call write {"filePath":"/workspace/go-project/main.go","content":"package main\n\nimport \"example.test/greet\"\n\nfunc main() {\n\tprintln(greet.Hello())\n\tprintln(greet.Hello())\n}\n"}
call bash {"command":"cd /workspace/go-project && go build ./...","description":"Builds it"}
PROMPT
  [ "$(grep -c println main.go)" = 2 ]
}

rust_project() {
  project rust-project
  mkdir src .cargo
  printf '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2024"\n' >Cargo.toml
  echo 'fn main() {}' >src/main.rs
  prompt <<'PROMPT'
Say something.
call read {"filePath":"/workspace/rust-project/src/main.rs"}
call write {"filePath":"/workspace/rust-project/src/main.rs","content":"fn main() {\n    println!(\"hello\");\n}\n"}
PROMPT
  grep -q hello src/main.rs
  printf '[source.crates-io]\nreplace-with = "site"\n[source.site]\nregistry = "sparse+https://packages.example.test/cargo/"\n' >.cargo/config.toml
  cargo add devplane-trial
  printf 'const _: () = assert!(devplane_trial::HERE);\n\nfn main() {}\n' >src/main.rs
  cargo check
  cargo update
  cargo tree --locked
  cargo metadata --format-version 1 >/tmp/metadata
  grep -q devplane-trial-1.0.0 /tmp/metadata
}

python_project() {
  project python-project
  python3 -m venv .venv
  . .venv/bin/activate
  pip install -q devplane-trial
  python -c 'import devplane_trial'
  pip list --outdated
  prompt <<'PROMPT'
Use it.
call write {"filePath":"/workspace/python-project/app.py","content":"import devplane_trial\n\nprint(devplane_trial.here)\n"}
call bash {"command":"cd /workspace/python-project && .venv/bin/python app.py","description":"Runs it"}
PROMPT
  [ "$(python app.py)" = True ]
}

typescript_project() {
  project typescript-project
  echo '{"name": "app", "version": "1.0.0"}' >package.json
  echo '{"compilerOptions": {"strict": true}}' >tsconfig.json
  npm install devplane-trial
  npm ls
  npm outdated
  prompt <<'PROMPT'
Use it.
call write {"filePath":"/workspace/typescript-project/app.ts","content":"const trial = require(\"devplane-trial\");\nconsole.log(trial);\n"}
PROMPT
  grep -q devplane-trial app.ts
  node -e 'require("devplane-trial")'
}

# As a user starts it, in the terminal's tmux, with everything that its screen does by itself.
on_screen() { tmux capture-pane -p -t =workspace: | grep -- "$1" >/dev/null; }
# Keys that come before the screen reads them are lost: they are typed again.
type_until_shown() { # TEXT
  on_screen "$1" && return
  tmux send-keys -t =workspace: "$1"
  local deadline=$((SECONDS + 3))
  until on_screen "$1"; do [ "$SECONDS" -lt "$deadline" ] && sleep 0.1 || return 1; done
}
screen() {
  export TMUX_TMPDIR=/tmp
  tmux send-keys -t =workspace: 'cd ~/go-project && opencode' Enter
  until_there on_screen 'Ask anything'
  until_there type_until_shown 'good morning'
  tmux send-keys -t =workspace: Enter
  until_there on_screen 'fixed answer of' || { tmux capture-pane -p -t =workspace: && return 1; }
  tmux send-keys -t =workspace: C-c
}

tools() {
  local models
  zsh -lic 'set -e; kubectl version --client; helm version; npm --version; pip --version; go version; git --version'
  models=$(opencode models)
  grep -q fixed-answer <<<"$models"
}

# refused SAYING COMMAND...: the command fails by itself, long before a time-out of the network would end it, and says which mirror is missing.
refused() {
  local saying=$1 status=0
  shift
  timeout --kill-after=5 30 "$@" >/tmp/refused 2>&1 || status=$?
  if [ "$status" = 0 ] || [ "$status" = 124 ] || [ "$status" = 137 ] || ! grep -q -- "$saying" /tmp/refused; then
    echo "status $status of $*:"
    cat /tmp/refused
    return 1
  fi
}

# Where the site has named no mirror: refused at once, by the program itself.
without_npm() {
  unset npm_config_registry
  cd ~/typescript-project
  refused no-npm-mirror-is-configured npm install left-pad
}
without_go() {
  unset GOPROXY
  cd ~/go-project
  refused GOPROXY=off go get example.test/other
}
without_cargo() {
  mkdir -p ~/rust-bare/src
  cd ~/rust-bare
  printf '[package]\nname = "bare"\nversion = "0.1.0"\nedition = "2024"\n\n[dependencies]\nanything = "1"\n' >Cargo.toml
  echo 'fn main() {}' >src/main.rs
  refused no-cargo-mirror-is-configured cargo check
}
without_pip() {
  unset PIP_INDEX_URL
  refused no-pip-mirror-is-configured ~/python-project/.venv/bin/pip install requests
}
opencode_without() {
  unset PIP_INDEX_URL npm_config_registry GOPROXY
  mkdir ~/bare
  cd ~/bare
  echo hello | prompt
}

# The image has no Rust toolchain: that of the machine is mounted, as an image of a site's own has one.
export PATH=$PATH:/opt/rust/bin

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
step 'npm without a mirror fails at once' without_npm
step 'Go without a mirror fails at once' without_go
step 'pip without a mirror fails at once' without_pip
step 'cargo without a mirror fails at once' without_cargo
step 'opencode works without mirrors' opencode_without
