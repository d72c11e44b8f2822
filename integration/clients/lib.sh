# Sourced by every client's `setup` and `run` (bash).
# Sets: HERE (the client's folder), CLIENT (its name), CACHE (where it keeps what it installs).
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)"
CLIENT="$(basename "$HERE")"

# What is installed belongs to these exact files: another lock file or program is another folder.
content_key() { (cd "$HERE" && cat "$@" "$HERE/setup" | cksum | cut -d' ' -f1); }
use_cache() { CACHE="${KLAMM_CACHE:-$HOME/.cache/klamm}/clients/$CLIENT-$(content_key "$@")"; }

say() { echo "$CLIENT: $*" >&2; }
die() { say "$*"; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }

# Installs a Debian package where apt-get may be used, otherwise says what is missing.
apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "please install the Debian package $1"
  { apt-get install -y -q "$1" || { apt-get update -q && apt-get install -y -q "$1"; }; } >&2 </dev/null
}

# once FUNCTION: runs it unless an earlier run on this machine has finished; two at a time wait for each other.
once() {
  [ -f "$CACHE/.complete" ] && return 0
  mkdir -p "$CACHE"
  if command -v flock >/dev/null; then exec 9>"$CACHE/.lock"; flock 9; [ -f "$CACHE/.complete" ] && return 0; fi
  "$1" >&2
  touch "$CACHE/.complete"
}

# scenarios NAME…: answers `run --list` and refuses names that the client does not know.
scenarios() {
  if [ "${ARGS[0]:-}" = --list ]; then printf '%s\n' "$@"; exit 0; fi
  [ "${#ARGS[@]}" = 2 ] || { echo "usage: run --list | run SCENARIO HOST:PORT" >&2; exit 2; }
  local name; for name in "$@"; do [ "$name" = "${ARGS[0]}" ] && return 0; done
  die "no scenario ${ARGS[0]}; there are: $*"
}
ALL_SCENARIOS="produce-consume idempotent group-rebalance commit-resume offsets-by-time admin large-message unknown-topic broker-restart"
installed() { [ -f "$CACHE/.complete" ] || die "not installed: run integration/clients/$CLIENT/setup"; }
ARGS=("$@")

# Installs the pinned requirements.txt of a Python client into a virtual environment in the cache.
python_environment() {
  need python3 "please install Python 3.9 or newer"
  python3 -m venv "$CACHE/venv" 2>/dev/null || { apt_install python3-venv; python3 -m venv "$CACHE/venv"; }
  "$CACHE/venv/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: -r "$HERE/requirements.txt"
}

# The go command: the system's, which fetches a newer one by itself where go.mod asks for it; before Go 1.21 (Debian 12) it does not, and
# then it is fetched here, as the Go module that it is published as (modules carry no executable bits).
go_command() {
  case "$(go env GOVERSION)" in go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.20*) ;; *) echo go; return ;; esac
  local toolchain
  toolchain="golang.org/toolchain@v0.0.1-go1.26.8.$(go env GOOS)-$(go env GOARCH)"
  toolchain="$(cd "$CACHE" && GOFLAGS=-mod=mod go mod download -json "$toolchain" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')"
  [ -d "$toolchain" ] || die "please install Go 1.26 or newer (https://go.dev/dl)"
  find "$toolchain/bin" "$toolchain/pkg/tool" -type f -exec chmod +x {} +
  echo "$toolchain/bin/go"
}
# Builds the Go program of a client into the cache.
go_program() {
  need go "please install Go 1.26 or newer (https://go.dev/dl)"
  local go
  go="$(go_command)"
  (cd "$HERE" && "$go" build -mod=readonly -o "$CACHE/client" .)
}

# Installs the locked npm packages of a client into the cache, with no install scripts.
npm_packages() {
  need npm "please install Node.js 20 or newer with npm"
  cp "$HERE/package.json" "$HERE/package-lock.json" "$CACHE/"
  (cd "$CACHE" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error)
}
# Node.js itself may be one of the packages, where the client needs a newer one than the system has.
run_node() {
  local node; node="$(ls -d "$CACHE"/node_modules/node-*/bin/node 2>/dev/null | head -1 || true)"
  NODE_PATH="$CACHE/node_modules" exec "${node:-node}" --no-warnings "$HERE/client.js" "${ARGS[@]}"
}
