#!/bin/sh
# deps.sh run|test|lint|bench|lab-arm64: says which of the Debian or Ubuntu packages for that purpose are missing, and installs them, as root or by sudo.
# It does nothing where all are there. Names hold for Debian 12 and 13 and Ubuntu 24.04.
set -eu

purpose=${1:-run}

# Machines and their images, and the desktop's C libraries.
packages='mmdebstrap uidmap erofs-utils e2fsprogs zstd xz-utils arch-test openssh-client git gcc pkg-config
	libc6-dev libgl1-mesa-dev libgl1-mesa-dri xorg-dev libwayland-dev libxkbcommon-dev ca-certificates'
case $purpose in
run | lint) ;;
test | bench)
	# A screen, hands and eyes for the desktop's tests; terminals and clients for the command line's; what reads the tables and disks that machines get.
	packages="$packages xvfb xauth xdotool openbox imagemagick fonts-dejavu-core x11-utils tmux sudo curl python3 procps
		acpica-tools device-tree-compiler qemu-utils"
	;;
lab-arm64)
	# The emulator, and what takes a kernel's package apart: see guest/image, FetchKernel.
	packages="qemu-system-arm kmod tar"
	;;
*)
	echo "usage: deps.sh run|test|lint|bench|lab-arm64" >&2
	exit 2
	;;
esac
[ "$purpose" != bench ] || packages="$packages mitmproxy"

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "deps: this is neither Debian nor Ubuntu; install what matches these yourself:" $packages npm >&2
	exit 1
fi

. /etc/os-release
case "${ID:-} ${ID_LIKE:-}" in
*ubuntu*) packages="$packages ubuntu-keyring" ;;
*) packages="$packages debian-archive-keyring" ;;
esac

case $(dpkg --print-architecture) in
arm64) packages="$packages qemu-system-arm" ;;
*) packages="$packages qemu-system-x86" ;;
esac

# Node and npm may have come from elsewhere than the distribution; npm fetches the agents.
command -v npm >/dev/null || packages="$packages npm"

# From 1.21 on, Go fetches the version that go.mod asks for by itself.
if ! command -v go >/dev/null; then
	version=$(apt-cache policy golang-go 2>/dev/null | sed -n 's/^ *Candidate: [0-9]*:*\([0-9]*\.[0-9]*\).*/\1/p')
	case $version in
	'' | 1.[0-9] | 1.1[0-9] | 1.20)
		echo "deps: Go is missing, and this release has ${version:-none}; install Go 1.26 or newer so that \"go\" is on PATH" >&2
		exit 1
		;;
	esac
	packages="$packages golang-go"
fi

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=
for package in $packages; do
	installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "deps: missing for $purpose:$missing"
if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null; then
	as_root=sudo
else
	echo "deps: neither root nor sudo; as root: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi
$as_root apt-get update -q
# What is left unset by sudo's own rules must be set behind it.
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

for package in $missing; do
	installed "$package" || {
		echo "deps: apt-get says it is done, but $package is not installed" >&2
		exit 1
	}
done
echo "deps: done"
