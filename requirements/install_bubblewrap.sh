#!/usr/bin/env bash
# Install bubblewrap, in which code that a model wrote runs, unless it is there. It is a package of
# the system, so this needs root; without, it says what to do. Whether it works: `distil doctor`.
set -euo pipefail

if command -v bwrap >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing bubblewrap"
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq && apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null \
        && command -v bwrap >/dev/null; then
        exit 0
    fi
fi
echo "bubblewrap is not installed, and code that a model wrote runs in nothing less." >&2
echo "Install it as root (apt install bubblewrap; dnf, pacman and zypper name it so too)," >&2
echo "then run the same command again." >&2
exit 1
