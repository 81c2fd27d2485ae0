#!/bin/bash
# Runs the listener in the foreground, and restarts it if it requests that. Its exit code is always 0, unless the version
# is deprecated and the exit code for that was requested.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
run() {
    while :; do
        cp -f "$root/run-helper.sh.template" "$root/run-helper.sh"
        # shellcheck disable=SC2048,SC2086
        "$root/run-helper.sh" $*
        code=$?
        [[ $code -eq 2 ]] && continue
        [[ $code -eq 7 ]] && exit 7
        echo "Exiting runner..."
        exit 0
    done
}

if [[ -z "$RUNNER_MANUALLY_TRAP_SIG" ]]; then
    run "$@"
else
    set -m
    (run "$@") &
    pid=$!
    trap 'kill -INT -$pid 2>/dev/null' INT TERM
    wait $pid
    code=$?
    while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done
    [[ $code -eq 7 ]] && exit 7
    exit 0
fi
