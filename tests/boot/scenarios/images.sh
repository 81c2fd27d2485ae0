# Machines that boot from an image in which the runner is already.

# The disk of a machine that was never on, with what the package brings and a runner that was baked with the flags "$@".
# It becomes the image NAME, $1.
baked() {
    local name=$1
    shift
    machine
    packaged
    exits 0 as_administrator bake --root "$root" "$@"
    image "$name"
}

# A machine from that image, with an identity of its own from the cloud, whose user-data comes from stdin.
boot_from() {
    machine_in "$here/$2" "boot-$$-$2" "$here/images/$1"
    cat >"$here/user-data-of-$2"
    user_data <"$here/user-data-of-$2"
    console_from_here
}

# Two machines from one image: no download, an identity each.
scenario_baked_image() {
    server
    baked current
    must_not test -s "$here/images/current/etc/machine-id"
    local fetched one from
    fetched=$(requests archive)
    boot_from current one < <(shipped baked)
    from=$(now)
    switch_on_at_once
    within 60 online 1
    note "online $(since "$from") after power-on"
    within 60 is_up
    cloud_init "done"
    on_the_console 'the server says online'
    one=$root
    boot_from current two < <(shipped baked)
    switch_on
    within 60 online 2
    cloud_init "done"
    same "$fetched" "$(requests archive)" "the number of downloads"
    same 2 "$(requests register)" "the number of registrations"
    same 2 "$(state '[.runners[].name] | unique | length')" "the number of names"
    must_not cmp --quiet "$one/etc/machine-id" "$root/etc/machine-id"
    # Each is the one that it was after a reboot.
    reboot
    within 30 sessions 3
    converged
    within 30 online 2
    same 2 "$(requests register)" "the number of registrations"
    same "$fetched" "$(requests archive)" "the number of downloads"
}

# It was baked when another version was the newest, and nobody knows any more when that was: the runner is replaced while
# the machine boots; where that was forbidden, the boot says so, and the next one does it when it may.
scenario_stale_image() {
    server
    baked stale
    # As old as an image can be.
    local journal
    journal=$(find "$here/images/stale/var/lib/runup" -name '*.json')
    jq '(.entries[] | select(.step == "place-runner")).current_at = "2020-01-01T00:00:00Z"' "$journal" >"$journal.new"
    mv "$journal.new" "$journal"
    control POST versions '{"version":"2.340.0"}'
    boot_from stale refreshed < <(shipped baked)
    switch_on
    within 60 online 1
    cloud_init "done"
    on_the_console '2.340.0' 'the server says online'
    same 2.340.0 "$(state '.runners[0].version')" "the version that registered"
    same actions-runner "$(ls --almost-all "$root/opt")" "what is in /opt"

    boot_from stale held < <(shipped baked | configured 'no-refresh = true')
    switch_on
    refused_at_boot 80 'too old to register' '2.340.0' 'leave out --no-refresh'
    same 1 "$(runners)" "the number of runners"
    sed --in-place '/no-refresh/d' "$root/etc/runup/config.toml"
    reboot
    within 60 online 2
    converged
    cloud_init "done"
}

# An image for another kind of machine, and one with somebody's identity in it.
scenario_wrong_image() {
    local other=arm64 identity
    [[ $(uname --machine) != aarch64 ]] || other=x64
    server
    baked other --os linux --arch $other
    boot_from other held < <(shipped baked | configured 'no-refresh = true')
    switch_on
    refused_at_boot 78 "it is for linux-$other" "Bake an image for this architecture"
    must no_runner
    sed --in-place '/no-refresh/d' "$root/etc/runup/config.toml"
    reboot
    within 60 online 1
    converged
    cloud_init "done"
    one_runner_and_no_litter

    # Such an image does not come about: baking refuses it.
    exits 78 runup bake
    says "the image is not sealed" ".runner"
    # Unless somebody wrote it by hand: a configured runner, and no journal of ours.
    identity=$(cat "$root$tree/.runner")
    switch_off
    baked unsealed
    rm --recursive "$here/images/unsealed/var/lib/runup"
    echo "$identity" >"$here/images/unsealed$tree/.runner"
    boot_from unsealed by-hand < <(shipped baked)
    switch_on
    refused_at_boot 78 "$tree" "Choose another --dir, or move the folder away"
    same 1 "$(runners)" "the number of runners"
    rm --recursive "${root:?}$tree"
    reboot
    within 60 online 1
    converged
    same 2 "$(runners)" "the number of runners"
}
