#!/bin/sh
# Installs or names what building Crosslatch needs and the machine lacks.
#
#   scripts/setup.sh            to build and run: Rust, a C++ compiler, libclang (for RocksDB)
#   scripts/setup.sh tests      also Prometheus, which the dashboards are tested with, strace, which makes disks
#                               fail, Python's venv, into which a test fetches schemathesis, and Chromium with
#                               Node and npm, in which a test looks at the console and the dashboards are compiled
#   scripts/setup.sh peers      also PostgreSQL, which the benchmarks compare with
#
# As root on Debian or Ubuntu it installs with apt. Otherwise it fetches libclang with pip, says
# what only an administrator can install, and says which tests are skipped without it. It may run
# any number of times, and takes no time when nothing is missing.
#
# What cargo must know goes to <target directory>/setup.env, which the Makefile reads before each
# call. For cargo by hand: `. target/setup.env`.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
env_file=$target/setup.env

# The version that is known to go with RocksDB's bindings; about 25 MB.
pip_libclang='libclang==18.1.1'

say() { printf 'setup: %s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

# To be seen among a page of compiler output.
warn() {
    say '----------------------------------------------------------------------'
    for line in "$@"; do say "$line"; done
    say '----------------------------------------------------------------------'
}

has() { command -v "$1" >/dev/null 2>&1; }

# True if one of the paths given exists; an unmatched pattern arrives as itself and does not.
any_exists() {
    for path in "$@"; do
        [ -e "$path" ] && return 0
    done
    return 1
}

can_apt() { [ "$(id -u)" = 0 ] && has apt-get; }

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

# Installs packages; refreshes the package lists only if they turn out to be missing or stale.
apt_install() {
    say "installing with apt: $*"
    hold_services
    apt_get install "$@" 2>/dev/null || { apt_get update && apt_get install "$@"; }
}

# Debian starts a server as soon as it is installed. What is wanted here are its tools, so service
# starts are refused for as long as this script runs.
hold_services() {
    policy=/usr/sbin/policy-rc.d
    [ ! -e "$policy" ] || return 0
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

need_compiler() {
    if has cc && has c++ && has make; then return; fi
    if can_apt && apt_install g++ make; then return; fi
    fail 'a C and C++ compiler and make are missing; as root: apt-get install g++ make'
}

need_rust() {
    rust_bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin
    if ! has cargo && [ -x "$rust_bin/cargo" ]; then
        PATH=$rust_bin:$PATH # installed, but this shell is older than the installation
        remember "export PATH='$rust_bin':\"\$PATH\""
    fi
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if ! has cargo; then
        fail "Rust is missing; install $wanted or later as https://rustup.rs says:" \
            "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    fi
    found=$(rustc --version | cut -d ' ' -f 2)
    older=$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)
    [ "$older" = "$wanted" ] || fail "Rust $found is too old, $wanted is needed; rustup update"
}

# bindgen, which makes RocksDB's bindings, loads libclang and reads the headers that belong to it.
need_libclang() {
    # Once chosen it stays: another LIBCLANG_PATH would have cargo compile RocksDB anew.
    if [ -e "$target/libclang/clang/native" ] && use_pip_libclang; then return; fi
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    if system_has_libclang; then return; fi
    if can_apt && apt_install libclang-dev; then return; fi
    if use_pip_libclang; then return; fi
    fail "libclang is missing; as root: apt-get install libclang-dev;" \
        "or install Python's pip, with which this script fetches it"
}

system_has_libclang() {
    any_exists /usr/lib/llvm-*/lib/libclang[.-]*so* /usr/lib/*-linux-gnu/libclang[.-]*so* \
        /usr/lib/libclang[.-]*so* /usr/lib64/libclang[.-]*so* /usr/local/lib/libclang[.-]*so* &&
        any_exists /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h \
            /usr/local/lib/clang/*/include/stddef.h
}

# pip's libclang has no headers of its own, so it is lent the compiler's.
use_pip_libclang() {
    native=$target/libclang/clang/native
    if ! any_exists "$native"/libclang.*; then
        for pip in 'python3 -m pip' pip3 pip ''; do
            [ -n "$pip" ] || return 1
            if $pip --version >/dev/null 2>&1; then break; fi
        done
        say "fetching libclang with pip into $target/libclang"
        # Judged by what it leaves, as pip under pyenv fails after it has done the work.
        $pip install --quiet --target "$target/libclang" "$pip_libclang" >&2 || true
        any_exists "$native"/libclang.* || return 1
    fi
    remember "export LIBCLANG_PATH='$native'"
    remember "export BINDGEN_EXTRA_CLANG_ARGS='-I$(cc -print-file-name=include)'"
}

# Prometheus scrapes a server in the tests; promtool, which Debian ships with it, judges metrics and rules.
want_prometheus() {
    if has promtool && has prometheus; then return; fi
    if can_apt && apt_install prometheus && has promtool; then return; fi
    warn 'Prometheus is missing: the tests that need it WILL BE SKIPPED (with CI=true they fail).' \
        'To run them, as root: apt-get install prometheus'
}

# strace makes system calls fail in the tests of what a failing disk does.
want_strace() {
    if has strace; then return; fi
    if can_apt && apt_install strace && has strace; then return; fi
    warn 'strace is missing: the tests of failing disks WILL BE SKIPPED (with CI=true they fail).' \
        'To run them, as root: apt-get install strace'
}

# schemathesis tries the HTTP interface from its OpenAPI document; the test fetches it with pip.
want_venv() {
    if python3 -c 'import ensurepip, venv' 2>/dev/null; then return; fi
    if can_apt && apt_install python3-venv; then return; fi
    warn "Python's venv is missing: generated requests WILL BE SKIPPED (with CI=true they fail)." \
        'To run them, as root: apt-get install python3-venv'
}

# A headless Chromium shows the console; what drives it is fetched with npm by the test. Node may be there
# from elsewhere, with npm in it: then it is not asked of apt.
want_browser() {
    if has chromium && has node && has npm; then return; fi
    packages=
    has chromium || packages='chromium'
    has node || packages="$packages nodejs"
    has npm || packages="$packages npm"
    # shellcheck disable=SC2086
    if can_apt && apt_install $packages; then return; fi
    warn 'Chromium, Node or npm is missing: the console WILL NOT BE LOOKED AT, nor the dashboards compiled (with CI=true that fails).' \
        'To have it done, as root: apt-get install chromium nodejs npm'
}

want_postgresql() {
    if any_exists /usr/lib/postgresql/*/bin/pgbench; then return; fi
    if has pgbench && has initdb; then return; fi
    if can_apt && apt_install postgresql postgresql-contrib; then return; fi
    warn 'PostgreSQL is missing: the comparison LEAVES IT OUT.' \
        'To have it in, as root: apt-get install postgresql postgresql-contrib'
}

# Notes one line for the environment file.
remember() {
    remembered="$remembered$1
"
}

write_env_file() {
    mkdir -p "$target"
    {
        echo '# Written by scripts/setup.sh. For cargo by hand, read it into your shell first.'
        printf '%s' "$remembered"
    } >"$env_file.new.$$"
    mv "$env_file.new.$$" "$env_file"
}

for wish in "$@"; do
    case $wish in
        tests | peers) ;;
        *) fail "knows no '$wish'; say tests, peers, both or nothing" ;;
    esac
done

remembered=
need_compiler
need_rust
need_libclang
write_env_file
for wish in "$@"; do
    case $wish in
        tests) want_prometheus; want_strace; want_venv; want_browser ;;
        peers) want_postgresql ;;
    esac
done
