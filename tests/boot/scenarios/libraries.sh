# The runner's libraries: machines without them, such as cloud images, and the distribution's real package manager.

# Packages that only the first machine downloads from Debian; kept in the cache for the next run.
readonly wanted_debs="libicu72 libgssapi-krb5-2"

# Removes the libraries, and gives the machine a package source in a directory, so that no network is needed.
without_libraries() {
    local kept=${base%/*}/debs-${base##*-}
    chroot "$root" dpkg --purge --force-depends libicu72 libgssapi-krb5-2 >"$here/purge.log" 2>&1
    must_not compgen -G "$root/usr/lib/*-linux-gnu/libicuuc.so.*"
    (
        # Several scenarios may do this in parallel.
        exec {debs_lock}>"${base%/*}/debs.lock"
        flock --wait 600 "$debs_lock"
        # shellcheck disable=SC2086 # two words
        [[ -d $kept ]] || fetch_debs "$kept" $wanted_debs
    )
    cp --recursive "$kept" "$root/repo"
    rm --recursive --force "$root"/etc/apt/sources.list* "$root"/var/lib/apt/lists/*
    packages_from file:/repo
}

# fetch_debs DIR PACKAGE…: downloads packages, with those that they need, into a directory that is a package source.
fetch_debs() {
    local kept=$1 dir=$1.building deb
    shift
    rm --recursive --force "$dir"
    mkdir --parents "$dir" "$root/debs/partial"
    cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
    # Uses the network outside the scenario.
    nsenter --net="$RUNUP_BOOT_NET" chroot "$root" apt-get --quiet=2 update
    nsenter --net="$RUNUP_BOOT_NET" chroot "$root" apt-get --quiet=2 --option=Dir::Cache::archives=/debs/ --option=APT::Sandbox::User=root \
        install --yes --no-install-recommends --download-only "$@"
    mv "$root"/debs/*.deb "$dir"
    for deb in "$dir"/*.deb; do
        dpkg-deb --field "$deb"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "${deb##*/}" "$(stat --format=%s "$deb")" \
            "$(sha256sum "$deb" | cut --characters=1-64)"
    done >"$dir/Packages"
    mv "$dir" "$kept"
}

packages_from() { echo "deb [trusted=yes] $1 ./" >"$root/etc/apt/sources.list"; }

has_icu() { compgen -G "$root/usr/lib/*-linux-gnu/libicuuc.so.72" >/dev/null; }
journal_of() { inside journalctl --quiet --unit="$1" --output=cat; }
journal_says() { journal_of "$1" | grep --fixed-strings "$2" >/dev/null; }

# Records every start of a package manager from now on.
watch_package_managers() {
    local program
    for program in apt-get apt-cache dpkg; do
        mv "$root/usr/bin/$program" "$root/usr/bin/$program.real"
        printf '#!/bin/sh\necho "$0 $*" >>/started\nexec "$0.real" "$@"\n' >"$root/usr/bin/$program"
        chmod 755 "$root/usr/bin/$program"
    done
}

scenario_libraries_to_online() {
    server --require-libicu
    machine
    without_libraries
    credentials
    switch_on
    # Without the option: refused before anything is registered, with the command that fixes it.
    exits 71 runup install
    says "libicu" "apt-get" "runup install --deps"
    must no_runner
    # As an ordinary user: prints the command for root on stdout, and changes nothing.
    inside apt-get --quiet=2 update
    exits 77 inside setpriv --reuid=65534 --regid=65534 --clear-groups env RUNUP_CONFIG=/dev/null runup bake --url "$org_url" --dir /tmp/runner --deps
    same "DEBIAN_FRONTEND=noninteractive apt-get --option=DPkg::Lock::Timeout=300 update && DEBIAN_FRONTEND=noninteractive apt-get --option=DPkg::Lock::Timeout=300 install --yes --no-install-recommends libicu72 libgssapi-krb5-2" \
        "$(<"$here/stdout")" "the command for root"
    must_not has_icu
    absent /tmp/runner

    local from
    from=$(now)
    exits 0 runup install --deps
    note "libraries and online after $(since "$from")"
    says "installed libicu72, libgssapi-krb5-2"
    must has_icu
    must online
    registered_once
    # Again: nothing is missing, and no package manager is started.
    watch_package_managers
    exits 0 runup install --deps
    says "all that the runner needs is there"
    absent /started
    # Other programs may use them by now.
    exits 0 runup remove
    must has_icu
    absent /started
}

# An image: in a chroot, without the machine's package manager.
scenario_libraries_of_an_image() {
    server
    machine
    without_libraries
    local image=("$bin" bake --deps --root "$root" --user root --url "$org_url")
    export RUNUP_TOKEN=$api_token
    rm --force "$root/etc/resolv.conf"
    packages_from http://127.0.0.1:9/
    exits 75 "${image[@]}"
    says "has no name server in its" "use the machine's file in the image" "Connection refused"
    absent /opt/actions-runner
    packages_from file:/repo
    exits 0 "${image[@]}"
    says "installed libicu72, libgssapi-krb5-2" "sealed"
    must has_icu
    watch_package_managers
    exits 0 "${image[@]}"
    absent /started /etc/resolv.conf
}

# At boot another process holds first the lock of the package lists, then dpkg's. runup waits for both.
scenario_libraries_while_others_install() {
    server
    machine
    without_libraries
    credentials
    switch_on
    local hold='my ($file, $sign) = @ARGV; open(my $lock, "+>>", $file) or die;
        my $whole = pack("s s x4 q q l x4", 1, 0, 0, 0, 0);
        fcntl($lock, 6, $whole) or die "locked already";
        open(my $held, ">", "$sign.held"); select(undef, undef, undef, 0.05) until -e "$sign.free";'
    in_background others-lists perl -e "$hold" /var/lib/apt/lists/lock /lists
    in_background others-dpkg perl -e "$hold" /var/lib/dpkg/lock-frontend /dpkg
    within 60 test -e "$root/lists.held"
    within 60 test -e "$root/dpkg.held"
    in_background baking runup bake --deps
    within 60 journal_says baking "waiting for another package manager to finish"
    touch "$root/lists.free"
    within 60 journal_says baking "Waiting for cache lock"
    must_not has_icu
    touch "$root/dpkg.free"
    within 60 journal_says baking "installed libicu72"
    within 60 journal_says baking "sealed"
    must has_icu
}

scenario_libraries_not_to_be_had() {
    server
    machine
    without_libraries
    credentials
    switch_on
    packages_from http://127.0.0.1:9/
    exits 75 runup bake --deps
    says "failed to install libicu" "Connection refused" "network, proxy and package sources"
    absent /opt/actions-runner
    # A package source without the package.
    mkdir "$root/empty"
    : >"$root/empty/Packages"
    packages_from file:/empty
    exits 71 runup bake --deps
    says "apt-get found no package libicu<version>" "package sources"
    # A package that cannot be unpacked: what dpkg says is shown.
    packages_from file:/repo
    mkdir --parents "$root/etc/dpkg/dpkg.cfg.d"
    printf 'pre-invoke=false\n' >"$root/etc/dpkg/dpkg.cfg.d/broken"
    exits 71 runup bake --deps --json
    same os "$(jq --raw-output .error.class "$here/stdout")" "the class of the error"
    must grep --quiet "dpkg" <<<"$(jq --raw-output .error.output "$here/stdout")"
    absent /opt/actions-runner
    rm "$root/etc/dpkg/dpkg.cfg.d/broken"
    exits 0 runup bake --deps
    must has_icu
}
