#!/usr/bin/env bash
# dependencies.sh restore|save TARGET_DIR   Keeps the compiled dependencies of the release build in the cache, so that a second clone on the
# machine compiles klamm alone. `restore` copies them into a clone that has no release build yet; `save` puts them there after one.
#
# Nothing depends on it: cargo checks by its own fingerprints what it finds, and compiles anew what does not fit.
set -euo pipefail
cd "$(dirname "$0")/.."

action="$1"
release="$2/release"
cache="${KLAMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/klamm}"
# No more than decides what most of them are compiled to.
key="$({ rustc -vV; cat Cargo.lock .cargo/*.toml; awk '/^\[/ { on = /^\[profile/ } on' Cargo.toml; } | cksum | cut -d ' ' -f 1)"
kept="$cache/dependencies-$key"
parts=".fingerprint build deps"

work=""
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

case "$action" in
  restore)
    if [ -d "$kept" ] && [ ! -e "$release" ]; then
      mkdir -p "$2"
      work="$(mktemp -d "$2/restoring.XXXXXX")"
      cp -a "$kept"/. "$work"
      chmod 755 "$work"
      mv "$work" "$release"
      echo "The dependencies are compiled already: $kept"
    fi
    ;;
  save)
    if [ ! -d "$kept" ]; then
      mkdir -p "$cache"
      work="$(mktemp -d "$cache/dependencies.saving.XXXXXX")"
      for part in $parts; do
        cp -a "$release/$part" "$work/$part"
      done
      # What belongs to this clone's own packages stays here.
      for package in klamm protocol-tests protocol_tests integration bench; do
        rm -rf "$work"/*/"$package"-* "$work"/*/lib"$package"-* "$work"/.fingerprint/"$package"-*
      done
      # Those of an earlier version are of no use any more.
      rm -rf "$cache"/dependencies-*
      chmod 755 "$work"
      [ -d "$kept" ] || mv "$work" "$kept"
    fi
    ;;
  *) echo "usage: dependencies.sh restore|save TARGET_DIR" >&2; exit 2 ;;
esac
