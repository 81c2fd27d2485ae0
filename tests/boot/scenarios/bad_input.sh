# First boots that cannot work. Each prints on the console and in cloud-init's log what is wrong and what to do, cloud-init
# reports an error, and nothing half-done stays. Once the cause is fixed, the next boot converges by itself.

# refused_at_boot CODE TEXT…: the result of the boot that was just started.
refused_at_boot() {
    local code=$1
    shift
    cloud_init error
    # cloud-init records the result of its script.
    same "Exit code: $code" "$(grep '^Exit code: ' "$root/var/log/cloud-init.log" | tail --lines=1)" "how the user-data ended"
    on_the_console 'error: ' 'hint: ' "$@"
    plain "$here/said"
    must_not grep --quiet --fixed-strings "$api_token" "$root$output"
}

# first_boot_refused INSTANCE CODE TEXT…: with the user-data on stdin; nothing is left behind.
first_boot_refused() {
    user_data
    instance "$1"
    shift
    console_from_here
    switch_on
    refused_at_boot "$@"
    must no_runner
    absent "/etc/systemd/system/$unit"
    same "" "$(inside ls --almost-all /opt)" "what is in /opt"
    must_not grep --quiet '^actions-runner:' "$root/etc/passwd"
}

# After the fix, the next boot converges by itself; then the machine is reset.
mended() {
    reboot
    within 60 online
    converged
    cloud_init "done"
    one_runner_and_no_litter
    exits 0 runup remove
    must no_runner
    inside systemctl disable --quiet runup.service
    switch_off
}

scenario_first_boot_with_a_bad_token() {
    server
    machine
    packaged
    # Without a secret manager.
    shipped persistent | sed 's|token-command = .*|token-file = "/etc/runup/token"|' >"$here/usual"
    token_file() { install -D --mode=600 /dev/stdin "$root/etc/runup/token" <<<"$1"; }
    first_boot_refused missing 66 'failed to read the token from /etc/runup/token' 'Pass a file that holds only the token' \
        <"$here/usual"
    token_file "$api_token"
    mended

    token_file ""
    first_boot_refused empty 77 'the token from /etc/runup/token is empty' 'Put the token there' <"$here/usual"
    token_file "$api_token"
    mended

    # A common mistake: files written by cloud-init are world-readable by default.
    sed "s|^write_files:|&\n  - path: /etc/runup/token\n    content: $api_token|" "$here/usual" >"$here/open"
    first_boot_refused open 78 'can be read by every user' 'chmod 600 /etc/runup/token' <"$here/open"
    # As the hint suggests.
    chmod 600 "$root/etc/runup/token"
    mended
}

# A command that cannot work, and one whose secret manager starts late, which needs no fix.
scenario_first_boot_with_a_bad_command() {
    server
    machine
    packaged
    shipped persistent >"$here/fetched"
    rm --force "$root$vault"
    sed "s|cat $vault|fetch-secret|" "$here/fetched" >"$here/no-such-program"
    first_boot_refused no-such-program 78 'the token command `fetch-secret` failed' 'not found' 'Run it by hand' \
        <"$here/no-such-program"
    switch_off
    user_data <"$here/fetched"
    instance late
    console_from_here
    switch_on_at_once
    within 60 said_on_console 'trying again in 4 s'
    must no_runner
    keep_secret "$api_token"
    within 60 online
    within 60 is_up
    cloud_init "done"
    one_runner_and_no_litter
}

said_on_console() { console | grep --fixed-strings -- "$1"; }

scenario_first_boot_on_a_bad_machine() {
    server
    machine
    packaged
    shipped persistent >"$here/usual"
    printf '[Mount]\nWhat=tmpfs\nWhere=/opt\nType=tmpfs\nOptions=size=32k,mode=755\n' >"$root/etc/systemd/system/opt.mount"
    mkdir --parents "$root/etc/systemd/system/local-fs.target.wants"
    ln --symbolic ../opt.mount "$root/etc/systemd/system/local-fs.target.wants/"
    first_boot_refused full 74 '/opt' 'space' <"$here/usual"
    rm "$root/etc/systemd/system/local-fs.target.wants/opt.mount" "$root/etc/systemd/system/opt.mount"
    mended

    fault '{"route":"*","kind":"clock","seconds":86400}'
    first_boot_refused clock 75 "this machine's clock is 24 h behind GitHub's" 'timedatectl' <"$here/usual"
    no_faults
    mended
}

scenario_first_boot_with_a_bad_server() {
    server
    machine
    packaged
    shipped persistent >"$here/usual"
    sed "s|$org_url|$server_url/missing-org|" "$here/usual" >"$here/elsewhere"
    first_boot_refused elsewhere 77 'organization missing-org' '404' 'spelling of the URL' <"$here/elsewhere"
    sed --in-place "s|$server_url/missing-org|$org_url|" "$root/etc/runup/config.toml"
    mended

    # No network until the deadline passes, and at the next boot it comes up late: no fix is needed.
    server_off
    user_data < <(configured 'deadline = "20s"' <"$here/usual")
    instance nowhere
    console_from_here
    switch_on
    refused_at_boot 75 "$server_url" 'connection refused' 'Check that this machine can reach the host'
    absent "/etc/systemd/system/$unit" $tree
    # The pause between two runs is too long for a test.
    install -D --mode=644 /dev/stdin "$root/etc/systemd/system/runup.service.d/impatient.conf" <<<$'[Service]\nRestartSec=1s'
    reboot
    within 150 restarted runup.service
    # The runs from now on must get something done.
    must sed --in-place 's/^deadline = "20s"$/deadline = "5m"/' "$root/etc/runup/config.toml"
    must grep --quiet '^deadline = "5m"$' "$root/etc/runup/config.toml"
    server_on
    within 120 online
    converged
    one_runner_and_no_litter
}

restarted() { (($(property "$1" NRestarts) >= 1)); }
