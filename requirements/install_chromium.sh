#!/usr/bin/env bash
# Install Chromium and its driver, with which a test reads MLflow's pages, unless they are there.
# Packages of the system, so this needs root; without, it says what to do, and the test is skipped.
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Chromium and its driver"
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq \
        && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; then
        exit 0
    fi
fi
echo "Chromium and its driver are not installed: the test that reads MLflow's pages is skipped." >&2
echo "Install them as root (apt install chromium chromium-driver) to have it run." >&2
