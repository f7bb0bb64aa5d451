# What Tidings needs from Debian. Sourced by run and test; bash, under `set -euo pipefail`.
#
#   need_packages run       a Python of at least 3.11 that can make virtual environments: its path is in $python
#   need_packages test      that, PostgreSQL, Redis, Chromium, curl and openssl (installed only: none of them is started)
#
# Only what is missing is installed, and only root installs. Anybody else is told the one line to run.

say() { printf '%s\n' "tidings: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

usable_python() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        if usable_python "$candidate"; then
            python=$(command -v "$candidate")
            return 0
        fi
    done
    return 1
}

need_packages() {
    local missing=()
    find_python || missing+=(python3 python3-venv)
    if [[ $1 == test ]]; then
        compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || has_program initdb || missing+=(postgresql)
        has_program redis-server || missing+=(redis-server)
        has_program chromium || missing+=(chromium)
        has_program curl || missing+=(curl)
        has_program openssl || missing+=(openssl)
    fi
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
    find_python || fail "Python 3.11 or newer is needed; what is installed is older ($(python3 --version 2>&1 || true))"
}

# An ordinary user's PATH has no sbin on Debian.
has_program() { (PATH="$PATH:/usr/sbin:/usr/bin" && command -v "$1" >/dev/null); }

install_packages() {
    local line="apt-get install -y --no-install-recommends $*"
    command -v apt-get >/dev/null || fail "please install these (Debian's names): $*"
    if ((EUID != 0)); then
        say "something is missing; please run this, and then the command again:"
        fail "  sudo sh -c 'apt-get update && $line'"
    fi
    say "installing from Debian: $*"
    local log
    log=$(mktemp)
    # A subshell, so that its trap ends with it, however it ends.
    if ! (quiet_install "$@") >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        fail "could not install from Debian: $* (the whole log: $log)"
    fi
    rm -f "$log"
}

quiet_install() {
    export DEBIAN_FRONTEND=noninteractive
    keep_servers_asleep
    trap wake_servers EXIT
    trap 'exit 130' INT TERM HUP
    local wait=(-o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
    # A stranger's broken repository must not stop us: if ours is broken too, the next line says so.
    apt-get "${wait[@]}" update || true
    apt-get "${wait[@]}" install -y --no-install-recommends "$@" </dev/null
}

# Debian starts the servers it installs, on their standard ports, and makes a database cluster. The tests start their
# own and want neither. Both notes below are taken away again; if we are killed first, the policy asks whether we live
# and then forbids nothing. A machine that has a policy of its own keeps it.
policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/tidings-setup.conf

keep_servers_asleep() {
    if [[ ! -e $policy ]] || grep -qs 'tidings set-up' "$policy"; then
        printf '#!/bin/sh\n# tidings set-up: start no server while it installs\n[ -d /proc/%s ] || exit 0\nexit 101\n' "$BASHPID" >"$policy"
        chmod 755 "$policy"
    fi
    mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' >"$no_cluster"
}

wake_servers() {
    if grep -qs 'tidings set-up' "$policy"; then rm -f "$policy"; fi
    rm -f "$no_cluster"
    rmdir --ignore-fail-on-non-empty "${no_cluster%/*}" "${no_cluster%/*/*}" 2>/dev/null || true
}
