# What an operator sets for the jobs, and what a job does about it.

# Two values that no message, unit or command line may have.
readonly of_jobs=canary-of-the-jobs
readonly of_proxy=canary-of-the-proxy

# The last job found everything that was set.
job_found_the_settings() {
    job_says "OF_THE_JOBS=$of_jobs"
    job_says "https_proxy=http://bob:$of_proxy@127.0.0.1:3128"
    job_says "no_proxy=internal.test"
    job_says "PATH=/usr/local/bin:/usr/bin:/bin:/opt/tools"
    job_says "the hook started has run"
}

install_with_settings() {
    exits 0 runup install --proxy "http://bob:$of_proxy@127.0.0.1:3128" --no-proxy internal.test \
        --env "OF_THE_JOBS=$of_jobs" --hook-job-started /usr/local/bin/started.sh \
        --path /usr/local/bin:/usr/bin:/bin:/opt/tools "$@"
    must_not grep canary "$here/stdout" "$here/stderr"
    within 60 own_online
}

# The values are in files of root only.
no_value_is_shown() {
    local found
    must_not grep --recursive canary "$root/etc/systemd"
    # The words of this very search do not count.
    found=$(inside sh -c 'for p in /proc/[0-9]*; do tr "\0" " " <$p/cmdline; echo; done' 2>/dev/null |
        grep --fixed-strings --regexp="$of_jobs" --regexp="$of_proxy" | grep --invert-match systemd-run || true)
    same "" "$found" "the command lines with a value"
    for command in status plan; do
        exits 0 runup "$command"
        must_not grep canary "$here/stdout" "$here/stderr"
        says OF_THE_JOBS
    done
    same 600 "$(stat --format=%a "$root"/var/lib/runup/*.environment)" "the mode of the record"
    same 640 "$(stat --format=%a "$root$tree/.env")" "the mode of .env"
}

# A service gets them, keeps them through restarts and re-installations, and knows the operator's own lines.
scenario_what_the_operator_sets() {
    with_service
    hook started
    install_with_settings
    hostile env
    job_found_the_settings
    no_value_is_shown
    # The operator's own lines come after runup's, and win.
    printf 'OWN=mine\nno_proxy=other.test\n' >>"$root$tree/.env"
    exits 0 runup install
    says "nothing to do"
    as_root systemctl restart "$unit"
    within 60 own_online
    hostile 'env; plant $tree/.env </dev/null; alter $tree/.path s,/opt/tools,/tmp,'
    job_says OWN=mine
    job_says no_proxy=other.test
    job_says "could not plant .env"
    job_says "could not alter .path"
    # A new registration does not lose them.
    exits 0 runup runners delete "$(own_id)"
    exits 0 runup install
    within 60 own_online
    hostile env
    job_says OWN=mine
    job_says "OF_THE_JOBS=$of_jobs"
    exits 0 runup remove
    must_not grep --recursive canary "$root/etc" "$root/var/lib/runup" "$root/opt"
    absent "$tree" /var/lib/runup/opt-actions-runner.environment
}

# The tree of an ephemeral runner is its jobs' to change, and containers leave files of root in the work directory. What one job leaves is
# gone before the next, and what was set is back for each.
scenario_ephemeral_five_jobs() {
    local turn look leave
    server
    machine_with_docker
    credentials
    hook started
    switch_on
    docker_on
    install_with_settings --ephemeral --groups docker
    no_value_is_shown
    look='env; find $tree $work -name "left*" 2>/dev/null; pgrep --full "^sleep 6000"; ls -A $work $work/hello/hello'
    leave='
for file in .env .path .ca-bundle.pem .setup_info; do plant $tree/$file <<<"OF_THE_JOBS=stolen"; done
plant $tree/.runner_migrated <$tree/.runner
mkdir -p $work/left/deep/deeper $work/_tool/left $tree/left $work/hello/hello/left
touch $work/left/deep/deeper/file && chmod 000 $work/left/deep/deeper && chmod 500 $work/left/deep $work/left $work/_tool/left
ln -s / $work/left-link; mkfifo $work/left-fifo
docker run --rm --network none --volume $work:/work tiny sh -c "
    mkdir -p /work/left-of-root/deep && cp /bin/busybox /work/left-of-root/setuid
    chmod 4755 /work/left-of-root/setuid; chmod 500 /work/left-of-root/deep /work/left-of-root" && echo as root
hide sleep 6000; escape "exec sleep 6000"; echo over'
    for turn in 1 2 3 4 5; do
        within 60 own_online
        hostile "$look; echo looked; $leave"
        job_says over
        job_says "as root"
        job_found_the_settings
        nothing_was_left
        echo "turn $turn"
    done
    within 60 own_online
    hostile "$look"
    job_found_the_settings
    nothing_was_left
    within 60 own_online
    exits 0 runup remove
    must_not inside pgrep --full '^sleep 6000'
    absent "$tree"
}

# The last job found nothing of an earlier one.
nothing_was_left() {
    job_of "$last_job" .log | sed '/^looked$/,$d' >"$here/looked"
    must_not grep --regexp=left --regexp=stolen --regexp='^[0-9][0-9]*$' "$here/looked"
}

# A work directory elsewhere holds nothing of anybody else, and is one runner's alone.
scenario_work_directories_that_are_taken() {
    server
    machine
    credentials
    switch_on
    as_root install -D /dev/null /srv/data/precious
    exits 78 runup plan --work /srv/data
    says "it contains other files, such as precious"
    exits 78 runup install --work /srv/data
    same "" "$(state '.runners[].name')" "the runners"
    exits 0 runup install --work /srv/new/work
    within 60 own_online
    hostile 'echo left >$work/left; pwd'
    same actions-runner "$(inside stat --format=%U /srv/new/work)" "the owner of the work directory"
    exits 0 runup install --work /srv/new/work
    says "nothing to do"
    exits 78 runup install --dir /opt/second --name second --work /srv/new/work
    says "the runner in $tree work there"
    # As a container that runs as root leaves it.
    as_root install -D -m 0400 /dev/null /srv/new/work/of-root/file
    as_root ln -s /srv/data /srv/new/work/link
    exits 0 runup remove
    test -e "$root/srv/data/precious"
    absent /srv/new
    # The runner's user owns what it cannot have been given.
    as_root useradd --system --no-create-home other
    as_root install -d -o other /srv/others
    exits 78 runup install --work /srv/others/work
    says "user id"
    absent /srv/others/work
}

# A script that a job could change is not run for the next one, nor one that is not there.
scenario_hooks_that_are_no_hooks() {
    with_service
    hook started
    as_root useradd --system --no-create-home other
    as_root chown actions-runner /usr/local/bin/started.sh
    exits 78 runup install --hook-job-started /usr/local/bin/started.sh
    says "actions-runner can change /usr/local/bin/started.sh"
    as_root chown root /usr/local/bin/started.sh
    as_root chmod 644 /usr/local/bin/started.sh
    exits 78 runup plan --hook-job-started /usr/local/bin/started.sh
    says "it is not executable"
    within 60 own_online
}
