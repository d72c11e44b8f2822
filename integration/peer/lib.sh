# Sourced by the programs of this folder: Apache Kafka's jars, in a cache outside the clone.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
CACHE="${KLAMM_CACHE:-$HOME/.cache/klamm}/peer-$(cat "$HERE/pom.xml" "$HERE/Driver.java" | cksum | cut -d' ' -f1)"
need() { command -v "$1" >/dev/null || { echo "peer: $1 is missing: please install a JDK of version 17 or newer, and Maven" >&2; exit 1; }; }
peer_java() { exec java ${KAFKA_HEAP_OPTS:--Xmx512M} ${PEER_JVM:--XX:+UseSerialGC -XX:TieredStopAtLevel=1} -Xshare:auto -Dlog4j2.configurationFile="$HERE/log4j2.xml" "$@"; }
