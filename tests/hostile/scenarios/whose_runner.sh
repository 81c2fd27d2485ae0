# C2: a job that tries to make root delete another machine's runner, with the id of that runner in one of its files. H2: the same
# in a directory without a journal.

# A config.sh that registers as GitHub's does, and then claims to be the victim.
impostor() {
    cat <<IMPOSTOR
mv \$tree/config.sh \$tree/config.real
plant \$tree/config.sh <<'CONFIG'
#!/bin/bash
cd "\$(dirname "\$0")"
./config.real "\$@"
code=\$?
sed --in-place 's/"agentId": [0-9]*/"agentId": $victim/' .runner
exit \$code
CONFIG
IMPOSTOR
}

# A process that keeps writing the victim's id into the .runner of DIR.
liar() {
    cat <<LIAR
cat >\$loot/liar.sh <<'SCRIPT'
while :; do
    if ! grep -q '"agentId": $victim,' $1/.runner 2>/dev/null; then
        { printf '\xef\xbb\xbf{\n  "agentId": $victim,\n  "agentName": "victim",\n  "poolId": 1,\n  "gitHubUrl": "$org_url",\n  "workFolder": "_work"\n}' >$1/.runner; } 2>/dev/null && : >\$loot/lied
        sleep 0.01
    fi
done
SCRIPT
hide bash \$loot/liar.sh
LIAR
}

victim_of_install() {
    with_service
    victim "$@"
    hostile "$(impostor)"
    attempt runup install --work elsewhere
    victim_lives
    attempt runup remove
    victim_lives
    same 1 "$(runners)" "the number of runners"
}
scenario_victim_of_install_again() { victim_of_install; }
scenario_victim_that_is_online() { victim_of_install online; }

# The same if the runner's user owns the tree: its files are evidence of nothing.
scenario_victim_in_an_open_tree() {
    local open=()
    ! knows --self-update || open=(--self-update)
    with_service "${open[@]}"
    victim
    hostile "$(impostor)"
    attempt runup install --work elsewhere "${open[@]}"
    victim_lives
    within 60 own_online
    hostile "$(impostor)
alter \$tree/.runner 's/\"agentId\": [0-9]*/\"agentId\": $victim/; s/\"agentName\": \"[^\"]*\"/\"agentName\": \"victim\"/'"
    attempt runup status
    attempt runup install "${open[@]}"
    victim_lives
    attempt runup remove
    victim_lives
    same 1 "$(runners)" "the number of runners"
}

# Without an operator: the service re-registers after each job.
scenario_victim_of_run() {
    local first
    server
    victim
    machine
    credentials
    switch_on
    exits 0 runup install --ephemeral
    within 60 own_online
    first=$(own_id)
    hostile "$(impostor)"
    within 60 victim_gone_or_online_as_another_than "$first"
    victim_lives
    hostile "id"
    attempt runup remove
    victim_lives
}
victim_gone_or_online_as_another_than() {
    ! victim_is_there || { own_online && [[ $(own_id) != "$1" ]]; }
}

scenario_victim_of_run_jit() {
    server
    victim
    machine
    credentials
    switch_on
    write_run_unit --jit --after-job again
    inside systemctl enable --now --quiet $run_unit
    within 60 own_online
    fault '{"route":"jitconfig","kind":"status","code":403,"count":1}'
    hostile "$(liar $tree)"
    # The call failed, and the rest of the runner was undone.
    within 60 refused_once
    within 60 unit_ended_or_online
    victim_lives
}
refused_once() { control GET requests | jq --exit-status 'any(.route == "jitconfig" and .status == 403)'; }
unit_ended_or_online() { ! victim_is_there || inactive $run_unit || failed $run_unit || own_online; }

# Without a credential for the API, the id in the tree cannot be confirmed; the job of an earlier runner writes it.
scenario_victim_of_a_registration_token() {
    with_service
    victim
    hostile "$(liar /opt/second)"
    token_for_root registration
    archive_for_root
    printf 'url = "%s"\n' "$org_url" >"$root/root/without-token.toml"
    attempt runup install --config /root/without-token.toml --registration-token-file /root/registration-token \
        --archive "$archive" --sha256 "$sha256" --dir /opt/second --name second
    attempt runup remove --dir /opt/second
    victim_lives
}

# H2: a runner that was set up by hand, with the id of another runner in its files.
scenario_victim_of_a_removal_without_a_journal() {
    server
    machine
    credentials
    switch_on
    victim
    by_hand
    as_job sed --in-place "s/\"agentId\": [0-9]*/\"agentId\": $victim/" /opt/by-hand/.runner
    attempt runup remove --dir /opt/by-hand
    victim_lives
    attempt runup remove --dir /opt/by-hand --url "$org_url"
    victim_lives
    ((code != 0)) || fail "it succeeded"
}

# A runner that was set up as in GitHub's documentation: a user's tree and config.sh, without runup. Its name is by-hand.
by_hand() {
    local token
    exits 0 runup install --service none --dir /opt/template --name template
    cp --archive "$root/opt/template" "$root/opt/by-hand"
    exits 0 runup remove --dir /opt/template
    as_root useradd --system --no-create-home by-hand
    rm --recursive --force "$root/opt/by-hand"/{.runner,.credentials,.credentials_rsaparams,svc.sh,_diag,_work}
    as_root chown --recursive by-hand:by-hand /opt/by-hand
    as_root chmod --recursive u+w /opt/by-hand
    token_for_root registration
    token=$(<"$here/registration-token")
    exits 0 as_job env --chdir=/opt/by-hand ACTIONS_RUNNER_INPUT_TOKEN="$token" ./config.sh --url "$org_url" --name by-hand --unattended
}

# With the uid of its jobs.
as_job() { as_root setpriv --reuid=by-hand --regid=by-hand --clear-groups -- "$@"; }
