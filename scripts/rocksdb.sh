#!/usr/bin/env bash
# Builds RocksDB once for every profile, checkout and CI run on this machine, and tells cargo about it.
#
# The sources are those that the crate librocksdb-sys bundles (Cargo.lock pins them); they are
# compiled as a few unity units, which takes a quarter of the time of the crate's own build. The
# archive lies in the user's cache under a key of version, compiler and flags, and
# .cargo/config.toml (generated, not committed) points the crate at it. Without that file cargo
# falls back to the crate's own build: slower, same result.
set -euo pipefail
cd "$(dirname "$0")/.."

units=16
cxx=${CXX:-g++}
flags=(-O2 -std=c++20 -fPIC -DNDEBUG -include cstdint -w
  -DLZ4=1 -DZSTD=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT)
case $(uname -m) in
  x86_64) flags+=(-msse2 -msse4.1 -msse4.2 -mpclmul) ;;
  aarch64) flags+=(-march=armv8-a+crc+aes) ;;
esac

# Where cargo unpacked a crate of the lock file: the manifest's directory.
crate_dir() {
  cargo metadata --format-version 1 --locked 2>/dev/null |
    tr ',' '\n' | sed -n 's|.*"manifest_path":"\(.*/'"$1"'-[0-9][^/]*\)/Cargo.toml".*|\1|p' | head -n 1
}

cargo fetch --locked --quiet
sys=$(crate_dir librocksdb-sys)
zstd=$(crate_dir zstd-sys)
lz4=$(crate_dir lz4-sys)
for dir in "$sys" "$zstd" "$lz4"; do
  [ -d "$dir" ] || { echo "rocksdb.sh: cargo did not unpack the sources; run 'cargo fetch' and look at its error" >&2; exit 1; }
done
flags+=(-I"$sys/rocksdb/include" -I"$sys/rocksdb" -I"$sys" -I"$zstd/zstd/lib" -I"$lz4/liblz4/lib")

# The key leaves out where the registry lies: two users, or a moved home, get the same build.
key=$( { basename "$sys"; basename "$zstd"; basename "$lz4"; "$cxx" --version | head -n 1
         printf '%s\n' "$units" "${flags[@]}" | grep -v '^-I'; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/godwit
lib=$cache/rocksdb-$key

if [ ! -f "$lib/librocksdb.a" ]; then
  echo "building RocksDB once ($(basename "$sys"), $(nproc) cores): about four minutes on two idle cores"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # Round robin rather than in order: neighbours share names in anonymous namespaces.
  grep -v '^\s*util/build_version.cc' "$sys/rocksdb_lib_sources.txt" | sed 's/^\s*//;/^$/d' |
    awk -v n="$units" -v w="$work" -v s="$sys/rocksdb" '{ printf "#include \"%s/%s\"\n", s, $1 >> sprintf("%s/unit%02d.cc", w, NR % n) }'
  echo "#include \"$sys/build_version.cc\"" >"$work/version.cc"
  export work cxx
  compile() {
    local unit=$1 line n=0
    shift
    "$cxx" "$@" -c "$unit" -o "${unit%.cc}.o" 2>"${unit%.cc}.err" && return 0
    # Two files of this unit do not live together (a new version may bring that): one by one then.
    while read -r line; do
      n=$((n + 1))
      echo "$line" >"${unit%.cc}-$n.single"
      "$cxx" "$@" -x c++ -c "${unit%.cc}-$n.single" -o "${unit%.cc}-$n.o" || return 1
    done <"$unit"
  }
  export -f compile
  # shellcheck disable=SC2016
  find "$work" -name '*.cc' -print0 | sort -z |
    xargs -0 -P "$(nproc)" -I{} bash -c 'compile "$@"' _ {} "${flags[@]}"
  ar crs "$work/librocksdb.a" "$work"/*.o
  mkdir -p "$lib"
  mv "$work/librocksdb.a" "$lib/librocksdb.a.$$"
  mv "$lib/librocksdb.a.$$" "$lib/librocksdb.a"
fi

# bindgen needs the compiler's own headers where only libclang is installed.
include=$("$cxx" -print-file-name=include)
mkdir -p .cargo
cat >.cargo/config.toml.$$ <<TOML
# Written by scripts/rocksdb.sh; not committed. Delete it to let the crate build RocksDB itself.
[env]
ROCKSDB_LIB_DIR = "$lib"
ROCKSDB_STATIC = "1"
BINDGEN_EXTRA_CLANG_ARGS = "-I$include"
TOML
if cmp -s .cargo/config.toml.$$ .cargo/config.toml; then rm .cargo/config.toml.$$; else mv .cargo/config.toml.$$ .cargo/config.toml; fi
