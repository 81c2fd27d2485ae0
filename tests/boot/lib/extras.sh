# What some scenarios need beside the machines' root file system: more of Debian's packages, and a network with servers in it.

readonly extra_packages="busybox-static curl docker.io iptables needrestart nginx podman squid uidmap"

# Sets `extras` to a layer above the root file system with these packages, and builds it if it does not exist. None of their
# services is enabled.
extras() {
    local key
    key=$({ declare -p extra_packages && declare -f build_extras; } | sha256sum | cut --characters=1-12)
    extras=$base-extras-$key
    # Several scenarios may do this in parallel.
    exec {extras_lock}>"${base%/*}/extras.lock"
    flock --wait 170 "$extras_lock"
    [[ -d $extras ]] || build_extras
    exec {extras_lock}>&-
}

build_extras() {
    local from=$SECONDS dir=$here/extras build=$here/extras/root
    rm --recursive --force --one-file-system "$base"-extras-*
    copy_in "$dir"
    cp --remove-destination /etc/resolv.conf "$build/etc/resolv.conf"
    printf '#!/bin/sh\nexit 101\n' | install --mode=755 /dev/stdin "$build/usr/sbin/policy-rc.d"
    # Uses the network outside the scenario.
    nsenter --net="$RUNUP_BOOT_NET" chroot "$build" apt-get --quiet=2 update
    # shellcheck disable=SC2086 # several words
    nsenter --net="$RUNUP_BOOT_NET" chroot "$build" env DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 \
        --option=APT::Sandbox::User=root --option=Dpkg::Use-Pty=0 install --yes --no-install-recommends $extra_packages >"$here/extras.log" 2>&1
    chroot "$build" systemctl --quiet disable containerd docker.service docker.socket nginx podman.service podman.socket \
        podman-auto-update.service podman-auto-update.timer podman-restart.service squid
    rm --recursive "$build"/var/cache/apt/archives/*.deb "$build"/var/lib/apt/lists/* "$build/usr/sbin/policy-rc.d" \
        "$build/etc/resolv.conf"
    if umount "$build" 2>/dev/null; then mv "$dir/upper" "$extras"; else mv "$build" "$extras"; fi
    rm --recursive "$dir"
    note "the extra packages were installed in $((SECONDS - from)) s"
}

# The machine, with the extra packages.
machine_with_extras() {
    extras
    machine_in "$here" "boot-$$" "$extras"
}

# The name of the fake GitHub server, which machines cannot resolve, and the address of the servers for machines with a network of
# their own.
readonly far_host=github.test gateway=10.0.0.1

# Gives the machine, which is off, a network of its own: all that it reaches is the gateway, where this scenario is.
network_of_its_own() {
    setpriv --pdeathsig KILL unshare --net sleep infinity &
    local pid=$!
    helpers+=" $pid"
    within 10 other_network_than_ours "$pid"
    ip link add outside type veth peer name inside netns "$pid"
    ip address add $gateway/24 dev outside
    ip link set outside up
    nsenter --target "$pid" --net sh -c 'ip link set lo up; ip address add 10.0.0.2/24 dev inside; ip link set inside up'
    nspawn_options+=(--network-namespace-path="/proc/$pid/ns/net")
}
other_network_than_ours() { [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }

# beside COMMAND…: runs a server outside the machine, from the extra packages, in $outside. It and all processes that it starts,
# which may change their user, end with the scenario.
beside() {
    # shellcheck disable=SC2016 # The shell in the namespace expands it.
    setpriv --pdeathsig KILL unshare --pid --fork --kill-child=KILL chroot "$outside" sh -c '"$@" & wait' - "$@" \
        </dev/null >>"$here/console.log" 2>&1 &
    helpers+=" $!"
}

prepare_outside() {
    [[ -z ${outside:-} ]] || return 0
    extras
    copy_in "$here/outside" "$extras"
    outside=$here/outside/root
    # squid shares memory between its processes.
    install --directory --mode=1777 "$outside/dev/shm"
    printf '127.0.0.1 localhost %s\n' $far_host >"$outside/etc/hosts"
}

# Starts Debian's squid at the gateway; with "USER:PASSWORD", it demands them. Sets `proxy` to its address.
squid() {
    prepare_outside
    proxy=$gateway:3128
    {
        printf 'http_port %s\nvisible_hostname proxy\ncache deny all\npinger_enable off\npid_filename none\nshutdown_lifetime 0 seconds\n' "$proxy"
        printf 'logformat wanted %%>Hs %%rm %%ru %%un "%%{User-Agent}>h"\naccess_log stdio:/var/log/squid/access.log wanted\n'
        if [[ -n ${1:-} ]]; then
            printf 'auth_param basic program /usr/lib/squid/basic_ncsa_auth /etc/squid/users\nauth_param basic children 2\n'
            printf 'acl users proxy_auth REQUIRED\nhttp_access allow users\n'
            printf '%s:%s\n' "${1%%:*}" "$(chroot "$outside" openssl passwd -apr1 -stdin <<<"${1#*:}")" >"$outside/etc/squid/users"
        else
            echo 'http_access allow all'
        fi
        echo 'http_access deny all'
    } >"$outside/etc/squid/squid.conf"
    beside squid -N
    within 20 listens "$gateway" 3128
}
listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# proxied TEXT: the number of lines in the proxy's log with the fixed text.
proxied() { grep --count --fixed-strings -- "$1" "$outside/var/log/squid/access.log" || true; }

# Starts Debian's nginx in front of the fake server, with TLS at address $1 and a certificate of a private CA, which is in
# $here/ca.pem. Sets `org_url`.
tls() {
    prepare_outside
    local dir=$outside/etc/tls
    mkdir "$dir"
    chroot "$outside" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj '/CN=Private CA of Acme' -keyout /etc/tls/ca.key -out /etc/tls/ca.pem 2>>"$here/console.log"
    chroot "$outside" openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$far_host" \
        -keyout /etc/tls/key -out /etc/tls/request 2>>"$here/console.log"
    printf 'subjectAltName=DNS:%s\n' $far_host >"$dir/names"
    chroot "$outside" openssl x509 -req -in /etc/tls/request -CA /etc/tls/ca.pem -CAkey /etc/tls/ca.key -days 2 \
        -extfile /etc/tls/names -out /etc/tls/cert 2>>"$here/console.log"
    cat >"$outside/etc/nginx/nginx.conf" <<NGINX
daemon off;
pid /run/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_max_body_size 0;
    server {
        listen $1:443 ssl;
        ssl_certificate /etc/tls/cert;
        ssl_certificate_key /etc/tls/key;
        location / {
            proxy_pass $server_url;
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_read_timeout 600;
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-Proto https;
        }
    }
}
NGINX
    beside nginx
    within 20 listens "$1" 443
    cp "$dir/ca.pem" "$here/ca.pem"
    org_url=https://$far_host/acme
}
