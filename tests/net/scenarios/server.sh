# shellcheck shell=bash
# The server is reached, and something is wrong with it, or with what it is told.

scenario_server() {
    local id
    github
    private_ca
    certificate $far_host
    tls 127.0.0.1 $far_host
    echo "127.0.0.1 $far_host" >>/etc/hosts
    doctor 78 --url "https://$far_host/acme"
    fine connection
    fails server certificate 78 certificate --ca-file
    for id in credential archive install; do unknown "$id" "the first call to the server failed"; done
    doctor 0 --url "https://$far_host/acme" --ca-file "$here/ca.pem"
    for id in server clock credential archive install; do fine "$id"; done
    # Trusted by the whole machine.
    cat "$here/ca.pem" >>/etc/ssl/certs/ca-certificates.crt
    doctor 0 --url "https://$far_host/acme"
    fine server
    asked_only
}

# A certificate of another host, and one whose time is over.
scenario_server_with_a_bad_certificate() {
    github
    private_ca
    certificate other.test
    tls 127.0.0.1 other.test
    echo "127.0.0.1 $far_host" >>/etc/hosts
    doctor 78 --url "https://$far_host/acme" --ca-file "$here/ca.pem"
    fails server certificate 78 certificate other.test
    certificate old.test -days 0
    tls 127.0.0.2 old.test
    echo "127.0.0.2 old.test" >>/etc/hosts
    within 60 has_expired old.test
    doctor 78 --url "https://old.test/acme" --ca-file "$here/ca.pem"
    fails server certificate 78 certificate expired
}

# The network wants a login first: it leads every name to its own page, which it cannot have certificates for.
scenario_server_behind_a_captive_portal() {
    local id
    github
    private_ca
    certificate portal.test
    mkdir "$here/portal"
    echo '<html><title>Welcome to our guest network</title>' >"$here/portal/index.html"
    nginx_with 127.0.0.1 443 "listen 127.0.0.1:443 ssl;
        ssl_certificate $here/tls/portal.test.pem;
        ssl_certificate_key $here/tls/portal.test.key;
        return 302 http://portal.test/;"
    nginx_with 127.0.0.1 80 "listen 127.0.0.1:80 default_server;
        root $here/portal;
        location / { try_files \$uri /index.html; }"
    printf '127.0.0.1 %s\n' $far_host portal.test >>/etc/hosts
    doctor 78 --url "https://$far_host/acme" --ca-file "$here/ca.pem"
    fails server certificate 78 portal.test "captive portal" "sign in to the network"
    doctor 76 --url "http://$far_host/acme" --allow-http
    fails server not-github 76 "Welcome to our guest network" "captive portal" "sign in to the network"
    for id in clock credential rate-limit install job-hosts; do unknown "$id"; done
}

# Its last second is over.
has_expired() {
    local last
    last=$(openssl x509 -noout -enddate -in "$here/tls/$1.pem")
    (($(date +%s) > $(date --date="${last#*=}" +%s)))
}

# A maintenance page, and a server that takes the request and is silent.
scenario_server_that_is_down() {
    local id
    github --fault '*:status=503'
    doctor 75 --url "$org_url"
    fails server server-failed 75 503
    for id in credential rate-limit archive install job-hosts; do unknown "$id" "the first call to the server failed"; done
    no_faults
    fault '{"route":"*","kind":"delay","ms":20000}'
    stalled=yes doctor 0 --url "$org_url"
    unknown server "in time"
    no_faults
    doctor 0 --url "$org_url"
    fine server
}

scenario_clock() {
    local id
    github
    doctor 0 --url "$org_url"
    fine clock "agrees"
    fault '{"route":"*","kind":"clock","seconds":-7200}'
    doctor 75 --url "$org_url"
    fails clock clock-off 75 "2 h ahead of"
    fine credential
    for id in archive install; do unknown "$id" "clock"; done
    no_faults
    fault '{"route":"*","kind":"clock","seconds":60}'
    doctor 0 --url "$org_url"
    fine clock "s behind"
}

