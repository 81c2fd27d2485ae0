#!/bin/sh
# Installs runup on Linux (x86_64, arm64): downloads the tarball of a release, verifies the signature of the release and the
# tarball's sha256, and installs the program in one step. As root into /usr/local, with the man pages, and with runup.service
# where there is systemd; as an ordinary user into ~/.local.
#
#   RUNUP_BASE_URL            URL of the release, the directory with SHA256SUMS and the tarballs; https, or http to loopback
#   RUNUP_VERSION             install exactly this version. Without it, a version that is older than this script or than the
#                             installed program is refused
#   RUNUP_TARBALL_SHA256      the sha256 that the tarball must have, in addition to SHA256SUMS
#   RUNUP_INSTALL_PREFIX      install here instead of /usr/local or ~/.local
#   RUNUP_ACCEPT_UNVERIFIED   true: install a release without verifying its signature
#
# The signature is verified with openssl, or with ssh-keygen of OpenSSH 8.1 or newer where openssl is missing, and with the
# keys in this script: a server that has the releases but not the key cannot create a valid signature.
#
# Exit codes: 0 done; 64 RUNUP_BASE_URL is missing; 65 a signature, a digest or a tarball is wrong; 69 not available; 71 this
# machine lacks something, or the program does not start; 73 cannot write to the prefix; 75 the network; 78 the URL or the
# version is refused.
#
# Everything is in a function that the last line calls, so that a download that was cut off does nothing.

main() {
    set -eu
    umask 022
    # packaging/release fills these in: the URL and version of the release, and the public keys, one per line: ECDSA on
    # P-256, as SubjectPublicKeyInfo and in OpenSSH's format, both in base64. See packaging/release-keys/README.md.
    default_url=''
    own_version=''
    keys=''
    work='' staged=''
    trap 'rm -rf ${work:+"$work"} ${staged:+"$staged"}' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM

    base=${RUNUP_BASE_URL:-$default_url}
    base=${base%/}
    [ -n "$base" ] || fail 64 "RUNUP_BASE_URL is not set: set it to the URL of the directory with SHA256SUMS"
    check_url "$base"
    arch=$(architecture)
    if command -v curl >/dev/null; then
        client=curl
    elif command -v wget >/dev/null; then
        client=wget
        # Other versions of wget, such as BusyBox's, do not verify certificates.
        case $(wget --version 2>/dev/null) in
        *"GNU Wget"*) ;;
        *)
            case $base in https:*)
                [ -n "${RUNUP_TARBALL_SHA256:-}" ] ||
                    fail 71 "this wget does not verify certificates: install curl, or set RUNUP_TARBALL_SHA256"
                ;;
            esac
            client=plain-wget
            ;;
        esac
    else
        fail 71 "neither curl nor wget was found: install one of them"
    fi
    for tool in tar gzip sha256sum mktemp sed sort; do
        command -v "$tool" >/dev/null || fail 71 "$tool was not found: install it"
    done
    verifier=$(verifier)

    if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?}/.local; fi
    prefix=${RUNUP_INSTALL_PREFIX:-$prefix}
    # Before any download, and on the file system of the final rename.
    if ! mkdir -p "$prefix/bin" 2>/dev/null || ! staged=$(mktemp "$prefix/bin/.runup.XXXXXX" 2>/dev/null); then
        fail 73 "cannot write to $prefix/bin: run this as root, or set RUNUP_INSTALL_PREFIX"
    fi
    # mv would move the program into it.
    [ ! -d "$prefix/bin/runup" ] || fail 73 "$prefix/bin/runup is a directory"
    work=$(mktemp -d)

    fetch "$base/SHA256SUMS" "$work/SHA256SUMS" 4096
    # Before anything in it is used.
    verify
    line=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]\(runup-[0-9][0-9A-Za-z.+~-]*-linux-$arch\.tar\.gz\)\$/\1 \2/p" "$work/SHA256SUMS")
    case $line in
    '') fail 69 "$base/SHA256SUMS has no tarball for linux-$arch" ;;
    *'
