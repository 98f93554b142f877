#!/bin/sh
# Installs the Debian 12 packages that are missing; does nothing, and needs no network, when none is.
#
#   scripts/install-deps.sh [run|test|cross]
#                    run: to build and start cleat; test (default): that and what the tests and
#                    lint need; cross: to build and test for aarch64
#   scripts/install-deps.sh --check      installs nothing; prints what is missing, exit 1 if any
#   scripts/install-deps.sh --libraries  installs nothing; names what cleat is linked with
set -eu

libraries="
    libc6-dev
    libgrpc-dev libprotobuf-c-dev
    liblmdb-dev libsqlite3-dev liburing-dev libxxhash-dev
    libssl-dev libmicrohttpd-dev libjansson-dev libyaml-dev libcrypt-dev
    libcmocka-dev libfuse3-dev libseccomp-dev"
run_packages="
    gcc cmake ninja-build pkg-config python3 protobuf-c-compiler
    $libraries
    etcd-client"
test_packages="
    clang clang-format clang-tidy cppcheck llvm libclang-rt-14-dev
    etcd-server nghttp2-client fuse3 e2fsprogs mount util-linux
    curl procps git iproute2 patch
    python3-grpcio python3-protobuf python3-etcd3"
cross_packages="
    gcc-aarch64-linux-gnu qemu-user
    cmake ninja-build pkg-config python3 protobuf-c-compiler"

packages="$run_packages $test_packages"
check_only=false
case "${1:-test}" in
run) packages=$run_packages ;;
test) ;;
cross) packages=$cross_packages ;;
--check) check_only=true ;;
--libraries)
    # shellcheck disable=SC2086 # a list of words
    printf '%s\n' $libraries
    exit 0
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

missing=
for package in $packages; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if $check_only; then
    echo "not installed:$missing"
    exit 1
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "need root to install packages, and there is no sudo; as root run:" >&2
        echo "  apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
}

# Debian starts the services of what it installs; etcd-server would take the ports that cleat uses.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
fi

as_root apt-get -qq update
# shellcheck disable=SC2086 # a list of words
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -y $missing
