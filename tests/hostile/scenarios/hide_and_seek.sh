# A job of an ephemeral runner hides something at every place that it can write to, and in the kernel; the next job looks for it.

# Prints every directory outside of the work directory that the job's user can write to.
places() {
    cat <<'PLACES'
places() {
    find / -xdev -type d -writable -not -path "$work*" 2>/dev/null
    find /dev/shm /dev/mqueue /run /tmp /sys/fs/cgroup -type d -writable 2>/dev/null
}
# key SYSCALL-OF-KEYCTL…: the smallest Debian has Perl, but no keyctl.
sys() { perl -e 'my @a = map { /^-?\d+$/ ? $_ + 0 : "$_" } @ARGV; my $n = shift @a; my $r = syscall($n, @a); print "$r\n"; exit($r < 0)' "$@"; }
PLACES
}

hide() {
    places
    cat <<'HIDE'
for place in $(places | sort --unique); do
    [ $place != /dev/mqueue ] || { touch $place/hidden && echo "hidden: $place"; continue; }
    mkdir $place/hidden 2>/dev/null || { touch $place/hidden 2>/dev/null && echo "hidden: $place"; continue; }
    echo secret >$place/hidden/file
    mkdir -p $place/hidden/closed/in/side && chmod 000 $place/hidden/closed/in/side $place/hidden/closed/in $place/hidden/closed
    ln -s /etc $place/hidden/link; mkfifo $place/hidden/fifo
    echo "hidden: $place"
done
grep -q '/systemd-private-.* /tmp ' /proc/self/mountinfo && echo "private: tmp"
[ "$(awk '$5 == "/dev/shm"' /proc/self/mountinfo | wc -l)" -ge 2 ] && [ "$(stat --format=%a /dev/shm)" = 1777 ] && echo "private: shm"
echo 'echo hidden' >>$HOME/.bashrc; mkdir -p $HOME/.docker && echo '{"auths":{"hidden":{}}}' >$HOME/.docker/config.json; chmod 500 $HOME
ln -s /root $tree/hidden-link
ipcmk -Q; ipcmk -M 4096; ipcmk -S 1
sys 248 user hidden secret 6 -4 && echo "hidden: user keyring"
persistent=$(sys 250 22 4294967295 -3) && sys 248 user hidden secret 6 $persistent && echo "hidden: persistent keyring"
# Until the quota is full, so that nobody could add one more.
perl -e 'my ($kind, $text, $name) = ("user", "x"); do { $name = "hidden" . ++$i } while syscall(248, $kind, $name, $text, 1, -4) > 0; print "hidden: $i more keys\n"'
echo '* * * * * touch /srv/loot/by-cron' | crontab - && echo "hidden: crontab"
echo 'touch /srv/loot/by-at' | at now + 2 hours 2>&1 && echo "hidden: at"
hide sleep 6000; escape 'exec sleep 6000'
cat >/tmp/fork.pl <<'PERL'
$SIG{$_} = 'IGNORE' for qw(TERM INT HUP);
while (1) { exit if fork; select(undef, undef, undef, 0.001) }
PERL
hide perl /tmp/fork.pl
echo over
HIDE
}

