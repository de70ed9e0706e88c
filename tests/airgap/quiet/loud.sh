#!/usr/bin/env bash
# opencode as it is without the image's settings, inside the workspace: the control of the day.
. ~/.config/devplane/env.sh
unset OPENCODE_DISABLE_AUTOUPDATE OPENCODE_DISABLE_MODELS_FETCH OPENCODE_DISABLE_LSP_DOWNLOAD OPENCODE_DISABLE_DEFAULT_PLUGINS npm_config_registry NPM_CONFIG_GLOBALCONFIG
# /.cargo is empty here.
PATH=$PATH:/opt/rust/bin
(cd ~/rust-bare && timeout 60 cargo check)
cd ~/python-project && timeout 60 opencode run <<'PROMPT'
Hello.
call write {"filePath":"/workspace/python-project/loud.py","content":"print(1)\n"}
PROMPT
