# shellcheck shell=bash
# The machine of a scenario, and what doctor says about it.

# Gives the scenario a machine of its own: this one's files, where every change is in $layers, and no systemd.
machine() {
    local dir
    chmod 755 "$here"
    # By a path that lasts, and that every user can run.
    touch "$here/runup"
    mount --bind "$bin" "$here/runup"
    bin=$here/runup
    layers=$here/layers
    mkdir "$layers"
    mount -t tmpfs -o mode=755 tmpfs "$layers"
    for dir in etc home opt usr var/lib; do
        mkdir --parents "$layers/$dir/"{upper,work}
        mount -t overlay -o "lowerdir=/$dir,upperdir=$layers/$dir/upper,workdir=$layers/$dir/work" overlay "/$dir"
    done
    mount -t tmpfs -o mode=755 tmpfs /run
    # Where squid's processes would meet those of another scenario.
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    rm --recursive --force /etc/runup /etc/resolv.conf /opt/{actions-runner*,.runup-store} /var/lib/runup
    if id actions-runner >/dev/null 2>&1; then userdel --force actions-runner; fi
    touch /etc/resolv.conf
    printf '127.0.0.1 localhost\n127.0.0.1 %s\n' "$(uname --nodename)" >/etc/hosts
    printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n' >/etc/nsswitch.conf
    ip link set lo up
    : >"$here/secrets"
}

# A machine with everything that a check looks at, to learn the ids from the program.
every_check() {
    github
    exits 0 env "${environment[@]}" "$bin" bake --url "$org_url"
    exits 0 env "${environment[@]}" "$bin" install --url "$org_url" --service none
    mkdir --parents /run/systemd/system
    doctor 71 --url "$org_url" --service systemd
    control PATCH "runners/$(runner_id)" '{"deleted":true}'
    rmdir /run/systemd/system
    doctor 78
}

# What has changed on this machine, without the log of a runner that runs.
everything() {
    find "$layers" /run -not -path '*/_diag/*' -printf '%p %y %m %U:%G %s %T@ %l\n' | sort
}

# doctor CODE [FLAG…]: runs it with the variables in `environment`, in the network of `inside`. It ends with this exit code (or
# one of them, as in 0|75), soon, tells no secret and changes nothing. `fine`, `fails` and `unknown` look at what it said. Without
# `stalled`, only a busy machine keeps it from an answer; then it is asked once more.
doctor() {
    local from took code wanted=$1
    shift
    everything >"$here/before"
    ask_doctor "$@"
    if [[ -z ${stalled:-} ]] && jq --exit-status 'any(.checks[]?; .detail // "" | contains("in time"))' "$here/stdout" >/dev/null; then
        echo "the machine was too busy: once more"
        ask_doctor "$@"
    fi
    [[ $code =~ ^($wanted)$ ]] || fail "doctor ended with $code, not $wanted"
    # Five seconds are for what does not answer.
    ((took < 15000000000)) || fail "doctor took $((took / 1000000)) ms"
    everything >"$here/after"
    must diff "$here/before" "$here/after"
    must jq --raw-output '.checks[].id' "$here/stdout" >>"$here/ids"
    tells_no_secret
}

# Sets `code` and `took`.
ask_doctor() {
    echo "+ doctor $*"
    code=0
    from=$(now)
    "${inside[@]}" env "${environment[@]}" "$bin" doctor --json "$@" >"$here/stdout" 2>"$here/stderr" </dev/null || code=$?
    took=$(($(now) - from))
    # One line each.
    must jq --raw-output \
        '.error, .checks[]? | select(.) | "  \(.verdict) \(.id): \(.detail); \(.fix) (\(.name), \(.exit_code))"' "$here/stdout"
    sed 's/^/  err: /' "$here/stderr"
}

tells_no_secret() {
    local secret
    while read -r secret; do
        must_not grep --quiet --fixed-strings -- "$secret" "$here/stdout" "$here/stderr"
    done <"$here/secrets"
}

# of ID FIELD: one field of a check.
of() {
    jq --raw-output --arg id "$1" --arg field "$2" '[.checks[] | select(.id == $id) | .[$field]] | last // ""' "$here/stdout"
}

# verdict ID WANTED TEXT…: the check has it, and its detail and fix have each of these texts.
verdict() {
    local id=$1 wanted=$2 said text
    shift 2
    said="$(of "$id" detail); $(of "$id" fix)"
    [[ $(of "$id" verdict) == "$wanted" ]] || fail "$id is $(of "$id" verdict), not $wanted: $said"
    for text in "$@"; do
        [[ $said == *"$text"* ]] || fail "$id does not say \"$text\": $said"
    done
}
fine() { verdict "$1" fine "${@:2}"; }
unknown() { verdict "$1" unknown "${@:2}"; }

# fails ID NAME CODE TEXT…: the same, with the name of the error and the exit code of `install`. There is something to do.
fails() {
    verdict "$1" fails "${@:4}"
    same "$2" "$(of "$1" name)" "the name of $1"
    same "$3" "$(of "$1" exit_code)" "the exit code of $1"
    [[ -n $(of "$1" fix) ]] || fail "$1 does not say what to do"
}

# no_check ID: there is none.
no_check() { same "" "$(of "$1" verdict)" "the verdict of $1"; }
