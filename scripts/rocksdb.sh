#!/usr/bin/env bash
# rocksdb.sh   Compiles the RocksDB source that the crate librocksdb-sys carries into a cache outside the clone, once per crate version,
# set of flags and compiler, and tells cargo where it is (.cargo/rocksdb.toml, which .cargo/config.toml includes when it exists).
#
# Why: the crate compiles 345 files one by one, and each of them parses the same C++ headers, which is most of the work: about 2,500 CPU
# seconds. A few large units that #include those files parse the headers a few times only: about 330.
#
# KLAMM_CACHE     where the cache is (default: $XDG_CACHE_HOME/klamm or ~/.cache/klamm)
# ROCKSDB_LIB_DIR a directory that already holds a matching librocksdb.a: it is checked and used, and nothing is built
# JOBS            compilers at once (default: one per core, as far as the memory allows 2 GiB for each)
# UNITS           number of units (default 8): fewer cost less time and more memory
# CXX             the compiler (default: c++)
set -euo pipefail
cd "$(dirname "$0")/.."

CXX="${CXX:-c++}"
UNITS="${UNITS:-8}"
CACHE="${KLAMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/klamm}"

fail() { echo "rocksdb.sh: $*" >&2; exit 1; }

# The library must have been compiled for the CRC32C instructions: RocksDB decides at compile time, and its table-driven fallback costs
# more than everything else that it does. Each function below exists only in such a build.
check_hardware_crc() { # DIRECTORY
  local symbol
  case "$(uname -m)" in
    x86_64) symbol=crc32c_3way ;;
    aarch64 | arm64) symbol=crc32c_arm64 ;;
    *) return 0 ;;
  esac
  # No `grep -q`: it would close the pipe early, and pipefail would take nm's SIGPIPE for an error.
  nm "$1/librocksdb.a" 2>/dev/null | grep " [Tt] .*$symbol" >/dev/null ||
    fail "$1/librocksdb.a was compiled without the CRC32C instructions of this processor (no $symbol in it), which makes every write several times dearer."
}

# What cargo reads. Written only when it changes.
point_cargo_at() { # DIRECTORY
  local file=.cargo/rocksdb.toml text
  text="# Written by scripts/rocksdb.sh: plain cargo links the same RocksDB as make. Without this file cargo compiles its own (20 minutes).
[env]
ROCKSDB_LIB_DIR = \"$1\"
ROCKSDB_STATIC = \"1\""
  if [ "$(cat "$file" 2>/dev/null)" != "$text" ]; then
    printf '%s\n' "$text" >"$file.$$"
    mv -f "$file.$$" "$file"
  fi
}

if [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
  [ -f "$ROCKSDB_LIB_DIR/librocksdb.a" ] || fail "ROCKSDB_LIB_DIR is $ROCKSDB_LIB_DIR, but there is no librocksdb.a in it."
  check_hardware_crc "$ROCKSDB_LIB_DIR"
  exit 0
fi

VERSION="$(awk '$1 == "name" { name = $3 } $1 == "version" && name == "\"librocksdb-sys\"" { gsub(/"/, "", $3); print $3; exit }' Cargo.lock)"
[ -n "$VERSION" ] || fail "Cargo.lock names no librocksdb-sys."

# The defines are those of the crate's own build.rs.
FLAGS="-std=c++20 -O2 -fPIC -ffunction-sections -fdata-sections -w -include cstdint"
FLAGS="$FLAGS -DNDEBUG -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX"
case "$(uname -s)" in
  Linux)
    FLAGS="$FLAGS -DOS_LINUX -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT"
    FLAGS="$FLAGS -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT"
    ;;
  Darwin) FLAGS="$FLAGS -DOS_MACOSX" ;;
  *) fail "$(uname -s) is not supported: klamm builds on Linux and, untested, on macOS." ;;
esac
case "$(uname -m)" in
  x86_64)
    FLAGS="$FLAGS -msse4.2 -mpclmul"
    if [ -r /proc/cpuinfo ] && ! grep -qw sse4_2 /proc/cpuinfo; then
      fail "this processor has no SSE4.2 (Intel since 2008, AMD since 2011), which klamm needs."
    fi
    ;;
  aarch64) FLAGS="$FLAGS -march=armv8-a+crc+crypto" ;;
esac

COMPILER="$("$CXX" --version 2>/dev/null | head -n 1)" || fail "there is no C++ compiler ($CXX): run 'make setup'."
hash_of_input() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
KEY="$({ echo "$COMPILER $FLAGS"; cat scripts/rocksdb.sh; } | hash_of_input | cut -c 1-16)"
OUT="$CACHE/rocksdb-$VERSION-$KEY"