scenario_credential() {
    local id
    github
    doctor 0 --url "$org_url"
    fine credential "the server accepts"
    secret ghp_canary
    use_token ghp_canary
    doctor 77 --url "$org_url"
    fine server
    fails credential unauthorized 77
    for id in archive install; do unknown "$id" "refused the first call"; done
    environment=()
    doctor 77 --url "$org_url"
    fails credential no-credential 77 --token-file
    for id in server archive install; do unknown "$id" "without a credential"; done
    fine directory
}

# A secret store that does not answer as it should.
scenario_credential_by_command() {
    github
    environment=()
    doctor 0 --url "$org_url" --token-command "cat $here/token"
    fine credential
    doctor 75 --url "$org_url" --token-command "echo the vault is sealed >&2; exit 3"
    fails credential token-command 75 "exit code 3" "Run it by hand"
    unknown install
    stalled=yes doctor 0 --url "$org_url" --token-command "sleep 60"
    unknown credential "did not end in time"
}

# What it may do is seen in the headers of an answer.
scenario_credential_with_another_scope() {
    local downloads
    github
    downloads=$(printf 'header = "Authorization: Bearer %s"\n' "$api_token" |
        curl --silent --show-error --fail --config - "$server_url/api/v3/orgs/acme/actions/runners/downloads")
    instead downloads "$downloads" "x-oauth-scopes=repo, read:org"
    doctor 0 --url "$org_url"
    unknown credential "for reading" "registering a runner takes the scope admin:org"
}

scenario_rate_limit() {
    local none='{"total_count":0,"runners":[]}'
    github
    doctor 0 --url "$org_url"
    fine rate-limit "of 5000 calls are left"
    instead list-runners "$none" x-ratelimit-limit=5000 x-ratelimit-remaining=7
    doctor 0 --url "$org_url"
    unknown rate-limit "7 of 5000 calls are left" Wait
}

# None is left.
scenario_rate_limit_used_up() {
    local id
    github --fault '*:rate-limit=600'
    doctor 75 --url "$org_url"
    fine server
    fails rate-limit rate-limited 75 "rate limited until" "Try again after"
    for id in credential archive install; do unknown "$id" "rate limit is used up"; done
}

# A firewall that knows github.com, and not the host of its archives.
scenario_archive() {
    github
    ip route add prohibit 10.9.9.8
    echo "10.9.9.8 objects.test" >>/etc/hosts
    doctor 0 --url "$org_url"
    fine archive "can be downloaded from 127.0.0.1"
    fault '{"route":"archive","kind":"redirect","url":"https://objects.test/runner.tar.gz"}'
    doctor 75 --url "$org_url"
    fails archive not-reached 75 objects.test --mirror
    fine server
}

scenario_archive_by_mirror() {
    local name
    github
    name=actions-runner-linux-x64-$(jq --raw-output .version "$here/server.json").tar.gz
    [[ $(uname --machine) != aarch64 ]] || name=${name/x64/arm64}
    mirror 127.0.0.1 8080
    doctor 69 --url "$org_url" --mirror http://127.0.0.1:8080
    fails archive download-refused 69 404 "http://127.0.0.1:8080/$name"
    echo archive >"$here/mirror/$name"
    doctor 0 --url "$org_url" --mirror http://127.0.0.1:8080
    fine archive "$name" "127.0.0.1"
}

scenario_install() {
    github
    doctor 0 --url "$org_url" --group Default
    fine install "would take" register
    doctor 78 --url "$org_url" --group no-such
    fails install no-such-group 78 no-such "Create the group"
    fine archive
    asked_only
}

# The name of another machine's runner.
scenario_install_with_a_name_that_is_taken() {
    github
    control POST runners '{"scope":"orgs/acme","name":"taken"}'
    doctor 78 --url "$org_url" --name taken
    fails install name-taken 78 taken --replace
}

