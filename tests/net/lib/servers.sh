# shellcheck shell=bash
# Servers around the machine. They end with the scenario's processes.

# The name of the fake GitHub server where it is not on this machine, the gateway to it, and an address that leads nowhere.
readonly far_host=github.test gateway=10.0.0.1 nowhere=10.9.9.9 gateway6=fd00::1

# Starts the fake GitHub server with the flags "$@"; doctor gets its token.
github() {
    server "$@"
    secret "$api_token"
    use_token "$api_token"
}

# secret TEXT: doctor must not print it.
secret() { printf '%s\n' "$1" >>"$here/secrets"; }

# use_token TOKEN
use_token() {
    install --mode=600 /dev/stdin "$here/token" <<<"$1"
    environment=("RUNUP_TOKEN_FILE=$here/token")
}

# instead ROUTE JSON [HEADER=VALUE…]: the server answers this on the route.
instead() {
    local route=$1 body=$2
    shift 2
    jq --null-input --arg route "$route" --arg body "$body" \
        '{route: $route, kind: "status", code: 200, body: $body,
          headers: ($ARGS.positional | map(split("=") | {key: .[0], value: .[1]}) | from_entries)}' \
        --args "$@" >"$here/fault.json"
    fault "@$here/fault.json"
}

# The server was only asked.
asked_only() {
    local changed
    changed=$(control GET requests |
        jq --raw-output '.[] | select(.method != "GET" and (.path | startswith("/_sandbox") | not)) | .path')
    same "" "$changed" "what doctor changed on the server"
}

# beside NAME COMMAND…: runs a server, whose output goes to a file that a failed scenario prints.
beside() {
    local name=$1
    shift
    "$@" </dev/null >>"$here/$name.log" 2>&1 &
}

# Moves doctor to a network of its own, where everything leads to the gateway, which is here and lets nothing through.
network_of_its_own() {
    unshare --net sleep infinity &
    local pid=$!
    within 60 other_network "$pid"
    ip link add outside type veth peer name inside netns "$pid"
    ip address add $gateway/24 dev outside
    ip link set outside up
    ip route add blackhole $nowhere
    inside=(nsenter --target "$pid" --net)
    "${inside[@]}" sh -c "ip link set lo up; ip address add 10.0.0.2/24 dev inside; ip link set inside up
        ip route add default via $gateway"
}

# The same without IPv4, but for loopback.
network_without_ipv4() {
    unshare --net sleep infinity &
    local pid=$!
    within 60 other_network "$pid"
    ip link add outside type veth peer name inside netns "$pid"
    # Its address is used at once, so nothing may wait for a duplicate.
    ip address add $gateway6/64 dev outside nodad
    ip link set outside up
    inside=(nsenter --target "$pid" --net)
    "${inside[@]}" sh -c "ip link set lo up; ip address add fd00::2/64 dev inside nodad; ip link set inside up
        ip route add default via $gateway6"
}

