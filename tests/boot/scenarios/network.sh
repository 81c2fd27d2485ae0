# Ways to GitHub that an operator sets: a proxy, with and without a password, and a private CA.

# The proxy's password, as the proxy knows it, and as it is written in a URL.
readonly proxy_password='canary@proxy' proxy_password_in_url='canary%40proxy'

# The command's environment has the proxy with this user and password; neither is on a command line or in systemd's log.
through_proxy() {
    local credentials=$1
    shift
    printf 'RUNUP_PROXY=http://%s@%s\n' "$credentials" "$proxy" | install --mode=600 /dev/stdin "$root/root/proxy.env"
    inside systemd-run --quiet --wait --pipe --collect --property=EnvironmentFile=/root/proxy.env -- "$@"
}

# Only the record and the runner's .env have the password.
password_is_nowhere() {
    local found
    must grep --quiet canary "$root$tree/.env" "$root"/var/lib/runup/*.environment
    must_not grep --recursive --quiet canary "$root/etc" "$root$tree/_diag"
    rm --force "$root/root/proxy.env"
    must_not inside grep --recursive --quiet --devices=skip canary /run/systemd
    journal >"$here/journal"
    must test -s "$here/journal"
    must_not grep --quiet canary "$here/journal"
    # The process of this very search does not count.
    found=$(inside sh -c 'for p in /proc/[0-9]*; do tr "\0" " " <$p/cmdline; echo; done' 2>/dev/null |
        grep canary || true)
    same "" "$found" "the command lines with the password"
    for command in "status" "plan" "status --json" "plan --json"; do
        # shellcheck disable=SC2086 # two words
        exits 0 runup $command
        must_not grep --quiet canary "$here/stdout" "$here/stderr"
    done
}

proxied_more_than() { (($(proxied "$2") > $1)); }

# A TLS server under a private CA, to which only squid leads, and that with a password.
scenario_real_proxy() {
    local turn first
    server
    network_of_its_own
    tls 127.0.0.1
    squid "bob:$proxy_password"
    machine_with_extras
    credentials
    install --mode=644 "$here/ca.pem" "$root/etc/ssl/acme.pem"
    echo 'ca-file = "/etc/ssl/acme.pem"' >>"$root/etc/runup/config.toml"
    switch_on
    exits 6 as_root curl --silent "$org_url"
    # Without the password, and with a wrong one.
    for turn in nobody bob:wrong; do
        exits 77 through_proxy "$turn" /usr/bin/runup install
        says 407 "$proxy"
        absent $tree "/etc/systemd/system/$unit"
        must_not inside id actions-runner
        must no_runner
    done
    exits 0 through_proxy "bob:$proxy_password_in_url" /usr/bin/runup install
    within 60 online
    registered_once
    finished "$(script "curl --silent --output /dev/null --write-out 'answer %{http_code}' $org_url; echo; echo over")"
    job_says "answer 401"
    password_is_nowhere
    reboot
    within 60 sessions 2
    exits 0 runup status
    # Each job of an ephemeral runner has them, and each registration.
    exits 0 runup install --ephemeral
    for turn in 1 2; do
        within 60 online
        first=$(runner_id)
        finished "$(script "curl --silent --output /dev/null --write-out 'answer %{http_code}' $org_url; echo; echo over")"
        job_says "answer 401"
        within 60 fresh_runner "$first"
    done
    password_is_nowhere
    # All of it went through the proxy, as the user.
    within 60 proxied_more_than 5 "200 CONNECT $far_host:443 bob \"runup/"
    within 60 proxied_more_than 5 "200 CONNECT $far_host:443 bob \"GitHubActionsRunner-"
    # A connection without a request is this scenario's, which waited for the proxy.
    must_not grep --invert-match --regexp=" $far_host:443 " --regexp=transaction-end-before-headers "$outside/var/log/squid/access.log"
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
    must_not grep --recursive --quiet canary "$root/etc" "$root/var/lib/runup" "$root/opt"
    # What the failed attempts knew: nothing is left of it either.
    journal >"$here/journal"
    must_not grep --quiet canary "$here/journal"
}

# Plain HTTP through a proxy without a password, which the configuration file names.
scenario_real_proxy_without_password() {
    local job
    server
    network_of_its_own
    squid
    machine_with_extras
    org_url=${server_url/127.0.0.1/$far_host}/acme
    credentials
    printf 'proxy = "http://%s"\nallow-http = true\n' "$proxy" >>"$root/etc/runup/config.toml"
    switch_on
    exits 0 runup install
    within 60 online
    job=$(job 1)
    within 60 job_done "$job"
    # squid logs a request when it has seen its end.
    within 60 proxied_more_than 0 "200 GET ${org_url%/acme}/api/v3/orgs/acme/actions/runners"
    within 60 proxied_more_than 0 "/_services/message - \"GitHubActionsRunner-"
    exits 0 runup remove
    must no_runner
}

scenario_private_ca() {
    local turn first probe
    server
    network_of_its_own
    tls $gateway
    machine_with_extras
    credentials
    echo "$gateway $far_host" >>"$root/etc/hosts"
    install --mode=600 "$here/ca.pem" "$root/root/ca.pem"
    switch_on
    exits 78 runup install
    says "the server's certificate is not trusted" "--ca-file"
    absent $tree "/etc/systemd/system/$unit"
    must no_runner
    exits 0 inside systemd-run --quiet --wait --pipe --collect --working-directory=/root -- /usr/bin/runup install --ca-file ca.pem
    within 60 online
    registered_once
    # Nothing depends on the file from now on.
    rm "$root/root/ca.pem"
    probe="curl --silent --output /dev/null --write-out 'answer %{http_code}' $org_url; echo
        openssl s_client -connect $far_host:443 -servername $far_host -verify_return_error </dev/null 2>&1 | grep 'Verify return code'
        SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt CURL_CA_BUNDLE= curl --silent $org_url || echo untrusted by itself"
    finished "$(script "$probe")"
    job_says "answer 401"
    job_says "Verify return code: 0 (ok)"
    # Without what runup sets, it is not trusted.
    job_says "untrusted by itself"
    offer 2.340.0
    looked_days_ago 1
    inside systemctl start $upgrade_unit
    within 60 online_as 2.340.0
    reboot
    within 60 online_as 2.340.0
    exits 0 runup install --ephemeral
    for turn in 1 2; do
        within 60 online
        first=$(runner_id)
        finished "$(script "$probe")"
        job_says "answer 401"
        job_says "Verify return code: 0 (ok)"
        within 60 fresh_runner "$first"
    done
    exits 0 runup status
    exits 0 runup remove
    must no_runner
    absent $tree "/etc/systemd/system/$unit"
}