'*) fail 65 "$base/SHA256SUMS has more than one tarball for linux-$arch" ;;
    esac
    wanted=${line%% *} name=${line#* }
    release=${name#runup-}
    release=${release%"-linux-$arch.tar.gz"}
    check_version "$release"
    if [ -n "${RUNUP_TARBALL_SHA256:-}" ]; then
        [ "$wanted" = "$RUNUP_TARBALL_SHA256" ] ||
            fail 65 "RUNUP_TARBALL_SHA256 is $RUNUP_TARBALL_SHA256, but $base/SHA256SUMS says $wanted for $name"
    fi
    fetch "$base/$name" "$work/$name" 262144
    found=$(sha256sum <"$work/$name")
    found=${found%% *}
    [ "$found" = "$wanted" ] || fail 65 "$base/$name has the sha256 $found, not $wanted: nothing was installed"
    tar -xzf "$work/$name" -C "$work" || fail 65 "$base/$name cannot be unpacked"
    tree=$work/${name%.tar.gz}

    cp "$tree/runup" "$staged" || fail 73 "cannot write $staged"
    chmod 755 "$staged"
    version=$("$staged" --version </dev/null) || fail 71 "the program from $base/$name does not start on this machine"
    [ "$version" = "runup $release" ] || fail 65 "$base/$name holds $version, not runup $release"
    extras
    mv -f "$staged" "$prefix/bin/runup" || fail 73 "cannot replace $prefix/bin/runup"
    staged=''
    echo "installed $version as $prefix/bin/runup"
    case :$PATH: in
    *":$prefix/bin:"*) ;;
    *) echo "note: $prefix/bin is not in your PATH" ;;
    esac
}

fail() {
    echo "install.sh: $2" >&2
    exit "$1"
}

# Plain http is allowed to this machine only.
check_url() {
    case $1 in
    https://*) return ;;
    http://*)
        host=${1#http://}
        host=${host%%[/?#]*}
        case $host in
        127.0.0.1 | localhost | '[::1]') return ;;
        *@* | *[!0-9a-z.:]*) ;;
        127.0.0.1:* | localhost:*) return ;;
        esac
        case $host in '[::1]':*[!0-9]*) ;; '[::1]':*) return ;; esac
        ;;
    esac
    fail 78 "$1 is refused: it must be https://, or http:// to 127.0.0.1, localhost or [::1]"
}

architecture() {
    system=$(uname -s) machine=$(uname -m)
    case $system-$machine in
    Linux-x86_64 | Linux-amd64) echo x86_64 ;;
    Linux-aarch64 | Linux-arm64) echo aarch64 ;;
    *) fail 69 "runup is not available for $system on $machine: Linux on x86_64 or arm64 is needed" ;;
    esac
}

# The program that verifies the signature: openssl, ssh-keygen, or none if that was requested.
verifier() {
    if [ "${RUNUP_ACCEPT_UNVERIFIED:-}" = true ]; then
        echo "warning: the signature of the release is not checked (RUNUP_ACCEPT_UNVERIFIED)" >&2
        echo none
    elif [ -z "$keys" ]; then
        fail 71 "this install.sh has no key to verify a release with: use the install.sh of a release, or set \
RUNUP_ACCEPT_UNVERIFIED=true to install without verification"
    elif command -v openssl >/dev/null; then
        echo openssl
    elif command -v ssh-keygen >/dev/null; then
        echo ssh-keygen
    else
        fail 71 "the signature of the release cannot be verified: install openssl (or ssh-keygen, in the package openssh-client or \
openssh), then run this again"
    fi
}

# verify: fails unless $work/SHA256SUMS is signed with one of the keys.
verify() {
    case $verifier in
    none) return ;;
    openssl) signature=SHA256SUMS.sig ;;
    ssh-keygen) signature=SHA256SUMS.sshsig ;;
    esac
    fetch "$base/$signature" "$work/$signature" 4096
    while read -r spki ssh; do
        [ -n "$spki" ] || continue
        case $verifier in
        openssl)
            printf -- '-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n' "$spki" |
                sed 's/^[^-]\{64\}/&\
/' >"$work/key.pem"
            answer=$(openssl dgst -sha256 -verify "$work/key.pem" -signature "$work/$signature" "$work/SHA256SUMS" 2>&1) || continue
            # The exit code alone is not reliable in old versions.
            [ "$answer" != "Verified OK" ] || return 0
            ;;
        ssh-keygen)
            # The namespace rejects a signature that was created for another purpose.
            printf 'runup namespaces="runup-release" ecdsa-sha2-nistp256 %s\n' "$ssh" >"$work/signers"
            code=0
            answer=$(ssh-keygen -Y verify -f "$work/signers" -I runup -n runup-release -s "$work/$signature" \
                <"$work/SHA256SUMS" 2>&1) || code=$?
            case $answer in
            *" option "*) fail 71 "this ssh-keygen is too old to verify signatures: install openssl, then run this again" ;;
            esac
            [ $code != 0 ] || return 0
            ;;
        esac
    done <<KEYS
$keys
KEYS
    fail 65 "$base/SHA256SUMS is not signed by a key of this install.sh ($verifier: $answer): nothing was installed"
}

