#!/bin/sh
# Installs runup on Linux (x86_64, arm64): fetches the tarball of a release, checks the signature of the release and the
# tarball's sha256, and puts the program in its place in one step. As root into /usr/local, with the man pages, and with
# runup.service where there is systemd; as an ordinary user into ~/.local.
#
#   RUNUP_BASE_URL            where the release is: the directory with SHA256SUMS and the tarballs; https, or http to loopback
#   RUNUP_VERSION             this version and no other. Without it, one that is older than this script or than the program
#                             that is already there is refused
#   RUNUP_TARBALL_SHA256      the sha256 that the tarball must have, whatever SHA256SUMS says
#   RUNUP_INSTALL_PREFIX      instead of /usr/local or ~/.local
#   RUNUP_ACCEPT_UNVERIFIED   true: install a release whose signature cannot be checked. It runs as whatever it is
#
# The signature is checked by openssl, or by ssh-keygen of OpenSSH 8.1 or newer where openssl is missing, with the keys in
# this script: a server that holds the releases, and not the key, cannot make one.
#
# Exit codes: 0 done; 64 RUNUP_BASE_URL is missing; 65 a signature, a digest or a tarball is wrong; 69 not available; 71 this
# machine lacks something, or the program does not start; 73 it cannot be put in its place; 75 the network; 78 the URL or the
# version is refused.
#
# All of it is a function that the last line calls, so that half of this file, which a cut connection may leave, does nothing.

main() {
    set -eu
    umask 022
    # packaging/release writes the release's own URL and version here, and the public keys of releases, one a line: ECDSA
    # on P-256, as SubjectPublicKeyInfo and in OpenSSH's form, both in base64. See packaging/release-keys/README.md.
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
    [ -n "$base" ] || fail 64 "RUNUP_BASE_URL must say where the release is: the URL of the folder with SHA256SUMS"
    check_url "$base"
    arch=$(architecture)
    if command -v curl >/dev/null; then
        client=curl
    elif command -v wget >/dev/null; then
        client=wget
        # Other wgets, BusyBox's for one, do not check whom they talk to.
        case $(wget --version 2>/dev/null) in
        *"GNU Wget"*) ;;
        *)
            case $base in https:*)
                [ -n "${RUNUP_TARBALL_SHA256:-}" ] ||
                    fail 71 "this wget does not check certificates: install curl, or set RUNUP_TARBALL_SHA256"
                ;;
            esac
            client=plain-wget
            ;;
        esac
    else
        fail 71 "there is neither curl nor wget"
    fi
    for tool in tar gzip sha256sum mktemp sed sort; do
        command -v "$tool" >/dev/null || fail 71 "there is no $tool"
    done
    verifier=$(verifier)

    if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?}/.local; fi
    prefix=${RUNUP_INSTALL_PREFIX:-$prefix}
    # Before anything is fetched, and on the file system where the rename will be.
    if ! mkdir -p "$prefix/bin" 2>/dev/null || ! staged=$(mktemp "$prefix/bin/.runup.XXXXXX" 2>/dev/null); then
        fail 73 "cannot write to $prefix/bin: run this as root, or set RUNUP_INSTALL_PREFIX"
    fi
    # A move would go into it.
    [ ! -d "$prefix/bin/runup" ] || fail 73 "$prefix/bin/runup is a directory"
    work=$(mktemp -d)

    fetch "$base/SHA256SUMS" "$work/SHA256SUMS" 4096
    # Before anything in it is believed.
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
    mv -f "$staged" "$prefix/bin/runup" || fail 73 "cannot put $prefix/bin/runup in its place"
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

# Nothing is fetched in the clear but from this machine itself.
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
    *) fail 69 "there is no runup for $system on $machine" ;;
    esac
}

# What can check the signature here: openssl, ssh-keygen, or none if that is accepted.
verifier() {
    if [ "${RUNUP_ACCEPT_UNVERIFIED:-}" = true ]; then
        echo "warning: the signature of the release is not checked (RUNUP_ACCEPT_UNVERIFIED)" >&2
        echo none
    elif [ -z "$keys" ]; then
        fail 71 "this install.sh has no key to check a release with: take the one of a release (RUNUP_ACCEPT_UNVERIFIED=true \
installs without a check)"
    elif command -v openssl >/dev/null; then
        echo openssl
    elif command -v ssh-keygen >/dev/null; then
        echo ssh-keygen
    else
        fail 71 "the signature of the release cannot be checked: install openssl, or ssh-keygen (the package openssl, or \
openssh-client, openssh), then run this again"
    fi
}

