#!/bin/sh
# Installs a Chromium without a window for the tests of pages (Debian and its kin; as root): 64 MB.
set -eu
apt-get update
apt-get install --yes --no-install-recommends chromium-headless-shell || apt-get install --yes chromium
