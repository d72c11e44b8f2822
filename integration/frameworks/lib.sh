# Sourced by the `setup` and `run` of every framework's folder (bash).
# Sets: HERE (the framework's folder), FRAMEWORK (its name), JARS and CLASSES (where its jars and its compiled programs are kept),
# PYTHON (its virtual environment).
# What pom.xml names is brought from Maven Central, and src/*.java compiled against it; what requirements.txt names comes from PyPI.
# All are kept outside the clone; another pom.xml, requirements.txt or program is another folder.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)"
FRAMEWORK="$(basename "$HERE")"
checksum() { cat "$@" | cksum | cut -d' ' -f1; }
cache() { echo "${KLAMM_CACHE:-$HOME/.cache/klamm}/frameworks/$FRAMEWORK-$1"; }
if [ -f "$HERE/pom.xml" ]; then
  JARS="$(cache "jars-$(checksum "$HERE/pom.xml")")"
  CLASSES="$(cache "classes-$(checksum "$HERE/pom.xml" "$HERE"/src/*.java)")"
fi
[ ! -f "$HERE/requirements.txt" ] || PYTHON="$(cache "python-$(checksum "$HERE/requirements.txt")")"

die() { echo "$FRAMEWORK: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is missing: please install a JDK of version 17 or newer, and Maven"; }

# once FOLDER FUNCTION: fills the folder unless an earlier run on this machine has; two at a time wait for each other.
once() {
  [ -f "$1/.complete" ] && return 0
  mkdir -p "$1"
  (
    if command -v flock >/dev/null; then exec 9>"$1/.lock"; flock 9; [ -f "$1/.complete" ] && exit 0; fi
    "$2" >&2
    touch "$1/.complete"
  )
}
fetch_jars() { need mvn; mvn -B -q ${MAVEN_MORE:-} -f "$HERE/pom.xml" dependency:copy-dependencies -DoutputDirectory="$JARS"; }
compile() { need javac; javac -encoding UTF-8 --release 17 -Xlint:all,-serial,-processing,-classfile -Werror -proc:none -cp "$JARS/*" -d "$CLASSES" "$HERE"/src/*.java; }
set_up_java() { once "$JARS" fetch_jars; once "$CLASSES" compile; }
fetch_packages() {
  python3 -m venv "$PYTHON"
  "$PYTHON/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: -r "$HERE/requirements.txt"
}
set_up_python() { once "$PYTHON" fetch_packages; }

# run_java CLASS ARGUMENT…: becomes the program, so that whoever kills this process kills it. What it logs goes to standard error,
# from the level that LOG_LEVEL names on. What it unpacks for itself goes to the working directory: who is killed leaves it behind.
run_java() {
  [ -f "$CLASSES/.complete" ] || die "not installed: run integration/frameworks/$FRAMEWORK/setup"
  exec java ${JAVA_HEAP:--Xmx256M} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Djava.io.tmpdir="$PWD" ${JAVA_MORE:-} \
    -Dpeer.log="${LOG_LEVEL:-error}" -Dlog4j2.configurationFile="$HERE/../../peer/log4j2.xml" -cp "$CLASSES:$JARS/*" "$@"
}

# For what is large to download: its `setup` does nothing for `make test`, whose scenarios leave it out.
only_when_long() { [ "${KLAMM_FRAMEWORKS:-}" = long ] || exit 0; }
