# Notes and assertions of a scenario. The first assertion that fails ends it.

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Printed next to the scenario's result.
note() {
    printf '%s\n' "$*" >>"$here/notes"
    echo "note: $*"
}

# Seconds, with tenths, since $1, a result of `now`.
now() { date +%s%N; }
since() { awk -v ns=$(($(now) - $1)) 'BEGIN { printf "%.1f s", ns / 1e9 }'; }

# within SECONDS COMMAND…: waits until the command succeeds. A limit costs nothing when it does, so it is a minute or more, unless
# it is what the scenario is about: other machines may be busy.
within() {
    local end=$(($(now) + $1 * 1000000000)) limit=$1
    shift
    until "$@" >/dev/null 2>&1; do
        if (($(now) >= end)); then
            # The last look may have begun long ago.
            "$@" >/dev/null 2>&1 && return
            fail "not within $limit s: $*"
        fi
        # Each look starts processes, and many machines wait at once.
        sleep 0.25
    done
}

# must: fails unless the command succeeds. must_not: fails unless it fails.
must() { "$@" || fail "$*"; }
must_not() { ! "$@" || fail "not: $*"; }

# same WANTED GOT WHAT
same() {
    [[ $1 == "$2" ]] || fail "$3 is \"$2\", not \"$1\""
}

# exits CODE COMMAND…: runs it and checks its exit code. Its output is in $here/stdout and $here/stderr, where `says` looks.
exits() {
    local wanted=$1 code=0
    shift
    echo "+ $*"
    "$@" >"$here/stdout" 2>"$here/stderr" </dev/null || code=$?
    sed 's/^/  out: /' "$here/stdout"
    sed 's/^/  err: /' "$here/stderr"
    same "$wanted" "$code" "the exit code of: $*"
}

# says TEXT…: the last `exits` printed each of them, in upper or lower case.
says() {
    local text
    for text in "$@"; do
        cat "$here/stdout" "$here/stderr" | grep --ignore-case --fixed-strings -- "$text" >/dev/null ||
            fail "the command did not print: $text"
    done
}

# does_not_say TEXT…: the last command printed none of them.
does_not_say() {
    local text
    for text in "$@"; do
        cat "$here/stdout" "$here/stderr" | grep --ignore-case --fixed-strings -- "$text" >/dev/null &&
            fail "the command printed: $text"
    done
    return 0
}

# The path below $root does not exist, not even as a dangling link.
absent() {
    local path
    for path in "$@"; do
        [[ ! -e $root$path && ! -L $root$path ]] || fail "$path is still there"
    done
}