if [ -f "$OUT/librocksdb.a" ]; then
  point_cargo_at "$OUT"
  exit 0
fi

# One build at a time: a second make waits here and then finds the first one's result. Where there is no flock (macOS) both build, each
# in its own directory, and the last rename wins.
mkdir -p "$CACHE"
if command -v flock >/dev/null; then
  exec 9>"$CACHE/rocksdb.lock"
  flock -n 9 || { echo "rocksdb.sh: another build of RocksDB is under way; waiting for it."; flock 9; }
  if [ -f "$OUT/librocksdb.a" ]; then
    point_cargo_at "$OUT"
    exit 0
  fi
  rm -rf "$CACHE"/rocksdb.building.*
fi

cargo fetch --locked --quiet
SOURCE="$(cargo metadata --format-version 1 --locked --offline | tr '"' '\n' | grep "/librocksdb-sys-[^/]*/Cargo.toml$" | head -n 1)"
SOURCE="${SOURCE%/Cargo.toml}"
[ -d "$SOURCE/rocksdb/include" ] || fail "cargo has fetched librocksdb-sys $VERSION, but its source is not where cargo says ('$SOURCE')."

BUILD="$(mktemp -d "$CACHE/rocksdb.building.XXXXXX")"
trap 'rm -rf "$BUILD"' EXIT
trap 'exit 130' INT TERM

# The units: the crate's list of files in its own order, cut into runs of about the same number of bytes.
grep -v '^[[:space:]]*$' "$SOURCE/rocksdb_lib_sources.txt" | tr -d "[:blank:]\r" | grep -vx util/build_version.cc >"$BUILD/sources"
while read -r file; do
  echo "$(wc -c <"$SOURCE/rocksdb/$file") $file"
done <"$BUILD/sources" >"$BUILD/sizes"
awk -v units="$UNITS" -v build="$BUILD" '
  { size[NR] = $1; file[NR] = $2; total += $1 }
  END {
    for (i = 1; i <= NR; i++) {
      printf "#include \"%s\"\n", file[i] >sprintf("%s/unit%02d.cc", build, int(done * units / total))
      done += size[i]
    }
  }' "$BUILD/sizes"
cp "$SOURCE/build_version.cc" "$BUILD/version.cc"

# Compiles one unit. Files that were never meant to be one translation unit may clash (two `static` helpers of one name, say, after an
# upgrade), or the memory may not suffice: then each half is tried by itself, down to single files.
compile() { # UNIT.cc
  local unit="${1%.cc}" lines
  # shellcheck disable=SC2086 # the flags are words
  if "$CXX" $FLAGS -I"$SOURCE/rocksdb/include" -I"$SOURCE/rocksdb" -I"$SOURCE" -c "$1" -o "$unit.o" 2>"$unit.log"; then
    return 0
  fi
  lines="$(wc -l <"$1")"
  if [ "$lines" -le 1 ] || [ "$1" = version.cc ]; then
    echo "rocksdb.sh: this does not compile: $(cat "$1")" >&2
    cat "$unit.log" >&2
    return 1
  fi
  echo "rocksdb.sh: $lines files do not compile as one unit; trying the halves. $(grep -m 1 error "$unit.log")" >&2
  head -n "$((lines / 2))" "$1" >"${unit}a.cc"
  tail -n "+$((lines / 2 + 1))" "$1" >"${unit}b.cc"
  compile "${unit}a.cc" && compile "${unit}b.cc"
}
export -f compile
export CXX FLAGS SOURCE

JOBS="${JOBS:-$(getconf _NPROCESSORS_ONLN)}"
if [ -r /proc/meminfo ]; then
  most="$(awk '$1 == "MemAvailable:" { print int($2 / 2097152) }' /proc/meminfo)"
  [ "$JOBS" -le "$most" ] || JOBS="$most"
  [ "$JOBS" -ge 1 ] || JOBS=1
fi

echo "Compiling RocksDB $VERSION into $OUT: once for this machine, $JOBS compilers at a time, about 4 minutes with 2."
SECONDS=0
cd "$BUILD"
# Exit code 255 makes xargs stop.
ls unit*.cc version.cc | xargs -P "$JOBS" -n 1 bash -c 'compile "$1" || exit 255' compile ||
  fail "RocksDB does not compile with $COMPILER; see above."
ar crs librocksdb.a ./*.o
find . -type f ! -name librocksdb.a -delete
chmod 755 .
cd - >/dev/null

check_hardware_crc "$BUILD"
rm -rf "$OUT"
mv "$BUILD" "$OUT"
point_cargo_at "$OUT"
echo "RocksDB compiled in $SECONDS s."
