# A job that tries to influence the next start of its runner, or its next registration.

# Plants every file that a start reads, a service runs, or an operator starts.
steer() {
    recorder
    cat <<'STEER'
cat >$loot/ran.sh <<'RAN'
#!/bin/bash
id -u >>/srv/loot/ran
exit 1
RAN
cd $tree
plant .env <<<"EVIL=evil
http_proxy=http://127.0.0.1:$port
SSL_CERT_FILE=$loot/evil.pem"
plant .path <<<"$loot/evil:$PATH"
sed "s|\"serverUrlV2\": \"[^\"]*\"|\"serverUrlV2\": \"http://127.0.0.1:$port/\"|" .runner | plant .runner_migrated
plant .credentials_migrated <.credentials
plant .setup_info <<<'[{"group":"evil","detail":"EVIL"}]'
for program in run-helper.sh run.sh svc.sh runsvc.sh bin/runsvc.sh externals/node20/bin/node bin/Runner.Listener config.sh env.sh; do
    plant $program <$loot/ran.sh
done
touch update.finished
STEER
}

scenario_steering_the_next_start() {
    with_service
    local job
    hostile "$(steer)"
    inside systemctl restart --no-block $unit
    within 60 sessions_or_steered 2
    absent $loot/ran $loot/received
    within 60 online
    hostile 'env; cat $tree/.setup_info; PATH=$PATH:/sbin; echo over'
    job_does_not_say EVIL
    job_does_not_say "$loot/evil"
    # By hand, as an operator would, and with the commands that only look.
    attempt runup status
    attempt runup install
    succeeded
    must online
    absent $loot/ran $loot/received
    only_logs_and_work $tree actions-runner
    nothing_was_taken
}

# The tree of an ephemeral runner is not sealed while its job runs: what the job leaves is deleted before the next registration.
scenario_steering_the_next_registration() {
    local first
    server
    machine
    credentials
    switch_on
    exits 0 runup install --ephemeral
    within 60 online
    first=$(runner_id)
    hostile "$(steer)"
    within 60 fresh_or_steered "$first"
    absent $loot/ran $loot/received
    within 60 fresh_runner "$first"
    hostile 'env; cat $tree/.setup_info; echo over'
    job_does_not_say EVIL
    job_does_not_say "$loot/evil"
    absent $loot/ran $loot/received
    nothing_was_taken
}

steered() { [[ -e $root$loot/ran || -e $root$loot/received ]]; }
sessions_or_steered() { steered || sessions "$1"; }
fresh_or_steered() { steered || fresh_runner "$1"; }

# What root reads in a tree may not be a regular file: a FIFO, a link to a file of root, a directory, a hard link to another file.
scenario_files_that_are_none() {
    local kind starts=1
    with_service
    install --mode=600 /dev/stdin "$root/root/secret" <<<"only for root: $RANDOM$RANDOM"
    for kind in fifo link directory hard; do
        hostile "shopt -s dotglob nullglob
cd \$tree
for file in .runner .credentials .credentials_rsaparams .env .path .service .setup_info svc.sh runsvc.sh run-helper.sh \
    .runner_migrated bin/Runner.Listener.deps.json _diag/* _work/*/* _diag/Runner_20991231-235959-utc.log; do
    [[ \$file != _work/_temp/* ]] || continue
    rm -rf \$file 2>/dev/null
    case $kind in
    fifo) mkfifo \$file ;;
    link) ln -s /root/secret \$file ;;
    directory) mkdir \$file ;;
    hard) ln /etc/passwd \$file ;;
    esac
done 2>/dev/null
ls -la . _diag"
        attempt as_root timeout 40 /usr/bin/runup status
        must_not grep --fixed-strings --file="$root/root/secret" "$here/stdout" "$here/stderr"
        attempt as_root timeout 100 /usr/bin/runup install --deadline 60s
        must_not grep --fixed-strings --file="$root/root/secret" "$here/stdout" "$here/stderr"
        # The unit does not allow so many starts in a row.
        inside systemctl reset-failed $unit
        inside systemctl restart --no-block $unit
        within 60 sessions $((++starts))
        within 60 online
    done
    attempt as_root timeout 100 /usr/bin/runup remove --deadline 60s
    succeeded
    must no_runner
    same "600 root root" "$(stat --format='%a %U %G' "$root/root/secret")" "the mode and owner of root's file"
    same "644 root root" "$(stat --format='%a %U %G' "$root/etc/passwd")" "the mode and owner of /etc/passwd"
    must_not grep --recursive --devices=skip --fixed-strings --file="$root/root/secret" "$root$loot"
}

# In the tree of an ephemeral runner, the job can move the log and work directories: root does not follow what replaces
# them.
scenario_directories_that_lead_elsewhere() {
    local first place
    server
    machine
    credentials
    switch_on
    install -D --mode=600 /dev/stdin "$root/root/precious/file" <<<precious
    install --directory --mode=777 "$root/srv/shared"
    install --mode=644 /dev/stdin "$root/srv/shared/file" <<<shared
    exits 0 runup install --ephemeral
    for place in /etc /srv/shared; do
        within 60 online
        first=$(runner_id)
        hostile "rm -rf \$tree/_diag; ln -s $place \$tree/_diag && echo moved
mv \$work \$tree/away; ln -s $place \$work; mkdir -p \$tree/.runner \$tree/.credentials_migrated/x
ln -s /root/precious \$tree/.runner_migrated; ls -la \$tree"
        within 60 fresh_runner "$first"
    done
    # Not accessible to others, including the next listener of the same user.
    within 60 online
    first=$(runner_id)
    hostile 'rm -rf $tree/_diag && mkdir -m 000 $tree/_diag; mv $work $tree/away && mkdir -m 000 $work'
    within 60 fresh_runner "$first"
    hostile 'echo still at work'
    job_says "still at work"
    exits 0 runup remove
    must no_runner
    absent $tree
    same precious "$(<"$root/root/precious/file")" "root's file"
    same shared "$(<"$root/srv/shared/file")" "a file that all could see"
    same "600 root 644 root 777 root 755 root" "$(stat --format='%a %U' "$root"/{root/precious/file,srv/shared/file,srv/shared,etc} | paste --serial --delimiters=' ')" \
        "modes and owners of root's"
    must test -s "$root/etc/passwd"
}

# A FIFO in the place of a file that a program of the tree reads does not delay the removal.
scenario_fifo_at_a_removal() {
    with_service
    hostile 'for file in .env .path .setup_info _diag/fifo; do rm -f $tree/$file; mkfifo $tree/$file && echo "made $file"; done'
    attempt as_root timeout 100 /usr/bin/runup remove --deadline 40s
    succeeded
    must no_runner
    absent $tree
}
