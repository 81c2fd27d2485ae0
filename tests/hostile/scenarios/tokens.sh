# C3 and H1: a job that reads a token.

# A program that stores everything it receives, and fails.
thief='#!/bin/bash
(umask 0; { env; printf "%s\n" "$@"; } >>/srv/loot/given)
exit 1'

scenario_token_for_a_planted_config_sh() {
    with_service
    hostile "for program in config.sh env.sh bin/Runner.Listener bin/standin/http.sh; do plant \$tree/\$program <<'THIEF'
$thief
THIEF
done"
    attempt runup install --work elsewhere
    nothing_was_taken
    attempt runup remove
    nothing_was_taken
    must no_runner
}

# The same if the runner's user owns the tree, because runup does not update it: its programs are replaced, and get no token
# either.
scenario_token_for_a_program_of_an_open_tree() {
    local open=()
    ! knows --self-update || open=(--self-update)
    with_service "${open[@]}"
    hostile "for program in config.sh env.sh bin/Runner.Listener bin/standin/http.sh bin/standin/remove.sh; do plant \$tree/\$program <<'THIEF'
$thief
THIEF
done"
    job_says "planted config.sh"
    attempt runup install --work elsewhere "${open[@]}"
    absent $loot/given
    nothing_was_taken
    attempt runup remove
    succeeded
    absent $loot/given
    nothing_was_taken
    must no_runner
}

# The first runner's job can never write to the tree of a second runner while it is being placed.
scenario_token_by_racing_a_second_tree() {
    with_service
    hostile "cat >\$loot/thief <<'THIEF'
$thief
THIEF
chmod 755 \$loot/thief
cat >\$loot/racer.sh <<'RACER'
shopt -s nullglob
while :; do
    for dir in /opt/second /opt/.[!.]* /var/lib/runup/*; do
        [[ -e \$dir/config.sh ]] || continue
        for program in config.sh env.sh; do
            cmp -s /srv/loot/thief \$dir/\$program && continue
            cp /srv/loot/thief \$dir/.new 2>/dev/null && mv -f \$dir/.new \$dir/\$program && echo \$dir/\$program >>/srv/loot/won
        done
    done
done
RACER
hide bash \$loot/racer.sh
hide bash \$loot/racer.sh"
    attempt runup install --dir /opt/second --name second
    nothing_was_taken
    absent $loot/won
    succeeded
    within 60 online 2
    [[ $(stat --format=%u "$root/opt/second/_work") != $(stat --format=%u "$root$tree/_work") ]] || fail "both runners have the same user"
}

# A process of an earlier job searches every process of its user.
scenario_token_in_a_process_of_the_same_user() {
    with_service
    hostile "cat >\$loot/snooper.sh <<'SNOOPER'
while :; do
    cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -a 'INPUT_TOKEN=.' >>/srv/loot/seen
done
SNOOPER
escape 'exec bash /srv/loot/snooper.sh'
for try in {1..300}; do pgrep --full snooper.sh >/dev/null && break; sleep 0.1; done; ps -o args -u \$(id -u)"
    job_says snooper.sh
    attempt runup install --work elsewhere
    nothing_was_taken
    succeeded
    attempt runup remove
    nothing_was_taken
    succeeded
}

# H1: the remove token goes to the server of the registration, whatever .runner contains.
scenario_remove_token_for_a_server_of_the_job_s() {
    with_service
    hostile "$(recorder)
alter \$tree/.runner \"s|\\\"gitHubUrl\\\": \\\"[^\\\"]*\\\"|\\\"gitHubUrl\\\": \\\"http://127.0.0.1:\$port/acme\\\"|\""
    attempt runup remove
    absent $loot/received
    nothing_was_taken
    must no_runner
}

# The same for a runner that runup did not set up: the operator's URL must match .runner.
scenario_remove_token_of_a_runner_set_up_by_hand() {
    server
    machine
    credentials
    switch_on
    by_hand
    # The same server under another name, to see what is sent there.
    echo "127.0.0.1 evil.test" >>"$root/etc/hosts"
    as_job sed --in-place 's|"gitHubUrl": "http://127.0.0.1:|"gitHubUrl": "http://evil.test:|' /opt/by-hand/.runner
    token_for_root remove
    : >"$root/root/empty.toml"
    attempt runup remove --config /root/empty.toml --dir /opt/by-hand --remove-token-file /root/remove-token
    nothing_went_to_evil
    attempt runup remove --config /root/empty.toml --dir /opt/by-hand --remove-token-file /root/remove-token --url "$org_url"
    nothing_went_to_evil
}
nothing_went_to_evil() {
    control GET requests | jq --exit-status 'all(.[]; .host | startswith("evil.test") | not)' >/dev/null ||
        fail "a request went to the server in .runner"
}

# An ordinary user's `run` and its jobs have the same uid. The API token is dropped once nothing needs it: a job finds it neither
# in the environment nor in the memory of the supervisor.
scenario_api_token_of_an_ordinary_user() {
    server
    machine
    switch_on
    as_root useradd --create-home ci
    (umask 077 && printf 'RUNUP_TOKEN=%s\n' "$api_token" >"$root/root/environment")
    inside systemd-run --quiet --unit=by-ci --property=User=ci --property=EnvironmentFile=/root/environment -- \
        /usr/bin/runup run --url "$org_url" --dir /home/ci/runner
    within 60 online
    hostile "cat >\$loot/memory.pl <<'PERL'
for my \$pid (grep { /^\d+\$/ && \$_ != \$\$ } map { s{/proc/}{}r } glob('/proc/[0-9]*')) {
    open(my \$name, '<', \"/proc/\$pid/comm\") or next;
    next unless <\$name> =~ /^runup/;
    open(my \$maps, '<', \"/proc/\$pid/maps\") or next;
    open(my \$memory, '<:raw', \"/proc/\$pid/mem\") or next;
    while (<\$maps>) {
        next unless /^([0-9a-f]+)-([0-9a-f]+) rw/;
        my (\$from, \$to) = (hex \$1, hex \$2);
        sysseek(\$memory, \$from, 0) or next;
        sysread(\$memory, my \$bytes, \$to - \$from) or next;
        while (\$bytes =~ /(ghp_sandbox[A-Z2-7]+)/g) { open(my \$log, '>>', '/srv/loot/memory'); print \$log \"\$1\n\" }
    }
}
PERL
perl \$loot/memory.pl
pids=\$(pgrep --exact runup); echo \"supervisor: \$pids\"
for pid in \$pids; do cat /proc/\$pid/environ /proc/\$pid/cmdline; done 2>/dev/null >\$loot/environment
ls \$loot"
    job_says "supervisor: "
    nothing_was_taken
}

# A crontab starts a process at a time that the job knows: the crontab is deleted before the next program gets a token.
scenario_token_for_a_crontab() {
    server
    machine
    credentials
    switch_on
    in_background ephemeral /usr/bin/runup run --ephemeral --after-job again
    within 60 online
    hostile 'echo "* * * * * cat /proc/[0-9]*/environ >>$loot/seen 2>/dev/null" | crontab - && crontab -l
echo "sleep 1" | at now + 1 minute 2>&1'
    job_says "* * * * *"
    within 60 own_online
    same "" "$(find "$root/var/spool/cron" -type f -user "$(uid_of actions-runner)" ! -name .SEQ)" "what cron and at would start"
    must_not inside crontab -l -u actions-runner
    inside systemctl stop ephemeral
    nothing_was_taken
}
