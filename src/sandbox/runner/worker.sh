#!/bin/bash
# The fake Runner.Worker, which runs one job as the user of its listener: a script, or a sleep for some
# seconds. It exits 0 if the job succeeded, 1 if it failed, and 143 if it was cancelled.
#
# Runner.Worker spawnclient JOB NAME SECONDS WORK_DIRECTORY [SCRIPT]

[[ $1 == spawnclient ]] || { echo "This program is started by the listener." >&2; exit 1; }
job=$2 name=$3 seconds=$4 work=$5 script=$6
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P) || exit 1
source "$root/bin/standin/files.sh" || exit 1
step='' cancelled='' signal=KILL
# A script gets some time to clean up.
[[ -z $script ]] || signal=INT
trap 'cancelled=yes; [[ -z $step ]] || kill "-$signal" "$step" 2>/dev/null' TERM

# Waits for the child, even if signals interrupt the wait; its exit code is in $code.
wait_for_step() {
    [[ -z $cancelled ]] || kill "-$signal" "$step" 2>/dev/null
    wait "$step"
    code=$?
    local tries=0
    while kill -0 "$step" 2>/dev/null; do
        if [[ -n $cancelled ]]; then
            ((++tries == 10)) && kill -TERM "$step" 2>/dev/null
            ((tries == 15)) && kill -KILL "$step" 2>/dev/null
            sleep 0.1 </dev/null >/dev/null 2>&1
            continue
        fi
        wait "$step"
        code=$?
    done
    step=''
    [[ -z $cancelled ]] || exit 143
}

if [[ -z $script ]]; then
    sleep "$seconds" </dev/null >/dev/null 2>&1 &
    step=$!
    wait_for_step
    exit 0
fi

# The environment of every job. A step that does not remove RUNNER_TRACKING_ID is ended with its job.
export CI=true GITHUB_ACTIONS=true GITHUB_JOB=$name GITHUB_RUN_ID=$job GITHUB_RUN_NUMBER=$job GITHUB_RUN_ATTEMPT=1
export GITHUB_ACTION=__run GITHUB_EVENT_NAME=workflow_dispatch GITHUB_REF=refs/heads/main GITHUB_REF_NAME=main
GITHUB_SERVER_URL=$(setting gitHubUrl)
[[ ! $GITHUB_SERVER_URL =~ ^[a-z]+://[^/]+ ]] || GITHUB_SERVER_URL=${BASH_REMATCH[0]}
export GITHUB_SERVER_URL GITHUB_REPOSITORY=acme/hello GITHUB_REPOSITORY_OWNER=acme
export GITHUB_WORKSPACE=$work/hello/hello RUNNER_WORKSPACE=$work/hello RUNNER_TEMP=$work/_temp
export RUNNER_TOOL_CACHE=${RUNNER_TOOL_CACHE:-$work/_tool} RUNNER_ENVIRONMENT=self-hosted RUNNER_OS=@OS_LABEL@ RUNNER_ARCH=@ARCH@
RUNNER_NAME=$(setting agentName)
export RUNNER_NAME RUNNER_TRACKING_ID=github_$job-$$-$RANDOM
commands=$RUNNER_TEMP/_runner_file_commands
mkdir -p "$GITHUB_WORKSPACE" "$RUNNER_TOOL_CACHE" "$commands" || exit 1
export GITHUB_ENV=$commands/set_env_$job GITHUB_PATH=$commands/add_path_$job GITHUB_OUTPUT=$commands/set_output_$job
export GITHUB_STATE=$commands/save_state_$job GITHUB_STEP_SUMMARY=$commands/step_summary_$job
for file in "$GITHUB_ENV" "$GITHUB_PATH" "$GITHUB_OUTPUT" "$GITHUB_STATE" "$GITHUB_STEP_SUMMARY"; do : >"$file"; done
cd "$GITHUB_WORKSPACE" || exit 1

# Bash lets its background processes ignore SIGINT, and no shell can undo that.
default_signals=(env --default-signal=INT)
"${default_signals[@]}" true 2>/dev/null || default_signals=()

# run_step FILE: runs it like GitHub runs a step with the shell bash.
run_step() {
    ${default_signals[@]+"${default_signals[@]}"} bash --noprofile --norc -eo pipefail "$1" </dev/null &
    step=$!
    wait_for_step
}

# The processes that a step left.
end_orphans() {
    local entry
    for entry in $(grep -lzx "RUNNER_TRACKING_ID=$RUNNER_TRACKING_ID" /proc/[0-9]*/environ 2>/dev/null); do
        entry=${entry#/proc/}
        entry=${entry%/environ}
        [[ $entry == "$$" ]] || kill -KILL "$entry" 2>/dev/null
    done
}
trap end_orphans EXIT

if [[ -f $root/.setup_info ]]; then
    echo "##[group]Set up job"
    cat "$root/.setup_info"
    echo "##[endgroup]"
fi
result=0
if [[ -n $ACTIONS_RUNNER_HOOK_JOB_STARTED ]]; then
    echo "##[group]Set up runner"
    run_step "$ACTIONS_RUNNER_HOOK_JOB_STARTED"
    echo "##[endgroup]"
    ((code == 0)) || exit 1
fi
run_step "$script"
if ((code != 0)); then
    echo "##[error]Process completed with exit code $code."
    result=1
fi
if [[ -n $ACTIONS_RUNNER_HOOK_JOB_COMPLETED ]]; then
    run_step "$ACTIONS_RUNNER_HOOK_JOB_COMPLETED"
    ((code == 0)) || result=1
fi
exit "$result"
