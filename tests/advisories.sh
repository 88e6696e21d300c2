#!/bin/sh
# Checks the dependencies against the RustSec advisories (`make advisories`).
#
# ADVISORY_DB       a local clone of the database: no network is used
# ADVISORY_DB_URL   where to fetch it from otherwise
# CARGO_DENY        the program
#
# The database changes daily and comes over the network. Where it cannot be
# reached the check is skipped with one warning: no change of ours made it fail.
set -eu
cd "$(dirname "$0")/.."
url=${ADVISORY_DB_URL:-https://github.com/rustsec/advisory-db}

if [ -n "${ADVISORY_DB:-}" ]; then
    if ! git -C "$ADVISORY_DB" rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
        echo "ERROR: ADVISORY_DB: $ADVISORY_DB is not a clone of the advisory database" >&2
        exit 1
    fi
    # Git fetches from the clone what it is asked to fetch from the address.
    GIT_CONFIG_COUNT=1
    GIT_CONFIG_KEY_0="url.file://$(cd "$ADVISORY_DB" && pwd).insteadOf"
    GIT_CONFIG_VALUE_0=$url
    export GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0
elif ! GIT_TERMINAL_PROMPT=0 timeout 30 git ls-remote --exit-code --quiet "$url" HEAD >/dev/null 2>&1; then
    echo "WARNING: ADVISORIES NOT CHECKED: the advisory database at $url cannot be reached; set ADVISORY_DB to a local clone of it" >&2
    exit 0
fi

# deny.toml, with this database, fetched by git itself.
config=target/deny-advisories.toml
mkdir -p target
awk -v url="$url" -v path="$PWD/target/advisory-db" '
    { print }
    $0 == "[advisories]" {
        print "git-fetch-with-cli = true"
        print "db-urls = [\"" url "\"]"
        print "db-path = \"" path "\""
    }
' deny.toml >"$config"
"${CARGO_DENY:-cargo-deny}" --log-level error --locked --config "$config" check advisories
