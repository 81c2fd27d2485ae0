# run: goes online, takes jobs, and exits like GitHub's listener.
#
# One process only waits for signals; a second one does the work. A trap during a command substitution can break a
# shell, so the first process has none while its traps are set.

stamp() { local now; utc now '%Y-%m-%d %H:%M:%SZ' && echo "$now"; }

listen() {
    local code worker='' stopping='' work
    # From here on an exception ends the program by another code.
    failure_code=2
    write_jit
    is_configured || fail "Not configured. Run config.(sh/cmd) to configure the runner."
    [[ -e $root/.runner ]] ||
        throw "Value cannot be null. (Parameter 'configuredSettings')"
    [[ -e $(newest .credentials) ]] || fail "Not configured. Run config.(sh/cmd) to configure the runner."
    client=$(value clientId "$(cat "$(newest .credentials)")")
    server=$(setting serverUrlV2)
    server=${server%/}
    folder=$(setting workFolder)
    work=$root/$folder
    [[ $folder != /* ]] || work=$folder
    { mkdir -p "$work" 2>/dev/null && [[ -r $work && -x $work ]]; } ||
        fail "Fail to create and validate runner's work directory '$work'."
    ephemeral=$(setting ephemeral)

    # A SIGINT that was ignored when this program started stays ignored: bash cannot trap it, and neither can .NET.
    trap 'stopping=yes; [[ -z $worker ]] || kill -TERM "$worker" 2>/dev/null' INT
    # SIGTERM ends it at once: its session stays on the server. So does its job, of which the server is told nothing.
    trap '[[ -z $worker ]] || kill -KILL "$worker" 2>/dev/null; trap - TERM; kill -TERM $$' TERM
    listening &
    worker=$!
    [[ -z $stopping ]] || kill -TERM "$worker" 2>/dev/null
    wait "$worker" 2>/dev/null
    code=$?
    while kill -0 "$worker" 2>/dev/null; do
        wait "$worker" 2>/dev/null
        code=$?
    done
    trap '' INT
    [[ -n $stopping ]] || exit "$code"
    say "Exiting..."
    request DELETE "$server/session" "Bearer $client"
    exit 0
}

listening() {
    trap - INT TERM
    # A second process starts without the first one's handlers.
    trap : PIPE
    open_session
    misbehave
    say ""
    say "√ Connected to GitHub"
    say ""
    say "Current runner version: '$version'"
    say "$(stamp): Listening for Jobs"
    while :; do
        if request GET "$server/message" "Bearer $client"; then
            case $http_status in
            204) online ;;
            200)
                online
                take_message
                ;;
            400) offline "$(value error_description "$http_body" || value error "$http_body")" ;;
            404)
                complain "The runner no longer exists on the server. Cleaning up local configuration."
                delete_configuration
                exit 0
                ;;
            esac
        fi
        still_ours
        pause 0.3
    done
}

# The two processes are one program: this one does not outlive a killed listener.
still_ours() { kill -0 $$ 2>/dev/null || exit 1; }

# Printed once, and retried for ever.
offline() {
    [[ -z $was_offline ]] || return 0
    was_offline=yes
    complain "$(stamp): Runner connect error: $1. Retrying until reconnected."
}

online() {
    [[ -n $was_offline ]] || return 0
    was_offline=''
    say "$(stamp): Runner reconnected."
}

open_session() {
    local conflicts=0 failures=0
    until request POST "$server/session" "Bearer $client" "{\"version\":\"$version\",\"platform\":\"$platform\"}" &&
        [[ $http_status == 2* ]]; do
        still_ours
        case $http_status in
        400 | 404)
            [[ $http_status == 404 ]] || log "$(value error "$http_body")"
            fail "The runner registration has been deleted from the server, please re-configure. Runner registrations are automatically deleted for runners that have not connected to the service recently."
            ;;
        409)
            complain "$(stamp): A session for this runner already exists."
            ((++conflicts < 12)) || exit 5
            pause 2
            ;;
        426)
            complain "Runner version v$version is deprecated and cannot receive messages."
            [[ $(lower "$ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE") =~ ^(1|true)$ ]] && exit 7
            exit 1
            ;;
        *)
            log "attempt $((++failures)) failed"
            ((failures < 3)) || { refused POST "$server/session"; exit 1; }
            pause 1
            ;;
        esac
    done
}

take_message() {
    if value update_version "$http_body" >/dev/null; then self_update; else take_job; fi
}

take_job() {
    local id name seconds has_script script='' job_log result=Succeeded
    id=$(value job_id "$http_body")
    name=$(value job_name "$http_body")
    seconds=$(value seconds "$http_body")
    has_script=$(value script "$http_body")
    # Until this is said, the server gives the job to the next session if this one ends.
    if ! ask POST "$server/jobs/$id/taken" "Bearer $client"; then
        log "job $id is not this runner's any more"
        return
    fi
    say "$(stamp): Running job: $name"
    job_log=$root/_diag/Worker_$(date -u +%Y%m%d-%H%M%S)-utc.log
    : >"$job_log"
    if [[ $has_script == true ]]; then
        script=$work/_temp/$id.sh
        mkdir -p "$work/_temp" && fetch "$server/jobs/$id/script" "$script" "Bearer $client" || result=Failed
    fi
    if [[ $result == Succeeded ]]; then
        run_worker "$id" "$name" "$seconds" "$work" "$script" || result=Failed
    fi
    still_ours
    [[ -z $script || ! -f $job_log ]] || send_log
    ask POST "$server/jobs/$id/done" "Bearer $client" "{\"result\":\"$result\"}" ||
        complain "$(stamp): the end of the job could not be reported"
    say "$(stamp): Job $name completed with result: $result"
    if [[ $ephemeral == true ]]; then
        delete_configuration
        exit 0
    fi
}

# The output of the job, as text; the server keeps a part of it.
send_log() {
    local LC_ALL=C text
    # With the line break at its end, which $(...) would take away.
    IFS= read -r -d '' text < <(head -c 200000 "$job_log" | tr -d '\000')
    ask POST "$server/jobs/$id/log" "Bearer $client" "$text" || log "the log of the job could not be sent"
}

# run_worker ARGUMENT...: as in GitHub's runner, the job is a separate process. It is cancelled when its listener is
# stopped; until then the session is kept alive.
run_worker() {
    local job beat code
    "$root/bin/Runner.Worker" spawnclient "$@" </dev/null >>"$job_log" 2>&1 &
    job=$!
    heartbeat </dev/null >/dev/null 2>&1 &
    beat=$!
    trap 'kill "$beat" 2>/dev/null; cancel "$job"; say "$(stamp): Job $2 completed with result: Canceled"; exit 143' TERM
    wait "$job"
    code=$?
    trap - TERM
    kill "$beat" 2>/dev/null
    wait "$beat" 2>/dev/null
    return "$code"
}

heartbeat() {
    while pause 2 && kill -0 $$ 2>/dev/null; do
        request GET "$server/message?status=Busy" "Bearer $client"
    done
}

# Ends the job, and waits for that.
cancel() {
    kill "$1" 2>/dev/null
    while kill -0 "$1" 2>/dev/null; do wait "$1" 2>/dev/null; done
}

# The fault that the sandbox requested in its answer: to exit with a code, after starting a self-update if the code
# means that.
misbehave() {
    local code
    code=$(value sandbox_exit "$http_body") || return 0
    complain "$(stamp): The sandbox was asked to end with exit code $code."
    if [[ $code == [34] ]]; then
        cd "$root" || exit 1
        if [[ ! -L bin ]]; then
            mv bin "bin.$version" && ln -s "$root/bin.$version" bin
            mv externals "externals.$version" && ln -s "$root/externals.$version" externals
        fi
        (pause 0.5 && : >update.finished) </dev/null >/dev/null 2>&1 &
    fi
    exit "$code"
}

# A sleep that keeps no pipe open if it outlives its shell.
pause() { sleep "$1" </dev/null >/dev/null 2>&1; }

# --jitconfig: base64 of a JSON map from file names to base64, written at every start with it.
write_jit() {
    local config file content
    config=$(input jitconfig)
    [[ -n $config ]] || return 0
    config=$(printf '%s' "$config" | base64 -d 2>/dev/null) || fail "The jit configuration is not valid."
    for file in .runner .credentials .credentials_rsaparams; do
        content=$(value "$file" "$config") || fail "The jit configuration is not valid."
        printf '%s' "$content" | base64 -d | write "$file" || exit
    done
    chmod 600 "$root/.credentials_rsaparams"
}
