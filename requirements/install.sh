#!/usr/bin/env bash
# Make the environment $1 with the packages pinned in $2 and this project. Safe to repeat, also
# after an interruption. PYTHON chooses the interpreter; pip's own settings choose the index.
# With --no-deps as $3, the lock alone says what is installed, nothing that its packages ask for.
set -euo pipefail

venv=$1
lock=$2
options=("${@:3}")

usable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if usable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "DistIL needs Python 3.11 or later. ${PYTHON:-python3}:" \
        "$("${PYTHON:-python3}" --version 2>/dev/null || echo 'not found')." >&2
    echo "Install one (for example: apt install python3.11 python3.11-venv)," >&2
    echo "or name it: make PYTHON=/path/to/python3.11 run" >&2
    return 1
}

if ! { [ -x "$venv/bin/python" ] && usable "$venv/bin/python" && [ -x "$venv/bin/pip" ]; }; then
    python=$(find_python)
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "$python has no venv module; install it (for example: apt install python3-venv)." >&2
        exit 1
    fi
    "$python" -m venv --clear "$venv"
fi

log=$venv/install.log
count=$(grep -c '==' "$lock")
echo "installing $count pinned packages into $venv (minutes the first time; log: $log)"
started=$SECONDS
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
if ! { "${pip[@]}" install --no-compile "${options[@]}" --requirement "$lock" \
    && "${pip[@]}" install --no-deps --no-build-isolation --editable .; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "The installation failed; all of it is in $log." >&2
    echo "Once the cause is mended (network? disk? pip's index?), run the same command again." >&2
    exit 1
fi
# On all cores, which pip does not do. Some packages hold files that are no Python of today.
"$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" >>"$log" 2>&1 || true
# Telemetry is off in every program of this environment, the commands of prefect, dvc and mlflow
# included: distil_core switches it off, and Python imports it at start-up.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo 'import distil_core' >"$site/distil_telemetry_off.pth"
echo "installed in $((SECONDS - started)) s"
