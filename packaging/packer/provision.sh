#!/bin/sh
# Makes the machine that it runs on, as root, the master of an image. Packer's template beside it uploads and starts it; any
# other tool that builds images can do the same.
#
#   RUNUP_BAKE_FOLDER   holds `package`, the .deb or .rpm of runup, and where it is needed `token`, with nothing else in it.
#                       Deleted at the end, whatever happens; the token as soon as it has been used
#   RUNUP_URL           whose list of runner applications is asked; or, without a token:
#   RUNUP_ARCHIVE, RUNUP_SHA256   the runner's archive
#   RUNUP_…             any other option of `runup bake`
set -eu
cd "$RUNUP_BAKE_FOLDER"
# What is only deleted is still on the disk, and the image is one of the disk.
forget() { [ ! -f token ] || shred --remove token 2>/dev/null || rm -f token; }
trap 'forget; cd / && rm -rf "$RUNUP_BAKE_FOLDER"' EXIT
trap 'exit 143' HUP INT TERM

# A template passes on what nobody has set as empty, which is no URL and no digest.
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

# What is this machine's own must not become that of every machine of the image: cloud-init's memory of its first boot, the
# machine's id, its host keys, its random seeds, the keys that systemd and NetworkManager made for it, and what was logged.
if command -v cloud-init >/dev/null; then cloud-init clean --logs; fi
if [ -e /etc/machine-id ]; then : >/etc/machine-id; fi
rm -rf /var/lib/dbus/machine-id /var/lib/systemd/random-seed /boot/loader/random-seed /boot/efi/loader/random-seed \
    /efi/loader/random-seed /var/lib/systemd/credential.secret /var/lib/NetworkManager/secret_key \
    /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub /var/log/journal/* /var/log/cloud-init*.log
if command -v apt-get >/dev/null; then apt-get clean; fi
if command -v dnf >/dev/null; then dnf clean all; fi

# The last word: no identity, no token, no log of a runner.
runup bake --check
sync
