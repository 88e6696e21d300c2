# Sourced by tests/ensure-*.sh: installs packages by the package manager of the system,
# where that needs no password. segmentd itself never installs anything.

# Whether this account may install packages.
may_install() {
    if command -v apt-get >/dev/null || command -v dnf >/dev/null; then
        [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
    else
        command -v brew >/dev/null
    fi
}

# install_packages WHAT APT_PACKAGES DNF_PACKAGES BREW_PACKAGES
#
# Status 3: this account may not install packages, and the message says what to type.
install_packages() {
    if command -v apt-get >/dev/null; then
        # A package list that is too old names versions that no longer exist.
        install="apt-get update -q && DEBIAN_FRONTEND=noninteractive \
apt-get install -q -y --no-install-recommends $2"
    elif command -v dnf >/dev/null; then
        install="dnf install -q -y $3"
    elif command -v brew >/dev/null; then
        echo "Installing $1 …" >&2
        # shellcheck disable=SC2086 # a list of packages
        brew install --quiet $4
        return
    else
        echo "$1: missing, and this system has no apt-get, dnf or brew. Install it first." >&2
        return 3
    fi
    if ! may_install; then
        echo "$1: missing, and installing it needs root. Type: sudo sh -c '$install'" >&2
        return 3
    fi
    echo "Installing $1 …" >&2
    if [ "$(id -u)" = 0 ]; then sh -c "$install"; else sudo -n sh -c "$install"; fi
}