# verify: the signature of $work/SHA256SUMS is by one of the keys, or this is the end.
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
            # Its exit code alone was not always to be trusted.
            [ "$answer" != "Verified OK" ] || return 0
            ;;
        ssh-keygen)
            # The namespace keeps a signature that the key made for another purpose from passing.
            printf 'runup namespaces="runup-release" ecdsa-sha2-nistp256 %s\n' "$ssh" >"$work/signers"
            code=0
            answer=$(ssh-keygen -Y verify -f "$work/signers" -I runup -n runup-release -s "$work/$signature" \
                <"$work/SHA256SUMS" 2>&1) || code=$?
            case $answer in
            *" option "*) fail 71 "this ssh-keygen is too old to check signatures: install openssl, then run this again" ;;
            esac
            [ $code != 0 ] || return 0
            ;;
        esac
    done <<KEYS
$keys
KEYS
    fail 65 "$base/SHA256SUMS is not signed by a key of this install.sh ($verifier: $answer): nothing was installed"
}

# check_version VERSION: it is the one that was requested, or no step back.
check_version() {
    if [ -n "${RUNUP_VERSION:-}" ]; then
        [ "$1" = "$RUNUP_VERSION" ] || fail 78 "$base is runup $1, not RUNUP_VERSION $RUNUP_VERSION"
        return
    fi
    ! older "$1" "$own_version" ||
        fail 78 "$base is runup $1, which is older than this install.sh ($own_version): set RUNUP_VERSION=$1 if you want it"
    [ -x "$prefix/bin/runup" ] || return 0
    there=$("$prefix/bin/runup" --version </dev/null 2>/dev/null) || return 0
    there=${there#runup }
    ! older "$1" "$there" ||
        fail 78 "$base is runup $1, which is older than $prefix/bin/runup ($there): set RUNUP_VERSION=$1 if you want it"
}

# older A B: whether version A comes before B, as semver.org orders them; one that is empty comes before none.
older() {
    [ -n "$1" ] && [ -n "$2" ] || return 1
    left=${1%%+*} right=${2%%+*}
    [ "$left" != "$right" ] || return 1
    left_core=${left%%-*} right_core=${right%%-*}
    if [ "$left_core" != "$right_core" ]; then
        parts_older "$left_core" "$right_core"
        return
    fi
    # A pre-release comes before its release.
    case $left in *-*) ;; *) return 1 ;; esac
    case $right in *-*) ;; *) return 0 ;; esac
    parts_older "${left#*-}" "${right#*-}"
}

# parts_older A B: the same for lists of numbers and words with dots between them.
parts_older() {
    left=$1. right=$2.
    while [ -n "$left" ] && [ -n "$right" ]; do
        a=${left%%.*} b=${right%%.*}
        left=${left#*.} right=${right#*.}
        [ "$a" != "$b" ] || continue
        case $a$b in
        '' | *[!0-9]*)
            # A number comes before a word.
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

# fetch URL FILE BLOCKS: to the end, or not at all; https stays https when it is redirected. No more than so many blocks, of
# 512 or 1024 bytes as the shell counts, so that no server fills the disk.
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
        # With its own deadline: Debian's BusyBox dies of -T.
        limited "$3" wget -q -O "$2" "$1" || code=$?
        ;;
    esac
    [ $code = 0 ] || fail 75 "failed to fetch $1 ($client said $code)"
}

limited() (
    ulimit -f "$1" 2>/dev/null || true
    shift
    exec "$@"
)

# The man pages, and for root the unit, with the path of this runup. The unit of a package goes before.
extras() {
    man=$prefix/share/man/man1
    mkdir -p "$man" && cp "$tree"/man/*.1.gz "$man" || echo "note: no man pages: cannot write to $man" >&2
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
