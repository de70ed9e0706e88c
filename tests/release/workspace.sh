# shellcheck shell=bash disable=SC2154  # work, qemu and claim come from run.sh
# Turns what the workspace image is made of into checks that all of it is there for ARM, and runs there: Debian's packages by a package manager with state of its
# own, opencode by the lockfile, kubectl and helm from Go modules. The image itself takes a machine of that kind, or an emulator that the kernel knows of.

arm=$work/arm
of_image=$PWD/deploy/images/workspace

# The packages that the image's first step installs, and ttyd, which only Debian's unstable suite has.
packages() { sed -n '/apt-get install/,/&&/p' "$of_image/Dockerfile" | grep -v -e 'apt-get' -e '&&' | tr -d '\\' | xargs -n 1; echo ttyd; }

apt_arm() { APT_CONFIG=$arm/apt.conf apt-get -qq "$@"; }
with_lists() {
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
  mkdir -p "$arm"/{lists,cache/archives}/partial "$arm/parts"
  : >"$arm/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no] %s %s main\n' "$mirror" trixie "$mirror" sid >"$arm/sources.list"
  printf 'Package: *\nPin: release n=sid\nPin-Priority: 50\n\nPackage: ttyd\nPin: release n=sid\nPin-Priority: 500\n' >"$arm/preferences"
  cat >"$arm/apt.conf" <<EOF
APT { Architecture "arm64"; Architectures { "arm64"; }; Sandbox::User "root"; Install-Recommends "false"; };
Dir { State "$arm"; State::lists "$arm/lists"; State::status "$arm/status"; Cache "$arm/cache"; };
Dir::Etc { sourcelist "$arm/sources.list"; sourceparts "$arm/parts"; preferences "$arm/preferences"; preferencesparts "$arm/parts"; };
EOF
  apt_arm update
}
installable() { packages | xargs env APT_CONFIG="$arm/apt.conf" apt-get -qq --simulate install >/dev/null; }
# Unpacked, with links as a root of Debian has them. No script of a package runs.
unpacked() {
  local package
  apt_arm -y --download-only install git jq nodejs procps python3 ripgrep stunnel4 tini tmux ttyd vim zsh >/dev/null
  mkdir -p "$arm/root"
  for package in "$arm"/cache/archives/*.deb; do dpkg-deb -x "$package" "$arm/root"; done
  for package in bin sbin lib; do ln -sfn "usr/$package" "$arm/root/$package"; done
}
runs() { # PROGRAM ARGUMENT TEXT: it says TEXT
  "$qemu" -L "$arm/root" "$arm/root/usr/bin/$1" "$2" 2>&1 | grep -- "$3" >/dev/null
}
with_opencode() {
  mkdir -p "$arm/opencode"
  cp "$of_image"/opencode/package*.json "$arm/opencode/"
  (cd "$arm/opencode" && npm ci --os=linux --cpu=arm64 --ignore-scripts --no-audit --no-fund >/dev/null)
}
opencode_runs() {
  [ "$("$qemu" -L "$arm/root" "$arm/opencode/node_modules/opencode-linux-arm64/bin/opencode" --version)" = \
    "$(jq -r '.packages["node_modules/opencode-linux-arm64"].version' "$of_image/opencode/package-lock.json")" ]
}
kubectl_runs() { "$qemu" "$tools/kubectl-arm64" version --client | grep -F "v$(. deploy/local/lib/settings.sh && echo "$KUBERNETES_VERSION")" >/dev/null; }
helm_runs() { "$qemu" "$tools/helm-arm64" version --short | grep -F "v$(. deploy/local/lib/settings.sh && echo "${HELM_VERSION%.*}")" >/dev/null; }

claim "Debian's lists of packages for ARM are read" with_lists
claim "each package of the workspace image is among them" installable
claim "and can be had" unpacked
claim "ttyd runs on ARM" runs ttyd --version 'ttyd version 1'
claim "tmux runs on ARM" runs tmux -V '^tmux 3'
claim "stunnel runs on ARM" runs stunnel4 -version aarch64
claim "git runs on ARM" runs git --version 'git version'
claim "zsh runs on ARM" runs zsh --version aarch64
claim "vim runs on ARM" runs vim.basic --version 'VIM - Vi IMproved'
claim "Node.js runs on ARM" runs node --version '^v'
claim "Python runs on ARM" runs python3 --version 'Python 3'
claim "opencode for ARM comes from npm, by the lockfile" with_opencode
claim "and runs there, in the version that it names" opencode_runs
tools=$(deploy/local/hyperkube.sh --tools-for arm64 2>/dev/null) || true
claim "kubectl runs on ARM" kubectl_runs
claim "helm runs on ARM" helm_runs
