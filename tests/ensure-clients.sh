#!/bin/sh
# Installs Python with venv, Node with npm, and curl, unless they are on the machine: the tests
# with third-party client libraries and those of the guides need them.
#
# --check installs nothing. Status 0: nothing is missing. Status 3: something is missing, and
# this account may not install it. Status 1: any other failure.
set -eu
. "$(dirname "$0")/packages.sh"

has_python() { python3 -c 'import venv, ensurepip' 2>/dev/null; }
has_node() { command -v node >/dev/null && command -v npm >/dev/null; }
has_curl() { command -v curl >/dev/null; }

if [ "${1:-}" = --check ]; then
    has_python && has_node && has_curl && exit 0
    may_install && exit 1
    exit 3
fi

status=0
has_python || install_packages 'Python 3 with venv' python3-venv python3 python || status=$?
has_node || install_packages 'Node with npm' 'nodejs npm' 'nodejs npm' node || status=$?
has_curl || install_packages curl curl curl curl || status=$?
[ "$status" = 0 ] || exit "$status"
has_python || { echo 'Python 3 was installed, but has no venv' >&2; exit 1; }
has_node || { echo 'Node was installed, but node or npm is not on the PATH' >&2; exit 1; }
