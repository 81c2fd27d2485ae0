#!/bin/sh
# Prepares the machine that it runs on, as root, as the source of an image. The Packer template next to it uploads and starts
# it; any other tool that builds images can do the same.
#
#   RUNUP_BAKE_FOLDER   directory with `package`, the .deb or .rpm of runup, and if needed `token`, a file with just the token.
#                       It is deleted at the end in any case, and the token as soon as it has been used
#   RUNUP_URL           organization, repository or enterprise to list the runner applications of; or, without a token:
#   RUNUP_ARCHIVE, RUNUP_SHA256   the runner's archive
#   RUNUP_…             any other option of `runup bake`
set -eu
cd "$RUNUP_BAKE_FOLDER"
# A file that is merely deleted is still on the disk, and the image is a copy of the disk.
forget() { [ ! -f token ] || shred --remove token 2>/dev/null || rm -f token; }
trap 'forget; cd / && rm -rf "$RUNUP_BAKE_FOLDER"' EXIT
trap 'exit 143' HUP INT TERM

# Packer passes unset variables as empty ones, which are not a valid URL or digest.
[ -n "${RUNUP_URL:-}" ] || unset RUNUP_URL
[ -n "${RUNUP_ARCHIVE:-}" ] || unset RUNUP_ARCHIVE
[ -n "${RUNUP_SHA256:-}" ] || unset RUNUP_SHA256

case $(head -c 4 package | od -A n -t x1 | tr -d ' ') in
213c6172)
    mv package runup.deb
    DEBIAN_FRONTEND=noninteractive apt-get install --yes ./runup.deb
    ;;
edabeedb)
    mv package runup.rpm
    if command -v dnf >/dev/null; then dnf install --assumeyes ./runup.rpm; else zypper --non-interactive install --allow-unsigned-rpm ./runup.rpm; fi
    ;;
*)
    echo "provision.sh: the package is neither a .deb nor an .rpm" >&2
    exit 65
    ;;
esac

if [ -s token ]; then
    runup bake --deps --token-file token
else
    runup bake --deps
fi
forget

# Whatever identifies this machine must not end up on every machine of the image: cloud-init's state, the machine id, host
# keys, random seeds, the keys that systemd and NetworkManager generated, and logs.
if command -v cloud-init >/dev/null; then cloud-init clean --logs; fi
if [ -e /etc/machine-id ]; then : >/etc/machine-id; fi
rm -rf /var/lib/dbus/machine-id /var/lib/systemd/random-seed /boot/loader/random-seed /boot/efi/loader/random-seed \
    /efi/loader/random-seed /var/lib/systemd/credential.secret /var/lib/NetworkManager/secret_key \
    /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /var/log/journal/* /var/log/cloud-init*.log
if command -v apt-get >/dev/null; then apt-get clean; fi
if command -v dnf >/dev/null; then dnf clean all; fi

# Final check: the image has no identity, token or log of a runner.
runup bake --check
sync
