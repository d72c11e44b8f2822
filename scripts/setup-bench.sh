#!/usr/bin/env bash
# setup-bench.sh   Sees that Apache Kafka is there to be compared with: a JDK and Maven from Debian, its jars from Maven Central.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/apt.sh

missing=""
command -v javac >/dev/null || missing="$missing default-jdk-headless"
command -v mvn >/dev/null || missing="$missing maven"
# shellcheck disable=SC2086 # words
[ -z "$missing" ] || install_packages $missing
integration/peer/fetch </dev/null || fail "integration/peer/fetch failed; see above."