# check_version VERSION: fails unless it is the requested version, or not a downgrade.
check_version() {
    if [ -n "${RUNUP_VERSION:-}" ]; then
        [ "$1" = "$RUNUP_VERSION" ] || fail 78 "$base is runup $1, not RUNUP_VERSION $RUNUP_VERSION"
        return
    fi
    ! older "$1" "$own_version" ||
        fail 78 "$base is runup $1, which is older than this install.sh ($own_version): set RUNUP_VERSION=$1 to install it anyway"
    [ -x "$prefix/bin/runup" ] || return 0
    there=$("$prefix/bin/runup" --version </dev/null 2>/dev/null) || return 0
    there=${there#runup }
    ! older "$1" "$there" ||
        fail 78 "$base is runup $1, which is older than $prefix/bin/runup ($there): set RUNUP_VERSION=$1 to install it anyway"
}

# older A B: whether version A precedes B in the order of semver.org. An empty version precedes nothing.
older() {
    [ -n "$1" ] && [ -n "$2" ] || return 1
    left=${1%%+*} right=${2%%+*}
    [ "$left" != "$right" ] || return 1
    left_core=${left%%-*} right_core=${right%%-*}
    if [ "$left_core" != "$right_core" ]; then
        parts_older "$left_core" "$right_core"
        return
    fi
    # A pre-release precedes its release.
    case $left in *-*) ;; *) return 1 ;; esac
    case $right in *-*) ;; *) return 0 ;; esac
    parts_older "${left#*-}" "${right#*-}"
}

# parts_older A B: the same for dot-separated numbers and words.
parts_older() {
    left=$1. right=$2.
    while [ -n "$left" ] && [ -n "$right" ]; do
        a=${left%%.*} b=${right%%.*}
        left=${left#*.} right=${right#*.}
        [ "$a" != "$b" ] || continue
        case $a$b in
        '' | *[!0-9]*)
            # A number precedes a word.
            case $b in '' | *[!0-9]*) ;; *) return 1 ;; esac
            case $a in '' | *[!0-9]*) ;; *) return 0 ;; esac
            first=$(printf '%s\n%s\n' "$a" "$b" | LC_ALL=C sort | sed -n 1p)
            [ "$first" = "$a" ]
            return
            ;;
        esac
        [ "$a" -lt "$b" ]
        return
    done
    [ -z "$left" ] && [ -n "$right" ]
}

# fetch URL FILE BLOCKS: downloads the whole file, or fails; https is not redirected to http. BLOCKS limits the size, in
# blocks of 512 or 1024 bytes depending on the shell, so that no server can fill the disk.
fetch() {
    code=0
    case $base in https:*) schemes='=https' ;; *) schemes='=http,https' ;; esac
    case $client in
    curl)
        limited "$3" curl --fail --silent --show-error --location --proto "$schemes" --retry 3 --connect-timeout 20 --speed-limit 1 \
            --speed-time 60 --output "$2" "$1" || code=$?
        [ $code != 22 ] || fail 69 "$1 is not available"
        ;;
    wget)
        limited "$3" wget --no-verbose --server-response --tries=3 --timeout=60 --output-document="$2" "$1" 2>"$work/log" || code=$?
        case $base in https:*)
            ! grep -qi '^ *location: *http:' "$work/log" || fail 78 "$1 was redirected to http://, which is refused"
            ;;
        esac
        [ $code = 0 ] || cat "$work/log" >&2
        [ $code != 8 ] || fail 69 "$1 is not available"
        ;;
    plain-wget)
        # Without a timeout option: -T crashes Debian's BusyBox.
        limited "$3" wget -q -O "$2" "$1" || code=$?
        ;;
    esac
    [ $code = 0 ] || fail 75 "failed to fetch $1 ($client exited with $code)"
}

limited() (
    ulimit -f "$1" 2>/dev/null || true
    shift
    exec "$@"
)

# Installs the man pages, and as root the unit, with the path of this runup. The unit of a package takes precedence.
extras() {
    man=$prefix/share/man/man1
    mkdir -p "$man" && cp "$tree"/man/*.1.gz "$man" || echo "note: man pages were not installed: cannot write to $man" >&2
    if [ "$(id -u)" = 0 ] && command -v systemctl >/dev/null && [ ! -e /usr/lib/systemd/system/runup.service ]; then
        units=$prefix/lib/systemd/system
        mkdir -p "$units"
        sed "s|/usr/bin/runup|$prefix/bin/runup|" "$tree/runup.service" >"$units/.runup.service"
        mv -f "$units/.runup.service" "$units/runup.service"
        if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
    fi
    # The page of the configuration file, which older releases do not have.
    for page in "$tree"/man/*.5.gz; do
        man=$prefix/share/man/man5
        [ ! -e "$page" ] || { mkdir -p "$man" && cp "$page" "$man"; } ||
            echo "note: man pages were not installed: cannot write to $man" >&2
    done
}

main "$@"
