# The fake GitHub server outside the machines, and its state.

# Starts it with the flags "$@"; sets `org_url` and `api_token`.
server() {
    local ready=$here/server.json
    # An earlier server's answer must not be taken for this one's.
    rm --force "$ready"
    setpriv --pdeathsig KILL "${RUNUP_SANDBOX_BIN:-$bin}" sandbox "$@" >"$ready" 2>"$here/server.log" </dev/null &
    server_pid=$!
    within 60 test -s "$ready"
    server_url=$(jq --raw-output .url "$ready")
    org_url=$(jq --raw-output .org_url "$ready")
    api_token=$(jq --raw-output .token "$ready")
}

# Stops it: nothing listens at its address any more.
server_off() {
    install --mode=600 /dev/stdin "$here/api-token" <<<"$api_token"
    kill -KILL "$server_pid"
    wait "$server_pid" || true
    server_pid=""
}

# Starts it again, at the same address and with the same token, and without any other state.
server_on() {
    server --listen "${server_url#http://}" --token-file "$here/api-token" "$@"
}

# control METHOD PATH [JSON]: a control call of the fake server. The token is passed on stdin, not on the command line.
control() {
    printf 'header = "Authorization: Bearer %s"\n' "$api_token" |
        curl --silent --show-error --fail --max-time 60 --config - --request "$1" "$server_url/_sandbox/$2" ${3+--data "$3"}
}

# state FILTER…: jq over the server's whole state.
state() { control GET state | jq --raw-output "$@"; }

runners() { state '.runners | length'; }
runner_id() { state '.runners[0].id'; }
online() { [[ $(state '[.runners[] | select(.online)] | length') == "${1:-1}" ]]; }
busy() { [[ $(state '[.runners[] | select(.busy)] | length') == "${1:-1}" ]]; }
offline() { [[ $(state '[.runners[] | select(.online | not)] | length') == "${1:-1}" ]]; }
no_runner() { [[ $(runners) == 0 ]]; }

# Number of successful requests of the route $1; `register` counts registrations.
requests() {
    control GET requests | jq --arg route "$1" '[.[] | select(.route == $route and (.status // 999) < 300)] | length'
}

# job SECONDS: queues a job.
job() { control POST jobs "{\"scope\":\"orgs/acme\",\"seconds\":$1}" | jq .id; }
job_done() { [[ $(state --argjson id "$1" '.jobs[] | select(.id == $id) | .done') == true ]]; }

# script SCRIPT [RUNNER]: queues a job that runs SCRIPT, and prints its id.
script() {
    jq --null-input --arg script "$1" --arg runner "${2:-}" \
        '{scope: "orgs/acme", script: $script} + if $runner == "" then {} else {runner: $runner} end' >"$here/job.json"
    control POST jobs "@$here/job.json" | jq .id
}

# job_of ID FILTER: jq over one job.
job_of() { state --argjson id "$1" ".jobs[] | select(.id == \$id) | $2"; }

# held_job [RUNNER]: queues a job that runs until `release`, so that the slowest look finds it at work, and prints its id.
held_job() {
    hold
    script "$held" "${1:-}"
}
held='until [ -e /srv/free ]; do sleep 0.2; done'
hold() { rm --force "$root/srv/free"; }
release() { touch "$root/srv/free"; }

# release_once COMMAND…: releases the job in the background, two seconds after the command succeeds; `released` waits for that. What
# the last `exits` printed is gone then.
release_once() {
    : >"$here/stdout"
    : >"$here/stderr"
    { within 60 "$@" && sleep 2 && release; } &
    releasing=$!
}
released() { wait "$releasing"; }

# The command that runs says that it waits for the end of a job.
says_to_wait() { cat "$here/stdout" "$here/stderr" | grep --extended-regexp 'a job is running|is running a job' >/dev/null; }

# finished ID: waits for the end of a job, whatever its result. Its output goes to the log, where `job_says` looks.
finished() {
    within 200 job_done "$1"
    echo "--- job $1: $(job_of "$1" .result)"
    job_of "$1" .log | sed 's/^/  job: /'
    last_job=$1
}

# job_says TEXT: the last finished job printed it.
job_says() { job_of "$last_job" .log | grep --fixed-strings -- "$1" >/dev/null || fail "the job did not print: $1"; }
job_does_not_say() { ! job_of "$last_job" .log | grep --fixed-strings -- "$1" || fail "the job printed: $1"; }

# fault JSON: for example {"route":"*","kind":"status","code":503}.
fault() { control POST faults "$1"; }
no_faults() { control DELETE faults; }