# A firewall that lets the installation through, and not what jobs need.
scenario_job_hosts() {
    local open
    github
    open=${server_url#http://}
    doctor 0 --url "$org_url"
    fine job-hosts
    ip route add prohibit 10.9.9.8
    echo "10.9.9.8 results.test" >>/etc/hosts
    needs_hosts "$open"
    doctor 0 --url "$org_url"
    fine job-hosts "1 of 1 hosts that jobs need answer" "*.actions.test could not be tried"
    no_faults
    needs_hosts "$open" results.test
    doctor 0 --url "$org_url"
    unknown job-hosts "1 of 2 hosts that jobs need did not answer: results.test" "Allow connections"
    # No word of the server's at all.
    no_faults
    fault '{"route":"meta","kind":"status","code":500}'
    doctor 0 --url "$org_url"
    unknown job-hosts "did not name the hosts"
}

# The server has an IPv6 address, and not all that jobs need has one.
scenario_job_hosts_without_ipv4() {
    github
    private_ca
    certificate $far_host
    network_without_ipv4
    tls "[$gateway6]" $far_host
    printf '%s %s\n10.9.9.8 results.test\n10.9.9.7 pipelines.test\n' $gateway6 $far_host >>/etc/hosts
    echo "10.9.9.8 $far_host" >>/etc/hosts
    needs_hosts $far_host pipelines.test results.test absent.test
    doctor 0 --url "https://$far_host/acme" --ca-file "$here/ca.pem"
    fine server
    unknown job-hosts "3 of 4 hosts that jobs need did not answer: pipelines.test, results.test (no IPv6 address" \
        "absent.test (" NAT64 "set a proxy"
}

needs_hosts() {
    instead meta "$(jq --null-input --compact-output \
        '{domains: {actions_inbound: {full_domains: $ARGS.positional, wildcard_domains: ["*.actions.test"]}}}' --args "$@")"
}

scenario_runner() {
    local runs
    github
    doctor 0
    no_check runner
    exits 0 env "${environment[@]}" "$bin" install --url "$org_url" --service none
    beside runner env "${environment[@]}" "$bin" run --url "$org_url"
    runs=$!
    within 60 online
    doctor 0
    fine runner "/opt/actions-runner: registered"
    # It would register again.
    kill -TERM "$runs"
    wait "$runs" || true
    control PATCH "runners/$(runner_id)" '{"deleted":true}'
    within 60 no_runner
    # Doctor finds the server by the runner, and the token in its own environment.
    doctor 78
    fails runner "" 78 /opt/actions-runner "runup status --dir /opt/actions-runner"
}

# The listener's own words tell why, in a log that nobody looks for at night.
scenario_last_failure() {
    github
    exits 0 env "${environment[@]}" "$bin" install --url "$org_url" --service none
    doctor 0
    no_check last-failure
    control PATCH "runners/$(runner_id)" '{"deleted":true}'
    doctor 78
    unknown last-failure "/opt/actions-runner: its log names no known cause" "runup logs --dir /opt/actions-runner"
    exits 1 setpriv --reuid=actions-runner --regid=actions-runner --clear-groups /opt/actions-runner/bin/Runner.Listener run
    doctor 78
    fails last-failure deleted-again 79 "/opt/actions-runner: the server has deleted the runner" "runup install"
}

# It registered, and the network is gone since.
scenario_runner_without_its_server() {
    github
    exits 0 env "${environment[@]}" "$bin" install --url "$org_url" --service none
    fault '{"route":"*","kind":"delay","ms":20000}'
    stalled=yes doctor 0
    unknown runner "/opt/actions-runner: no answer in time"
    # By chance, the time is over during a wait for the next attempt, or it gives up before that.
    server_off
    stalled=yes doctor '0|75'
    case $(of runner verdict) in
    fails) fails runner "" 75 "/opt/actions-runner: unreachable" "connection refused" ;;
    *) unknown runner "/opt/actions-runner: no answer in time" ;;
    esac
}
