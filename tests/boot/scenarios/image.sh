# Images: baked on one day, booted on another.

# A baked disk that boots when its version is deprecated: refreshed, a service, online. And again, when the server has deleted
# a runner that is up.
scenario_baked_image_of_old() {
    server
    machine
    credentials
    switch_on
    exits 0 runup bake
    exits 78 runup bake --check
    must grep --quiet /etc/runup/token "$here/stdout"
    switch_off
    : >"$root/etc/machine-id"
    control POST versions '{"version":"2.340.0"}'
    control POST deprecations '{"version":"2.336.0","registration_deprecates_at":"2020-01-01T00:00:00Z","silent":true}'
    # Simulates a year: the journal no longer proves that the version is recent.
    local journal
    for journal in "$root"/var/lib/runup/*.json; do
        jq 'del(.entries[].current_at)' "$journal" >"$here/aged"
        cat "$here/aged" >"$journal"
    done
    switch_on
    exits 80 runup install --no-refresh
    same 0 "$(runners)" "the number of runners"
    exits 0 runup install
    must online
    same 2.340.0 "$(state '.runners[0].version')" "the version on the server"
    same 1 "$(requests register)" "the number of registrations"
    status_is 0 .state registered .version 2.340.0 .service.active active

    control POST versions '{"version":"2.341.0"}'
    control POST deprecations '{"version":"2.340.0","runtime_deprecates_at":"2020-01-01T00:00:00Z"}'
    control PATCH "runners/$(runner_id)" '{"deleted":true}'
    exits 0 runup install
    must online
    status_is 0 .state registered .version 2.341.0 .service.active active
    exits 0 runup remove
    must no_runner
    must_not test -e "$root$tree"
}
