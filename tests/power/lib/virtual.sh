# A machine in QEMU, in the place of the container of tests/boot. It is prepared as a directory, as the others are, and then
# becomes a disk. Nothing but its own kernel writes to that disk.

readonly agent_port=4444

# The program that is started in the place of systemd, if any.
start=""

# Turns the machine, which was never on, into the disk that every later one is a copy of.
disk_of_machine() {
    local port=${server_url##*:}
    # The server is at the same address as for a container, which shares its network: what is sent there goes to QEMU's gateway.
    write_unit server.socket "[Socket]" "ListenStream=127.0.0.1:$port" "[Install]" "WantedBy=sockets.target"
    write_unit server.service "[Service]" "ExecStart=/lib/systemd/systemd-socket-proxyd 10.0.2.2:$port"
    write_unit agent.service "[Service]" "ExecStart=/usr/local/sbin/agent" "Restart=always" "[Install]" "WantedBy=multi-user.target"
    install --mode=755 /dev/stdin "$root/usr/local/sbin/agent" <<'AGENT'
#!/bin/bash
# Carries out the commands that come by the second serial port, and answers with code and output.
exec 3<>/dev/ttyS1
stty --file=/dev/ttyS1 raw -echo
while read -r id command <&3; do
    output=$(bash -c "$(base64 --decode <<<"$command")" </dev/null 2>/dev/console 3>&- | base64 --wrap=0; exit "${PIPESTATUS[0]}")
    printf '\n%s %s %s\n' "$id" "$?" "$output" >&3
done
AGENT
    printf '[Match]\nName=e* !lo\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/power.network"
    chroot "$root" systemctl --quiet enable server.socket agent.service systemd-networkd.service
    # Each of them costs seconds, and tests nothing here.
    chroot "$root" systemctl --quiet mask serial-getty@.service systemd-networkd-wait-online.service
    install --mode=755 /dev/stdin "$root/usr/local/sbin/small" <<SMALL
#!/bin/bash
# A machine without systemd, which is up in seconds: it installs its runner, as a script at boot would.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/null >/dev/console 2>&1
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
ln --symbolic --force /proc/self/fd /dev/fd
hostname "\$(cat /etc/hostname)"
interface=\$(ls /sys/class/net | grep -v lo)
ip link set lo up
ip address add 10.0.2.15/24 dev "\$interface"
ip link set "\$interface" up
ip route add default via 10.0.2.2
systemd-socket-activate --listen=127.0.0.1:$port /lib/systemd/systemd-socket-proxyd 10.0.2.2:$port &
(runup install --service none && touch /run/installed) &
# Process 1 waits for whoever has no parent; the agent must not end.
while :; do agent; sleep 1; done
SMALL
    truncate --size=1500M "$here/first.img"
    mke2fs -q -t ext4 -d "$root" "$here/first.img"
}

write_unit() {
    local name=$1
    shift
    printf '%s\n' "$@" >"$root/etc/systemd/system/$name"
}

# A disk as it was before the first boot.
new_disk() { cp --sparse=always --reflink=auto "$here/first.img" "$here/disk.img"; }

switch_on_at_once() {
    # The console of each boot follows that of the one before.
    setpriv --pdeathsig KILL qemu-system-x86_64 -accel "${RUNUP_POWER_ACCEL:-tcg}" -smp 2 -m 512 -display none -no-reboot -nodefaults \
        -kernel "$RUNUP_POWER_KERNEL/kernel" -initrd "$RUNUP_POWER_KERNEL/initrd" \
        -append "console=ttyS0 root=/dev/vda rw panic=-1 ${start:+start=$start}" \
        -drive "file=$here/disk.img,format=raw,if=virtio,cache=writeback" \
        -netdev user,id=net -device virtio-net-pci,netdev=net,romfile= \
        -chardev "file,id=console,path=$here/console.log,append=on" -device isa-serial,chardev=console \
        -chardev "socket,id=agent,host=127.0.0.1,port=$agent_port,server=on,wait=off" -device isa-serial,chardev=agent \
        </dev/null >>"$here/qemu.log" 2>&1 &
    nspawn=$!
}

# The power fails. What was in the memory of the machine is lost, and so is what its disk had not been given.
power_cut() {
    kill -KILL "$nspawn"
    wait "$nspawn" || true
    nspawn=""
}

# inside COMMAND…: runs it in the machine and prints its output; fails as the command does, or if there is no answer.
inside() {
    local wire id code answer
    id=$(now)
    exec {wire}<>"/dev/tcp/127.0.0.1/$agent_port" || return 1
    printf '%s %s\n' "$id" "$(printf '%q ' "$@" | base64 --wrap=0)" >&"$wire"
    while read -r -t "${inside_deadline:-20}" answer code reply <&"$wire"; do
        [[ $answer == "$id" ]] || continue
        exec {wire}>&-
        base64 --decode <<<"$reply"
        return "$code"
    done
    exec {wire}>&-
    echo "no answer of the machine to: $*" >&2
    return 125
}

# The machine's own log is on its disk, where the host does not look.
journal() { inside journalctl --quiet --output=short-precise --no-hostname "$@"; }
