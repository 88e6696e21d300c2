#!/bin/sh
# Installs the PostgreSQL server programs, unless they are on the machine.
set -eu
. "$(dirname "$0")/packages.sh"

present() {
    for initdb in "$(command -v initdb)" /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb \
        /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb \
        "${SEGMENTD_DATABASE__POSTGRES_BIN:-/nonexistent}/initdb"; do
        [ -x "$initdb" ] && return 0
    done
    return 1
}

present && exit 0
install_packages PostgreSQL postgresql postgresql-server postgresql@16
present || { echo 'PostgreSQL was installed, but initdb is not in any known directory' >&2; exit 1; }
