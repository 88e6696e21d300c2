#!/bin/sh
# The committed answers of Postgres to every query in the code (.sqlx/).
#
#     sh tests/queries.sh renew              write them anew
#     sh tests/queries.sh check [--locked]   fail if they are not up to date
#
# `query!` asks a live database while it compiles, and notes the answers down
# when SQLX_OFFLINE_DIR says where. That database is a throw-away one with the
# migrations applied, started here and not by segmentd: a segmentd whose queries
# are out of date cannot be compiled. Compiling is done by clippy, so that CI
# compiles once.
set -eu
cd "$(dirname "$0")/.."
mode=$1
shift

scratch=$(mktemp -d)
chmod 755 "$scratch"
trap 'stop; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM

# PostgreSQL refuses to run as root.
unprivileged() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid="$account" --regid="$(id -g "$account")" --clear-groups "$@"
    else
        "$@"
    fi
}

stop() {
    [ ! -e "$scratch/server/data/postmaster.pid" ] ||
        unprivileged "$bin/pg_ctl" -D "$scratch/server/data" -m immediate stop >/dev/null
}

# The newest server of the machine.
bin=$(for directory in "${SEGMENTD_DATABASE__POSTGRES_BIN:-}" /usr/lib/postgresql/*/bin \
    /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
    "$(dirname "$(command -v pg_ctl || echo /nonexistent/pg_ctl)")"; do
    [ ! -x "$directory/pg_ctl" ] || [ ! -x "$directory/psql" ] || echo "$directory"
done | sort -V | tail -n 1)
account=$(id -u postgres >/dev/null 2>&1 && echo postgres || echo nobody)

mkdir "$scratch/server" "$scratch/queries"
[ "$(id -u)" != 0 ] || chown "$account" "$scratch/server"
cd "$scratch/server"
unprivileged "$bin/initdb" -D data -U segmentd -A trust -E UTF8 --locale=C --no-sync >initdb.log 2>&1 ||
    { cat initdb.log; exit 1; }
unprivileged "$bin/pg_ctl" -D data -l server.log -w start \
    -o "-c listen_addresses= -k $scratch/server -c fsync=off" >/dev/null || { cat server.log; exit 1; }
cd "$OLDPWD"
for migration in migrations/*.sql; do
    [ ! -e "$migration" ] ||
        "$bin/psql" -q -X -v ON_ERROR_STOP=1 --single-transaction \
            -h "$scratch/server" -U segmentd -d postgres -f "$migration"
done

# Cargo does not know that the database is an input.
touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$scratch/queries" \
    DATABASE_URL="postgres:///postgres?host=$scratch/server&user=segmentd" \
    cargo clippy "$@" --all-targets -- -D warnings

case $mode in
renew)
    rm -rf .sqlx
    cp -R "$scratch/queries" .sqlx
    ;;
check)
    mkdir -p .sqlx
    diff -r .sqlx "$scratch/queries" >/dev/null || {
        echo '.sqlx is out of date; renew it with "make prepare" and commit it' >&2
        diff -rq .sqlx "$scratch/queries" >&2
        exit 1
    }
    ;;
esac
