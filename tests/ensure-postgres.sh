#!/bin/sh
# Installs the PostgreSQL server programs, unless they are on the machine.
#
# By the system's package manager, where that needs no password; else says what
# to type. segmentd itself never installs anything.
set -eu

present() {
    for initdb in "$(command -v initdb)" /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
        /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb \
        "${SEGMENTD_DATABASE__POSTGRES_BIN:-/nonexistent}/initdb"; do
        [ -x "$initdb" ] && return 0
    done
    return 1
}

# Runs a shell command as root, or ends with what to type.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        sh -c "$1"
    elif sudo -n true 2>/dev/null; then
        sudo -n sh -c "$1"
    else
        echo "PostgreSQL is missing, and installing it needs root. Type: sudo sh -c '$1'" >&2
        exit 1
    fi
}

present && exit 0
echo 'Installing PostgreSQL …' >&2
if command -v apt-get >/dev/null; then
    # A list of packages that is too old names versions that are gone.
    as_root 'apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends postgresql'
elif command -v dnf >/dev/null; then
    as_root 'dnf install -q -y postgresql-server'
elif command -v brew >/dev/null; then
    brew install --quiet postgresql@16
else
    echo 'PostgreSQL is missing; install its server by your package manager' >&2
    exit 1
fi
present || { echo 'PostgreSQL was installed, but initdb is not where it is expected' >&2; exit 1; }
