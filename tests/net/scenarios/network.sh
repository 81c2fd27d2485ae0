# shellcheck shell=bash
# The machine does not get to the server.

scenario_dns() {
    local id
    github
    network_of_its_own
    # A name server that gives no answer: whether the name exists is not known when the time is over.
    echo "nameserver $nowhere" >/etc/resolv.conf
    stalled=yes doctor 0 --url "https://$far_host/acme"
    unknown dns "$far_host" "in time"
    for id in server clock credential rate-limit archive install job-hosts; do unknown "$id" "not reached"; done
    no_check connection
    echo "127.0.0.1 $far_host" >>/etc/hosts
    doctor 75 --url "https://$far_host/acme"
    fine dns "$far_host has 1 IPv4 and 0 IPv6 addresses"
}

# A name server that knows no such name.
scenario_dns_without_the_name() {
    name_server 127.0.0.1 3
    echo "nameserver 127.0.0.1" >/etc/resolv.conf
    use_token ghp_none
    doctor 75 --url "https://$far_host/acme"
    fails dns name-not-resolved 75 "$far_host could not be resolved" "/etc/resolv.conf"
}

# Of the proxy: it is all that the machine must find.
scenario_dns_of_the_proxy() {
    name_server 127.0.0.1 3
    echo "nameserver 127.0.0.1" >/etc/resolv.conf
    use_token ghp_none
    doctor 75 --url "https://$far_host/acme" --proxy http://proxy.test:3128
    fails dns name-not-resolved 75 proxy.test "could not be resolved"
}

# Nothing listens; a router says no; a firewall says nothing.
scenario_connection() {
    local id
    github
    doctor 0 --url "$org_url"
    fine connection "accepts connections"
    network_of_its_own
    printf '%s closed.test\n%s prohibited.test\n%s dropped.test\n' $gateway 10.9.9.8 $nowhere >>/etc/hosts
    "${inside[@]}" ip route add prohibit 10.9.9.8
    doctor 75 --url https://closed.test/acme
    fails connection not-reached 75 closed.test:443 $gateway:443 refused "set a proxy"
    doctor 75 --url https://prohibited.test/acme
    fails connection not-reached 75 prohibited.test:443 10.9.9.8:443
    doctor 75 --url https://dropped.test/acme
    fine dns
    fails connection not-reached 75 dropped.test:443 "no answer within 2 s"
    for id in server clock credential rate-limit archive install job-hosts; do unknown "$id" "not reached"; done
}

# GitHub's runner would try only one of them.
scenario_connection_to_some_addresses() {
    github
    silent_network 10.9.9.1/24
    printf '127.0.0.1 %s\n10.9.9.8 %s\n' $far_host $far_host >>/etc/hosts
    doctor 0 --url "http://$far_host:${server_url##*:}/acme" --allow-http
    fine dns "2 IPv4"
    unknown connection "at some addresses" 10.9.9.8 "does not fall back" "Allow connections"
    fine server
}

# IPv6 that is silent stops GitHub's runner. IPv6 that is absent or rejected does not: its addresses are tried last.
scenario_connection_with_half_of_dual_stack() {
    local url
    github
    url=http://$far_host:${server_url##*:}/acme
    printf '127.0.0.1 %s\nfd09::9 %s\n' $far_host $far_host >>/etc/hosts
    doctor 0 --url "$url" --allow-http
    fine dns "1 IPv4 and 1 IPv6"
    fine connection
    ip -6 route add prohibit fd09::9
    doctor 0 --url "$url" --allow-http
    fine connection
    ip -6 route delete prohibit fd09::9
    silent_network fd09::1/64
    doctor 0 --url "$url" --allow-http
    unknown connection "at some addresses" fd09::9 "does not fall back" "Repair IPv6" net.ipv6.conf.all.disable_ipv6=1
    fine server
}

# github.com has no IPv6 address.
scenario_connection_without_ipv4() {
    local id
    github
    private_ca
    certificate $far_host
    network_without_ipv4
    tls "[$gateway6]" $far_host
    echo "140.82.112.5 $far_host" >>/etc/hosts
    doctor 75 --url "https://$far_host/acme" --ca-file "$here/ca.pem"
    fine dns "1 IPv4 and 0 IPv6"
    fails connection not-reached 75 "$far_host has no IPv6 address" "no route to IPv4" NAT64 "set a proxy"
    for id in server job-hosts; do unknown "$id" "not reached"; done
    doctor 75 --url "https://other.test/acme" --proxy "http://$far_host:3128"
    fails connection not-reached 75 "no IPv6 address" "a proxy that has an IPv6 address"
    # With both, the other family is not missed.
    echo "$gateway6 $far_host" >>/etc/hosts
    doctor 0 --url "https://$far_host/acme" --ca-file "$here/ca.pem"
    fine dns "1 IPv4 and 1 IPv6"
    fine connection
    fine server
}

# The proxy is off.
scenario_connection_to_the_proxy() {
    github
    network_of_its_own
    doctor 75 --url "https://$far_host/acme" --proxy http://$gateway:3128
    fails connection not-reached 75 $gateway:3128 refused
}

# A server to which only squid leads.
behind_squid() {
    github
    network_of_its_own
    echo "127.0.0.1 $far_host" >>/etc/hosts
    private_ca
    certificate $far_host
    tls 127.0.0.1 $far_host
    start_squid "$@"
    far=(--url "https://$far_host/acme" --ca-file "$here/ca.pem")
}

scenario_server_by_proxy() {
    local id
    behind_squid "allow all"
    # Without it.
    doctor 75 "${far[@]}"
    fails connection not-reached 75 $far_host:443 refused
    doctor 0 "${far[@]}" --proxy "http://$proxy"
    fine dns "$proxy (from --proxy)"
    fine connection "$proxy accepts"
    for id in server clock credential archive install; do fine "$id"; done
    # squid logs a tunnel when it has seen its end.
    within 60 proxied "200 CONNECT $far_host:443"
    asked_only
}

scenario_server_by_proxy_with_password() {
    local turn password='canary@proxy' in_url='canary%40proxy'
    behind_squid "allow users" "bob:$password"
    secret canary
    for turn in "" bob:wrong@; do
        environment=("RUNUP_TOKEN_FILE=$here/token" "RUNUP_PROXY=http://$turn$proxy")
        doctor 77 "${far[@]}"
        fine connection "$proxy"
        fails server proxy-refused 77 407 "$proxy"
    done
    environment=("RUNUP_TOKEN_FILE=$here/token" "RUNUP_PROXY=http://bob:$in_url@$proxy")
    doctor 0 "${far[@]}"
    fine server
    within 60 proxied "200 CONNECT $far_host:443 bob"
}

# It lets nobody to this host.
scenario_server_by_proxy_that_forbids() {
    behind_squid "deny all"
    doctor 75 "${far[@]}" --proxy "http://$proxy"
    fine connection "$proxy"
    fails server not-reached 75 "$proxy" "did not open a connection to this host" "Check that the proxy allows this host"
}

scenario_server_by_proxy_that_cuts() {
    github
    network_of_its_own
    cutting_proxy $gateway 3128
    doctor 75 --url "https://$far_host/acme" --proxy http://$gateway:3128
    fine connection
    fails server not-reached 75 $gateway:3128 "tunnel error"
}
