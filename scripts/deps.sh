#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks, then builds RocksDB once.
#
# `scripts/deps.sh` for the build, `scripts/deps.sh tests` for the tests too. Where everything is
# there already it asks nobody and takes a moment. Packages are Debian's; on another system install
# what it names, and run it again.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # need PACKAGE TEST...: the package is missing if the test fails
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
has_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib/*/libclang*.so*' || [ -n "${LIBCLANG_PATH:-}" ]; }

need g++ command -v "${CXX:-g++}"
if [ "${1:-}" = tests ]; then
  need redis-tools command -v redis-cli
  need redis-server command -v redis-server
  need etcd-server command -v etcd
  need etcd-client command -v etcdctl
  need python3-redis /usr/bin/python3 -c 'import redis'
  need python3-venv python3 -c 'import ensurepip'
  need curl command -v curl
fi
need util-linux command -v setpriv
if ! has_libclang >/dev/null 2>&1; then
  missing+=(libclang)
fi

if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || {
    echo "deps.sh: this machine lacks ${missing[*]} and has no apt-get: install them and run this again" >&2
    exit 1
  }
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
      echo "deps.sh: this machine lacks ${missing[*]}: install them as root, or install sudo" >&2
      exit 1
    }
    as_root=(sudo)
  fi
  echo "installing: ${missing[*]}"
  # RUNLEVEL keeps freshly installed servers (redis, etcd) from being started: the tests start their own.
  apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >/dev/null; }
  # Lists may be old or absent; installing from good ones needs no update.
  updated=
  update() { [ -n "$updated" ] || apt update; updated=yes; }
  for package in "${missing[@]}"; do
    case $package in
      # bindgen needs the library; the versioned package is a tenth of the other's size.
      libclang) candidates=(libclang-14-dev libclang-dev) ;;
      *) candidates=("$package") ;;
    esac
    installed=
    for try in 1 2; do
      for candidate in "${candidates[@]}"; do
        if apt install --no-install-recommends -y "$candidate" 2>/dev/null; then installed=yes; break 2; fi
      done
      [ $try = 2 ] || update
    done
    [ -n "$installed" ] || { echo "deps.sh: apt-get cannot install ${candidates[*]}" >&2; exit 1; }
  done
fi

if [ "${1:-}" = tests ] && ! command -v moto_server >/dev/null && [ ! -x ~/.cache/godwit/moto/bin/moto_server ]; then
  echo "installing: moto, an S3 server for tests, into ~/.cache/godwit/moto"
  { python3 -m venv ~/.cache/godwit/moto &&
    ~/.cache/godwit/moto/bin/pip -q --disable-pip-version-check install 'moto[s3,server]'; } ||
    echo "deps.sh: moto cannot be installed; tests of buckets will say SKIPPED" >&2
fi

scripts/rocksdb.sh
