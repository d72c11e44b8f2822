#!/usr/bin/env bash
# setup-test.sh   Sees that everything is there that the integration tests run against klamm: kcat and Prometheus from Debian, the
# languages of the client folders, and then the clients and frameworks, each by the `setup` script of its folder, in pinned versions.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/apt.sh

missing=""
command -v kcat >/dev/null || missing="$missing kcat"
command -v javac >/dev/null || missing="$missing default-jdk-headless"
command -v mvn >/dev/null || missing="$missing maven"
command -v go >/dev/null || missing="$missing golang-go"
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
# What the clients are compiled with that wrap librdkafka.
command -v pkg-config >/dev/null || missing="$missing pkg-config"
[ -f /usr/include/zlib.h ] || missing="$missing zlib1g-dev"
[ -f /usr/include/zstd.h ] || missing="$missing libzstd-dev"
# shellcheck disable=SC2086 # words
[ -z "$missing" ] || install_packages $missing

# Prometheus is unpacked, not installed: the package would start a server on this machine.
if ! PATH="$KLAMM_CACHE/prometheus/usr/bin:$PATH" command -v prometheus >/dev/null; then
  command -v apt-get >/dev/null || fail "prometheus is missing: install it so that 'prometheus' and 'promtool' are on the PATH, then make again."
  echo "Fetching Debian's prometheus package into $KLAMM_CACHE."
  mkdir -p "$KLAMM_CACHE"
  work="$(mktemp -d "$KLAMM_CACHE/prometheus.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  if ! (cd "$work" && apt-get download -qq prometheus) 2>/dev/null; then
    prefix="$(apt_prefix)" || fail "apt knows no package prometheus: run 'sudo apt-get update', then make again."
    $prefix apt-get update -qq || true
    (cd "$work" && apt-get download -qq prometheus) || fail "apt could not fetch the package prometheus; see above."
  fi
  dpkg-deb --extract "$work"/prometheus_*.deb "$work/root"
  rm -rf "$KLAMM_CACHE/prometheus"
  mv "$work/root" "$KLAMM_CACHE/prometheus"
fi

# Apache Kafka with its console tools, from Maven Central.
integration/peer/fetch </dev/null || fail "integration/peer/fetch failed; see above."

# What runs on top.
for setup in integration/frameworks/*/setup; do
  "$setup" </dev/null || fail "$setup failed; see above."
done

# A setup that ends with 77 says that this machine cannot have its client (a language that is too old, say). The tests of that client are
# then left out; where CI is set this is an error, because there nobody would notice.
for setup in integration/clients/*/setup; do
  [ -e "$setup" ] || continue
  code=0
  "$setup" </dev/null || code=$?
  case "$code" in
    0) ;;
    77)
      [ -z "${CI:-}" ] || fail "$setup: this machine cannot have the client; see above."
      echo "Not tested on this machine: $(basename "$(dirname "$setup")"); see above." >&2
      ;;
    *) fail "$setup failed; see above." ;;
  esac
done