seek() {
    places
    cat <<'SEEK'
{
    places | sed 's|$|/|' | while read -r place; do find $place -xdev -name '*hidden*'; done
    find / -xdev -user $(id -u) -not -path "$tree/*" -not -path "$HOME/*" -not -path $HOME
    grep -rl hidden $HOME
    find $tree/_diag -name 'Worker_*' | tail --lines=+2
    ps -u $(id -u) -o args= | grep -E '[s]leep 6000|[f]ork.pl'
    awk -v uid=$(id -u) 'FNR > 1 { for (i = 4; i <= NF; i++) if ($i == uid) print FILENAME, $0 }' /proc/sysvipc/*
    grep hidden /proc/keys
    crontab -l; atq
} 2>/dev/null | sort --unique | sed 's/^/found: /'
echo looked
SEEK
}

scenario_hide_and_seek() {
    local first uid mode
    nspawn_options+=(--system-call-filter=@keyring)
    server
    machine
    credentials
    switch_on
    # As an operator may have done for all users of the machine.
    install --directory --mode=1777 "$root$loot" "$root/srv/shared" "$root/var/crash"
    exits 0 runup install --ephemeral
    within 60 online
    inside systemctl cat "$unit" | grep --line-regexp PrivateTmp=yes >/dev/null || fail "the unit has no /tmp of its own"
    exits 0 runup install --ephemeral
    says "nothing to do"
    uid=$(uid_of actions-runner)
    first=$(runner_id)
    hostile "$(hide)"
    job_says over
    job_says "private: tmp"
    job_says "private: shm"
    for place in /tmp /var/tmp /dev/shm /dev/mqueue /run/lock /srv/shared /var/crash /home/actions-runner /opt/actions-runner \
        "user keyring" "persistent keyring" crontab at; do
        job_says "hidden: $place"
    done
    within 60 fresh_runner "$first"
    first=$(runner_id)
    no_process_of_the_job_of "$uid"
    hostile "$(seek)"
    job_says looked
    job_does_not_say "found: "
    within 60 fresh_runner "$first"
    # What no job can do to a locked tree is undone before the next one, from the copy beside it.
    first=$(runner_id)
    mode=$(stat --format=%a "$root/opt/actions-runner/externals")
    chmod 777 "$root/opt/actions-runner/externals"
    touch "$root/opt/actions-runner/bin/planted"
    hostile "echo third"
    job_says third
    within 60 fresh_runner "$first"
    same "$mode" "$(stat --format=%a "$root/opt/actions-runner/externals")" "the mode of a directory of programs"
    absent /opt/actions-runner/bin/planted
    # Root has the logs of both.
    same "0700 root" "$(stat --format='%#a %U' "$root/var/log/runup")" "the mode and owner of the kept logs"
    same 3 "$(find "$root/var/log/runup" -name 'Worker_*.log' | wc -l)" "the number of kept logs"
    exits 0 runup logs
    says "worker"
    inside systemctl stop $unit
    inside systemctl status $unit --no-pager || true
    nothing_of_but_home "$uid"
    exits 0 runup remove
    nothing_of "$uid"
    absent "/var/log/runup/*"
}

# Nothing that the job of the user $1 has started runs.
no_process_of_the_job_of() {
    local found
    found=$(inside ps -e -o uid= -o stat= -o args= | awk -v uid="$1" '$1 == uid && $2 !~ /^Z/ && /sleep 6000|perl/')
    same "" "$found" "what the job left running"
}

# Outside of its home directory and its tree, the user $1 has nothing, here and in the kernel. Prints what there is of it.
nothing_of_but_home() {
    echo "--- find / -xdev -user $1, ps -u $1, ipcs, /dev/mqueue: what is there of it"
    find "$root" -xdev -uid "$1" -printf '/%P\n' | awk -F/ '{ n["/" $2 "/" $3]++ } END { for (dir in n) print n[dir], "in", dir }'
    inside ps -u "$1" -o pid=,stat=,args= || true
    inside ipcs
    inside ls -la /dev/mqueue
    echo "---"
    local found
    found=$(find "$root" -xdev -uid "$1" -not -path "$root/home/actions-runner*" -not -path "$root/opt/actions-runner/*" -print)
    same "" "$found" "what still belongs to the user"
    same "" "$(inside ps -u "$1" -o args= || true)" "what the user still runs"
    found=$(inside find /tmp /var/tmp /dev/shm /run /dev/mqueue -uid "$1" -print 2>/dev/null)
    same "" "$found" "what still belongs to the user in memory"
    found=$(inside sh -c 'cat /proc/sysvipc/msg /proc/sysvipc/sem /proc/sysvipc/shm' | awk -v uid="$1" '{ for (i = 4; i <= NF; i++) if ($i == uid) print }')
    same "" "$found" "the IPC of the user"
    found=$(inside cat /proc/key-users | awk -v uid="$1:" '$1 == uid { split($3, keys, "/"); if (keys[1] > 2) print }')
    same "" "$found" "the keys of the user"
    absent /var/spool/cron/crontabs/actions-runner
    same "" "$(inside find /var/spool/cron/atjobs -type f -name 'a*')" "the jobs of at"
}
