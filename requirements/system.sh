#!/usr/bin/env bash
# The Debian packages that tests need besides Python's: bubblewrap, where code of models runs.
# Safe to repeat. As root it installs what is missing; others are told the command.
set -euo pipefail

if command -v bwrap >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing bubblewrap, where tests run code that a model wrote"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || echo "apt-get update failed; trying the package lists that are here" >&2
    if apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null \
        && command -v bwrap >/dev/null; then
        exit 0
    fi
fi
echo "Tests need bubblewrap: code that a model wrote runs nowhere else. Install it, then repeat:" >&2
echo "    sudo apt-get update && sudo apt-get install bubblewrap" >&2
exit 1
