# Machines that boot from an image with a baked runner.

# The disk of a machine before its first boot, with the files of the package and a runner that is baked with the flags "$@".
# It becomes the image NAME, $1.
baked() {
    local name=$1
    shift
    machine
    packaged
    exits 0 as_administrator bake --root "$root" "$@"
    image "$name"
}

# Boots a machine from that image, with an instance id of its own and the user-data on stdin.
boot_from() {
    machine_in "$here/$2" "boot-$$-$2" "$here/images/$1"
    cat >"$here/user-data-of-$2"
    user_data <"$here/user-data-of-$2"
    console_from_here
}

# Two machines from one image: no download, and an identity each.
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
    # After a reboot, each has the same identity.
    reboot
    within 60 sessions 3
    converged
    within 60 online 2
    same 2 "$(requests register)" "the number of registrations"
    same "$fetched" "$(requests archive)" "the number of downloads"
}

# What is set in an image, and what its builder adds to the runner's `.env` there, reaches the jobs of a machine whose first boot
# replaces the runner by a newer one.
scenario_image_with_settings() {
    server
    machine
    packaged
    hook started
    exits 0 as_administrator bake --root "$root" --env OF_THE_IMAGE=yes --hook-job-started /usr/local/bin/started.sh \
        --path /usr/local/bin:/usr/bin:/bin:/opt/tools
    echo 'OWN=of the builder' >>"$root$tree/.env"
    exits 0 "$bin" bake --check --root "$root"
    image settings
    of_unknown_age settings
    control POST versions '{"version":"2.340.0"}'
    boot_from settings refreshed < <(shipped baked)
    switch_on
    within 60 online
    cloud_init "done"
    same 2.340.0 "$(state '.runners[0].version')" "the version that registered"
    job_has_what_is_in_the_image
    # Nor does an update of the service that is up lose it, or a reboot.
    control POST versions '{"version":"2.341.0"}'
    exits 0 runup upgrade
    reboot
    within 60 online_as 2.341.0
    job_has_what_is_in_the_image
}
job_has_what_is_in_the_image() {
    finished "$(script env)"
    job_says OF_THE_IMAGE=yes
    job_says "OWN=of the builder"
    job_says PATH=/usr/local/bin:/usr/bin:/bin:/opt/tools
    job_says "the hook started has run"
}

# The image NAME no longer proves that its runner was the newest lately.
of_unknown_age() {
    local journal
    journal=$(find "$here/images/$1/var/lib/runup" -name '*.json')
    jq '(.entries[] | select(.step == "place-runner")).current_at = "2020-01-01T00:00:00Z"' "$journal" >"$journal.new"
    mv "$journal.new" "$journal"
}

# It was baked when another version was the newest, at an unknown time: the runner is replaced while the machine boots. If that
# was forbidden, the boot fails, and the next one replaces it once it is allowed.
scenario_stale_image() {
    server
    baked stale
    of_unknown_age stale
    control POST versions '{"version":"2.340.0"}'
    boot_from stale refreshed < <(shipped baked)
    switch_on
    within 60 online 1
    cloud_init "done"
    on_the_console '2.340.0' 'the server says online'
    same 2.340.0 "$(state '.runners[0].version')" "the version that registered"
    same actions-runner "$(ls --almost-all --ignore=.runup-store "$root/opt")" "what is in /opt"

    boot_from stale held < <(shipped baked | configured 'no-refresh = true')
    switch_on
    refused_at_boot 80 'too old to register' '2.340.0' 'omit --no-refresh'
    same 1 "$(runners)" "the number of runners"
    sed --in-place '/no-refresh/d' "$root/etc/runup/config.toml"
    reboot
    within 60 online 2
    converged
    cloud_init "done"
}

# An image for another architecture, and one with an identity in it.
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

    # Baking refuses such an image.
    exits 78 runup bake
    says "the image is not sealed" ".runner"
    # Unless it was created by hand: a configured runner, without a journal.
    identity=$(cat "$root$tree/.runner")
    switch_off
    baked unsealed
    rm --recursive "$here/images/unsealed/var/lib/runup"
    echo "$identity" >"$here/images/unsealed$tree/.runner"
    boot_from unsealed by-hand < <(shipped baked)
    switch_on
    refused_at_boot 78 "$tree" "Choose another --dir, or move the directory away"
    same 1 "$(runners)" "the number of runners"
    rm --recursive "${root:?}$tree"
    reboot
    within 60 online 1
    converged
    same 2 "$(runners)" "the number of runners"
}