other_network() { [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }

# silent_network ADDRESS: a network with this address of ours, in which nobody answers.
silent_network() {
    local at_once=""
    [[ $1 != *:* ]] || at_once=nodad
    ip link add silent type veth peer name silence
    ip link set silence up
    ip link set silent up
    # shellcheck disable=SC2086 # Nothing, or a word.
    ip address add "$1" dev silent $at_once
}

# listens ADDRESS PORT
listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# A private CA in $here/ca.pem.
private_ca() {
    mkdir "$here/tls"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=Private CA of Acme' \
        -keyout "$here/tls/ca.key" -out "$here/ca.pem" 2>>"$here/openssl.log"
}

# certificate NAME [OPTION…]: of the CA, in $here/tls.
certificate() {
    local name=$1
    shift
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" \
        -keyout "$here/tls/$name.key" -out "$here/tls/$name.request" 2>>"$here/openssl.log"
    printf 'subjectAltName=DNS:%s\n' "$name" >"$here/tls/$name.names"
    openssl x509 -req -in "$here/tls/$name.request" -CA "$here/ca.pem" -CAkey "$here/tls/ca.key" -days 2 \
        -extfile "$here/tls/$name.names" -out "$here/tls/$name.pem" "$@" 2>>"$here/openssl.log"
}

# tls ADDRESS NAME: nginx (an IPv6 address is in brackets) in front of the fake server, with the certificate of that name.
tls() {
    nginx_with "$1" 443 "listen $1:443 ssl;
        ssl_certificate $here/tls/$2.pem;
        ssl_certificate_key $here/tls/$2.key;
        location / {
            proxy_pass $server_url;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-Proto https;
        }"
}

# mirror ADDRESS PORT: nginx with the files in $here/mirror.
mirror() {
    mkdir --parents "$here/mirror"
    nginx_with "$1" "$2" "listen $1:$2; root $here/mirror;"
}

# nginx_with ADDRESS PORT CONFIGURATION
nginx_with() {
    local file=$here/nginx-$1-$2.conf
    cat >"$file" <<NGINX
user www-data;
daemon off;
pid $here/nginx-$1-$2.pid;
error_log stderr;
events {}
http {
    access_log off;
    server { $3 }
}
NGINX
    beside nginx nginx -e stderr -c "$file"
    within 60 listens "${1//[][]/}" "$2"
}

# start_squid RULES [USER:PASSWORD]: Debian's squid at the gateway, with these http_access rules. Sets `proxy`.
start_squid() {
    local dir=$here/squid
    proxy=$gateway:3128
    install --directory --owner=proxy "$dir"
    {
        printf 'http_port %s\nvisible_hostname proxy\ncache deny all\npinger_enable off\npid_filename none\n' "$proxy"
        printf 'logformat wanted %%>Hs %%rm %%ru %%un\naccess_log stdio:%s/access.log wanted\n' "$dir"
        printf 'cache_log %s/cache.log\n' "$dir"
        if [[ -n ${2:-} ]]; then
            printf '%s:%s\n' "${2%%:*}" "$(openssl passwd -apr1 -stdin <<<"${2#*:}")" |
                install --mode=600 --owner=proxy /dev/stdin "$dir/users"
            printf 'auth_param basic program /usr/lib/squid/basic_ncsa_auth %s/users\nauth_param basic children 1\n' "$dir"
            printf 'acl users proxy_auth REQUIRED\n'
        fi
        printf 'http_access %s\nhttp_access deny all\n' "$1"
    } >"$dir/squid.conf"
    beside squid squid -N -f "$dir/squid.conf"
    within 60 listens "$gateway" 3128
}

# proxied TEXT: squid's log has it.
proxied() { grep --quiet --fixed-strings -- "$1" "$here/squid/access.log"; }

# cutting_proxy ADDRESS PORT: takes each connection, reads its request, and closes it.
cutting_proxy() {
    # shellcheck disable=SC2016 # Perl's variables.
    beside proxy perl -MIO::Socket::INET -e '
        my $listens = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1], Listen => 8) or die $!;
        while (my $client = $listens->accept) { sysread $client, my $request, 4096; close $client }' "$1" "$2"
    within 60 listens "$1" "$2"
}

# name_server ADDRESS CODE: answers every question with it: 3 is "no such name", 2 "server failure".
name_server() {
    # shellcheck disable=SC2016 # Perl's variables.
    beside name-server perl -MIO::Socket::INET -e '
        my $socket = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => 53, Proto => "udp") or die $!;
        open my $ready, ">", $ARGV[2] or die $!; close $ready;
        while ($socket->recv(my $query, 512)) {
            my $name = 12;
            $name += 1 + ord substr $query, $name, 1 while ord substr $query, $name, 1;
            $socket->send(pack("a2 n n4", substr($query, 0, 2), 0x8180 | $ARGV[1], 1, 0, 0, 0) . substr($query, 12, $name - 7));
        }' "$1" "$2" "$here/name-server.ready"
    within 60 test -e "$here/name-server.ready"
}
