#!/usr/bin/env bash
# setup.sh   Sees that everything is there that the build needs: the pinned Rust toolchain, a C++20 compiler, and libclang (for the
# bindings to RocksDB). What is missing is installed with apt where that is allowed; otherwise one sentence says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/apt.sh

cxx_is_there() {
  echo '#include <concepts>' | "${CXX:-c++}" -std=c++20 -x c++ -fsyntax-only - 2>/dev/null && command -v ar >/dev/null
}

# The library where bindgen looks for it, and clang's own headers beside it (the package libclang1 brings the library alone).
libclang_is_there() {
  local library directory
  for library in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"/libclang*.so* "$LIBCLANG_PATH"} /usr/lib/llvm-*/lib/libclang*.so* /usr/lib*/libclang*.so* \
    /usr/lib/*-linux-gnu/libclang*.so* /usr/local/lib/libclang*.so* /usr/lib/llvm*/lib/libclang*.so* \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib /Applications/Xcode.app/Contents/Developer/Toolchains/*/usr/lib/libclang.dylib; do
    [ -e "$library" ] || continue
    directory="$(dirname "$(readlink -f "$library" 2>/dev/null || echo "$library")")"
    for header in "$directory"/clang/*/include/stddef.h /usr/lib*/clang/*/include/stddef.h; do
      [ ! -e "$header" ] || return 0
    done
  done
  return 1
}

case "$(uname -s)" in
  Linux)
    missing=""
    cxx_is_there || missing="$missing g++"
    libclang_is_there || missing="$missing libclang-dev"
    if [ -n "$missing" ]; then
      # shellcheck disable=SC2086 # words
      install_packages $missing
      cxx_is_there || fail "the C++ compiler '${CXX:-c++}' does not know C++20: install GCC 11 or later, or clang 14 or later, and set CXX to it."
      libclang_is_there || fail "libclang was not found: install it with its headers and set LIBCLANG_PATH to the directory of libclang.so."
    fi
    ;;
  Darwin)
    if ! cxx_is_there || ! libclang_is_there; then
      fail "klamm needs Apple's command line tools (clang, libclang): run 'xcode-select --install', then make again. (klamm is untested on macOS.)"
    fi
    ;;
  *) fail "klamm builds on Linux and, untested, on macOS; $(uname -s) is not supported (on Windows use WSL)." ;;
esac

command -v cargo >/dev/null ||
  fail "klamm needs Rust: run 'curl https://sh.rustup.rs -sSf | sh' (see https://rustup.rs), open a new shell, then make again."
toolchain="$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)"
if ! command -v rustup >/dev/null; then
  version="$(cargo --version | cut -d ' ' -f 2)"
  [ "$(printf '%s\n' "$toolchain" "$version" | sort -V | head -n 1)" = "$toolchain" ] ||
    fail "klamm needs Rust $toolchain or later, and cargo here is $version: install rustup (https://rustup.rs), which fetches the right one, then make again."
elif ! cargo --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
  echo "Installing Rust $toolchain with rustup."
  rustup toolchain install "$toolchain" --profile minimal --component rustfmt --component clippy
fi
