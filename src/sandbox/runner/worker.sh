#!/bin/bash
# The stand-in for GitHub's Runner.Worker, which runs one job: it takes the time that it is told to take.

[[ $1 == spawnclient ]] || { echo "This program is started by the listener." >&2; exit 1; }
sleep "$2" </dev/null >/dev/null 2>&1 &
trap 'kill $! 2>/dev/null; exit 1' TERM
wait $!
