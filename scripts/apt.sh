# apt.sh   Sourced: installing Debian packages, or saying in one sentence what to install.

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# The command that may install packages here (nothing for root, `sudo -n` where sudo asks for no password); fails where none may.
apt_prefix() {
  command -v apt-get >/dev/null || return 1
  if [ "$(id -u)" -eq 0 ]; then
    echo "env"
  elif sudo -n true 2>/dev/null; then
    echo "sudo -n"
  else
    return 1
  fi
}

install_packages() { # DEBIAN PACKAGE...
  local prefix
  if prefix="$(apt_prefix)"; then
    echo "Installing with apt: $*"
    # One repository that cannot be reached is no reason to give up: the installation decides.
    $prefix apt-get update -qq || echo "apt-get update reported an error; going on." >&2
    $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null ||
      fail "apt could not install: $*. See above; install them yourself, then make again."
  elif command -v apt-get >/dev/null; then
    fail "some packages are missing: run 'sudo apt-get install $*', then make again."
  else
    fail "what Debian calls '$*' is missing: install it with this system's package manager (Fedora: g++ is gcc-c++, libclang-dev is clang-devel; Arch: gcc, clang), then make again."
  fi
}
