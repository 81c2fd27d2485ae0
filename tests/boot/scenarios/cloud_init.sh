# First boots by cloud-init.

# Gives the machine this user-data, from stdin, as a cloud would.
user_data() {
    local seed=$root/var/lib/cloud/seed/nocloud
    rm "$root/etc/cloud/cloud-init.disabled"
    mkdir --parents "$seed"
    cat >"$seed/user-data"
    printf 'instance-id: %s\nlocal-hostname: %s\n' "$machine" "$machine" >"$seed/meta-data"
    # Nobody else is asked, and what is shared with the host is left alone.
    printf 'datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\nmanage_etc_hosts: false\nlocale: false\n' \
        >"$root/etc/cloud/cloud.cfg.d/99-boot.cfg"
}

# Waits until cloud-init has done all that it will do, and demands this end: done, error.
cloud_init() {
    inside cloud-init status --wait >"$here/cloud-init" || true
    same "status: $1" "$(grep '^status:' "$here/cloud-init")" "what cloud-init says"
}

scenario_cloud_init_to_online() {
    server
    machine
    credentials
    user_data <<'YAML'
#cloud-config
runcmd:
  - [runup, install]
YAML
    local from
    from=$(now)
    switch_on_at_once
    within 90 online
    note "online $(since "$from") after power-on"
    within 60 is_up
    cloud_init "done"
    must grep --quiet 'the server says online' "$root/var/log/cloud-init-output.log"
    must_not grep --quiet --fixed-strings "$api_token" "$root/var/log/cloud-init-output.log"
    registered_once
    # The second boot does nothing but start.
    reboot
    within 30 sessions 2
    cloud_init "done"
    registered_once
}
