#!/bin/sh
# Installs runup on Linux (x86_64, arm64): fetches the tarball of a release, checks its sha256, and puts the program in its
# place in one step. As root into /usr/local, with the man pages, and with runup.service where there is systemd; as anybody
# else into ~/.local.
#
#   RUNUP_BASE_URL         where the release is: the folder with SHA256SUMS and the tarballs; https, or http to loopback
#   RUNUP_TARBALL_SHA256   the sha256 that the tarball must have, whatever SHA256SUMS says
#   RUNUP_INSTALL_PREFIX   instead of /usr/local or ~/.local
#
# Exit codes: 0 done; 64 nobody said where the release is; 65 a digest or a tarball is not what it should be; 69 not on offer;
# 71 this machine lacks something, or the program does not start; 73 it cannot be put in its place; 75 the network; 78 the
# URL is refused.
#
# All of it is a function that the last line calls, so that half of this file, which a cut connection may leave, does nothing.

main() {
    set -eu
    umask 022
    # packaging/release writes the release's own URL here.
    default_url=''
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
    for tool in tar gzip sha256sum mktemp; do
        command -v "$tool" >/dev/null || fail 71 "there is no $tool"
    done

    if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?}/.local; fi
    prefix=${RUNUP_INSTALL_PREFIX:-$prefix}
    # Before anything is fetched, and on the file system where the rename will be.
    if ! mkdir -p "$prefix/bin" 2>/dev/null || ! staged=$(mktemp "$prefix/bin/.runup.XXXXXX" 2>/dev/null); then
        fail 73 "cannot write to $prefix/bin: be root, or set RUNUP_INSTALL_PREFIX"
    fi
    # A move would go into it.
    [ ! -d "$prefix/bin/runup" ] || fail 73 "$prefix/bin/runup is a folder"
    work=$(mktemp -d)

    fetch "$base/SHA256SUMS" "$work/SHA256SUMS"
    line=$(sed -n "s/^\([0-9a-f]\{64\}\) [ *]\(runup-[0-9][0-9A-Za-z.+~-]*-linux-$arch\.tar\.gz\)\$/\1 \2/p" "$work/SHA256SUMS")
    case $line in
    '') fail 69 "$base/SHA256SUMS has no tarball for linux-$arch" ;;
    *'
'*) fail 65 "$base/SHA256SUMS has more than one tarball for linux-$arch" ;;
    esac
    wanted=${line%% *} name=${line#* }
    if [ -n "${RUNUP_TARBALL_SHA256:-}" ]; then
        [ "$wanted" = "$RUNUP_TARBALL_SHA256" ] ||
            fail 65 "RUNUP_TARBALL_SHA256 is $RUNUP_TARBALL_SHA256, but $base/SHA256SUMS says $wanted for $name"
    fi
    fetch "$base/$name" "$work/$name"
    found=$(sha256sum <"$work/$name")
    found=${found%% *}
    [ "$found" = "$wanted" ] || fail 65 "$base/$name has the sha256 $found, not $wanted: nothing was installed"
    tar -xzf "$work/$name" -C "$work" || fail 65 "$base/$name cannot be unpacked"
    tree=$work/${name%.tar.gz}

    cp "$tree/runup" "$staged" || fail 73 "cannot write $staged"
    chmod 755 "$staged"
    version=$("$staged" --version </dev/null) || fail 71 "the program from $base/$name does not start on this machine"
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

# fetch URL FILE: to the end, or not at all; https stays https when it is redirected.
fetch() {
    code=0
    case $base in https:*) schemes='=https' ;; *) schemes='=http,https' ;; esac
    case $client in
    curl)
        curl --fail --silent --show-error --location --proto "$schemes" --retry 3 --connect-timeout 20 --speed-limit 1 \
            --speed-time 60 --output "$2" "$1" || code=$?
        [ $code != 22 ] || fail 69 "$1 is not on offer"
        ;;
    wget)
        wget --no-verbose --server-response --tries=3 --timeout=60 --output-document="$2" "$1" 2>"$work/log" || code=$?
        case $base in https:*)
            ! grep -qi '^ *location: *http:' "$work/log" || fail 78 "$1 was redirected to http://, which is refused"
            ;;
        esac
        [ $code = 0 ] || cat "$work/log" >&2
        [ $code != 8 ] || fail 69 "$1 is not on offer"
        ;;
    plain-wget)
        # With its own deadline: Debian's BusyBox dies of -T.
        wget -q -O "$2" "$1" || code=$?
        ;;
    esac
    [ $code = 0 ] || fail 75 "failed to fetch $1 ($client said $code)"
}

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
}

main "$@"
