# Yours to change: it was written once and is never overwritten.
[ -r "$HOME/.config/devplane/env.sh" ] && . "$HOME/.config/devplane/env.sh"
HISTFILE=$HOME/.zsh_history
HISTSIZE=50000
SAVEHIST=50000
setopt APPEND_HISTORY INC_APPEND_HISTORY SHARE_HISTORY HIST_IGNORE_DUPS INTERACTIVE_COMMENTS
autoload -Uz compinit && compinit -d "$HOME/.cache/zcompdump"
bindkey -e
for plugin in zsh-autosuggestions zsh-syntax-highlighting; do
  [ -r "/usr/share/$plugin/$plugin.zsh" ] && . "/usr/share/$plugin/$plugin.zsh"
done
[ -r /usr/share/doc/fzf/examples/key-bindings.zsh ] && . /usr/share/doc/fzf/examples/key-bindings.zsh
command -v starship >/dev/null && eval "$(starship init zsh)"
