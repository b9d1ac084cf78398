#!/bin/sh
# Installs what runs policy.h on emulated processors (Debian and its kin; as root): compilers for Cortex-M and 64-bit
# ARM with their C libraries, and QEMU.
set -eu
apt-get update
apt-get install --yes --no-install-recommends \
    gcc-arm-none-eabi libnewlib-arm-none-eabi gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-system-arm qemu-user
