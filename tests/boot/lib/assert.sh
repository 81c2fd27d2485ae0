# What a scenario says and demands. The first demand that is not met ends it.

fail() {
    echo "NOT AS IT SHOULD BE: $*" >&2
    exit 1
}

# Shown beside the scenario's result.
note() {
    printf '%s\n' "$*" >>"$here/notes"
    echo "note: $*"
}

# Seconds with tenths since the moment $1, which `now` gave.
now() { date +%s%N; }
since() { awk -v ns=$(($(now) - $1)) 'BEGIN { printf "%.1f s", ns / 1e9 }'; }

# within SECONDS COMMAND…: waits until the command succeeds.
within() {
    local end=$(($(now) + $1 * 1000000000)) limit=$1
    shift
    until "$@" >/dev/null 2>&1; do
        (($(now) < end)) || fail "within $limit s: $*"
        sleep 0.1
    done
}

# Fails unless the command succeeds, or fails.
must() { "$@" || fail "$*"; }
must_not() { ! "$@" || fail "not: $*"; }

# same WANTED GOT WHAT
same() {
    [[ $1 == "$2" ]] || fail "$3 is \"$2\", not \"$1\""
}

# exits CODE COMMAND…: runs it; what it prints is in $here/stdout and $here/stderr, and `says` looks there.
exits() {
    local wanted=$1 code=0
    shift
    echo "+ $*"
    "$@" >"$here/stdout" 2>"$here/stderr" </dev/null || code=$?
    sed 's/^/  out: /' "$here/stdout"
    sed 's/^/  err: /' "$here/stderr"
    same "$wanted" "$code" "the exit code of: $*"
}

# says TEXT…: the last `exits` printed each of them, in whatever case.
says() {
    local text
    for text in "$@"; do
        cat "$here/stdout" "$here/stderr" | grep --ignore-case --fixed-strings -- "$text" >/dev/null ||
            fail "the command did not say: $text"
    done
}

# The path below $root does not exist, not even as a dangling link.
absent() {
    local path
    for path in "$@"; do
        [[ ! -e $root$path && ! -L $root$path ]] || fail "$path is still there"
    done
}
