# The virtual environment, made from a lock file. Sourced by run, test and .ci/run after debian.sh; wants $root.
#
#   need_venv run           .venv holds everything in requirements.lock
#   need_venv test          .venv holds everything in requirements-test.lock, which includes the former
#
# A stamp in .venv says what it was made from. It is written last, so whatever is half done is done again.

lock_file() { if [[ $1 == test ]]; then echo requirements-test.lock; else echo requirements.lock; fi; }

# The path is in it because a virtual environment that has been moved or copied runs the old one's programs.
stamp_for() {
    echo "$root $(readlink -f "$root/.venv/bin/python")"
    (cd "$root" && sha256sum "$(lock_file "$1")" pyproject.toml)
}

venv_is_good() {
    [[ -x $root/.venv/bin/python && -f $root/.venv/.made-for-$1 && ! -e $root/.venv/.unfinished ]] &&
        [[ $(<"$root/.venv/.made-for-$1") == "$(stamp_for "$1")" ]]
}

need_venv() {
    venv_is_good "$1" && return
    need_packages "$1"
    # The lock is on the folder itself, so that no file is needed for it; the shell closes it below, or by dying.
    exec {setup_lock}<"$root"
    if ! flock -n "$setup_lock"; then
        say "waiting for another set-up of this folder to finish"
        flock "$setup_lock"
    fi
    venv_is_good "$1" || make_venv "$1"
    exec {setup_lock}<&-
}

make_venv() {
    local venv=$root/.venv lock started=$SECONDS
    lock=$root/$(lock_file "$1")
    say "setting up .venv from ${lock##*/} (once; takes about half a minute)"
    venv_can_be_kept || new_venv
    : >"$venv/.unfinished"
    rm -f "$venv"/.made-for-*
    # setuptools first, and by its hash: pip would otherwise fetch some version, unchecked, to build the two packages
    # that come as source.
    mkdir -p "$venv/.tmp"
    sed -n '/^setuptools==/,/[^\\]$/p' "$lock" >"$venv/.tmp/setuptools.lock"
    [[ -s $venv/.tmp/setuptools.lock ]] || fail "${lock##*/} does not name setuptools"
    pip_install --require-hashes -r "$venv/.tmp/setuptools.lock"
    pip_install --require-hashes --no-build-isolation --use-pep517 -r "$lock"
    pip_install --no-deps --no-build-isolation -e "$root"
    if [[ $1 == test ]]; then stamp_for run >"$venv/.made-for-run"; fi
    stamp_for "$1" >"$venv/.made-for-$1"
    rm -rf "$venv/.tmp" "$venv/.unfinished"
    say "ready after $((SECONDS - started)) s"
}

# One that somebody made by hand is added to; one that was cut short, has moved or has lost its Python is made anew.
venv_can_be_kept() {
    local venv=$root/.venv stamp
    [[ ! -e $venv/.unfinished ]] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    for stamp in "$venv"/.made-for-*; do
        [[ ! -e $stamp || $(head -n 1 "$stamp") == "$root $(readlink -f "$venv/bin/python")" ]] || return 1
    done
}

new_venv() {
    local venv=$root/.venv
    mkdir -p "$venv"
    : >"$venv/.unfinished"
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .unfinished -exec rm -rf {} +
    "$python" -m venv "$venv" || fail "$python could not make a virtual environment"
}

# PYTHON* and PIP_USER of the person's own shell would send packages elsewhere; pip killed leaves its scratch in TMPDIR.
pip_install() {
    local log=$root/.venv/pip.log
    env -u PYTHONPATH -u PYTHONHOME TMPDIR="$root/.venv/.tmp" \
        PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore \
        "$root/.venv/bin/python" -m pip install -qq "$@" </dev/null >"$log" 2>&1 && return
    tail -n 25 "$log" >&2
    fail "pip could not install what the lock file names (no network? a full disk?); the next run tries again"
}
