# Deleting a user that runup created: nothing of it stays, and nothing of it delays the deletion.

# Nothing in the machine runs as, belongs to or is scheduled for the uid $1.
nothing_of() {
    local found
    # Without those that only wait for process 1.
    found=$(inside ps -e -o uid= -o stat= -o pid= -o args= | awk -v uid="$1" '$1 == uid && $2 !~ /^Z/')
    same "" "$found" "what still runs"
    found=$(find "$root" -xdev -path "$root$loot" -prune -o -uid "$1" -print 2>/dev/null)
    same "" "$found" "what still belongs to the user"
    found=$(inside find /tmp /var/tmp /dev/shm /run /dev/mqueue -uid "$1" -print 2>/dev/null)
    same "" "$found" "what still belongs to the user in memory"
    found=$(inside sh -c 'cat /proc/sysvipc/msg /proc/sysvipc/sem /proc/sysvipc/shm' | awk -v uid="$1" '{ for (i = 4; i <= NF; i++) if ($i == uid) print }')
    same "" "$found" "the IPC of the user"
}

# Processes that replace themselves faster than they can be listed.
scenario_respawning_processes_at_a_removal() {
    local uid
    with_service
    uid=$(uid_of actions-runner)
    hostile "cat >\$loot/respawn.pl <<'PERL'
\$SIG{\$_} = 'IGNORE' for qw(TERM INT HUP);
\$0 = 'sleeping';
while (1) { exit if fork; select(undef, undef, undef, 0.0003) }
PERL
escape 'exec perl /srv/loot/respawn.pl'
hide perl \$loot/respawn.pl
# They are visible only now and then, on purpose.
for try in {1..200}; do ps -o args= -u \$(id -u) | grep sleeping && break; sleep 0.05; done"
    job_says sleeping
    attempt as_root timeout 100 /usr/bin/runup remove --deadline 60s
    succeeded
    must no_runner
    absent $tree /home/actions-runner
    must_not as_root id actions-runner
    nothing_of "$uid"
}

# A service with a fork bomb stops in time, and its runner is removed.
scenario_fork_bomb_at_a_stop() {
    local uid from
    with_service
    uid=$(uid_of actions-runner)
    hostile "cat >\$loot/bomb.pl <<'PERL'
\$SIG{\$_} = 'IGNORE' for qw(TERM INT HUP);
for (1 .. 3) { last if !fork }
while (1) { exit if fork; select(undef, undef, undef, 0.01) }
PERL
hide perl \$loot/bomb.pl
escape 'exec perl /srv/loot/bomb.pl'
sleep 2; ps -u \$(id -u) | wc -l"
    from=$(now)
    # A loaded machine with a fork bomb has little time for it.
    inside systemctl stop $unit
    note "stopped in $(since "$from")"
    inside systemctl start --no-block $unit
    attempt as_root timeout 100 /usr/bin/runup remove --deadline 60s
    succeeded
    must no_runner
    nothing_of "$uid"
}

scenario_what_a_user_leaves_behind() {
    local uid
    with_service
    uid=$(uid_of actions-runner)
    # As an operator may have done for a user that runs containers.
    inside loginctl enable-linger actions-runner
    # A process in a user namespace can become one of these ids.
    inside sh -c 'echo actions-runner:300000:65536 >>/etc/subuid'
    inside systemd-run --quiet --uid=300005 sleep 6000
    hostile "echo '* * * * * touch /srv/loot/by-cron' | crontab - && echo crontab
printf 'touch /srv/loot/by-at\n' | at now + 2 hours 2>&1
mkdir -p /tmp/left/a /var/tmp/left /dev/shm/left && touch /tmp/left/a/b /var/tmp/left/c /dev/shm/left/d
ln -s /root /tmp/left/root
mkdir /run/lock/left
chmod 000 /tmp/left/a
ipcmk -Q; ipcmk -M 4096; ipcmk -S 1
escape 'exec sleep 6000'
crontab -l; atq"
    job_says crontab
    exits 0 runup remove
    must_not as_root id actions-runner
    absent $tree /home/actions-runner /var/spool/cron/crontabs/actions-runner /var/lib/systemd/linger/actions-runner "/run/user/$uid"
    nothing_of "$uid"
    nothing_of 300005
    must test -d "$root/root"
}
