# run: goes online, takes pretend jobs, and ends as GitHub's listener ends.
#
# One process waits for signals and does nothing else; a second one does the work. A trap that strikes a shell in the
# middle of a command substitution can break it, so the first has none while its traps are set.

stamp() { date -u '+%Y-%m-%d %H:%M:%SZ'; }

listen() {
    local code worker='' stopping='' folder
    write_jit
    [[ -e $root/.runner && -e $root/.credentials ]] ||
        fail "Not configured. Run config.(sh/cmd) to configure the runner."
    client=$(value clientId "$(cat "$root/.credentials")")
    server=$(setting serverUrlV2)
    server=${server%/}
    folder=$(setting workFolder)
    mkdir -p "$root/$folder" 2>/dev/null ||
        fail "Fail to create and validate runner's work directory '$root/$folder'."
    ephemeral=$(setting ephemeral)

    trap 'stopping=yes; [[ -z $worker ]] || kill -TERM "$worker" 2>/dev/null' INT TERM
    work &
    worker=$!
    [[ -z $stopping ]] || kill -TERM "$worker" 2>/dev/null
    wait "$worker" 2>/dev/null
    code=$?
    while kill -0 "$worker" 2>/dev/null; do
        wait "$worker" 2>/dev/null
        code=$?
    done
    trap '' INT TERM
    [[ -n $stopping ]] || exit "$code"
    say "Exiting..."
    request DELETE "$server/session" "Bearer $client"
    exit 0
}

work() {
    trap - INT TERM
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
            200) take_message ;;
            404)
                complain "The runner no longer exists on the server; its local configuration is removed."
                delete_configuration
                exit 0
                ;;
            esac
        fi
        pause 0.3
    done
}

open_session() {
    local conflicts=0
    until ask POST "$server/session" "Bearer $client" "{\"version\":\"$version\",\"platform\":\"$platform\"}"; do
        case $http_status in
        404) fail "The runner registration has been deleted from the server, please re-configure. Runner registrations are automatically deleted for runners that have not connected to the service recently." ;;
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
            refused POST "$server/session"
            exit 1
            ;;
        esac
    done
}

take_message() {
    if value update_version "$http_body" >/dev/null; then self_update; else take_job; fi
}

take_job() {
    local id name seconds
    id=$(value job_id "$http_body")
    name=$(value job_name "$http_body")
    seconds=$(value seconds "$http_body")
    say "$(stamp): Running job: $name"
    : >"$root/_diag/Worker_$(date -u +%Y%m%d-%H%M%S)-utc.log"
    run_worker "$seconds"
    ask POST "$server/jobs/$id/done" "Bearer $client" || complain "$(stamp): the end of the job could not be reported"
    say "$(stamp): Job $name completed with result: Succeeded"
    if [[ $ephemeral == true ]]; then
        delete_configuration
        exit 0
    fi
}

# The job itself is a process of its own, as with GitHub's. It ends when its listener is told to.
run_worker() {
    local job
    "$root/bin/Runner.Worker" spawnclient "$1" </dev/null &
    job=$!
    trap 'kill "$job" 2>/dev/null; exit 143' TERM
    wait "$job"
    trap - TERM
}

# What the sandbox asked for in its answer: to end with an exit code, once an update of itself is under way if that is
# what the code means.
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

# A sleep that keeps nobody's pipe open, should it outlive its shell.
pause() { sleep "$1" </dev/null >/dev/null 2>&1; }

# --jitconfig: base64 of a JSON map from file names to base64, written on every start that carries it.
write_jit() {
    local config file content
    config=$(input jitconfig)
    [[ -n $config ]] || return 0
    config=$(printf '%s' "$config" | base64 -d 2>/dev/null) || fail "The jit configuration is not valid."
    for file in .runner .credentials .credentials_rsaparams; do
        content=$(value "$file" "$config") || fail "The jit configuration is not valid."
        printf '%s' "$content" | base64 -d >"$root/$file"
    done
    chmod 600 "$root/.credentials_rsaparams"
}
