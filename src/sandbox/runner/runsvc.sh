#!/bin/bash
# The entry point of every service: the service's PATH, then Node, whose script starts the listener.

cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
# A copy is in the runner's directory, the original in bin.
[[ -e ./bin/Runner.Listener ]] || cd .. || exit 1
if [[ -f .path ]]; then
    PATH=$(cat .path)
    export PATH
    echo ".path=${PATH}"
fi
# With job control, the child does not inherit an ignored SIGINT.
set -m
pid=
stopping=
trap 'stopping=yes; [[ -z $pid ]] || kill -INT "$pid" 2>/dev/null' TERM INT
./externals/node20/bin/node ./bin/RunnerService.js &
pid=$!
[[ -z $stopping ]] || kill -INT "$pid"
wait "$pid"
while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
exit 0
