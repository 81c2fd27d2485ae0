# Tools that the jobs of several runners share.

readonly shared=/opt/hostedtoolcache

# shared_tool TOOL/VERSION/ARCH: an operator's program, which prints its path.
shared_tool() {
    install -D --mode=755 /dev/stdin "$root$shared/$1/bin/tool" <<<$'#!/bin/sh\necho tool '"$1"
    : >"$root$shared/$1.complete"
}

# Looks as the actions of actions/setup-* do.
find_tools() {
    cat <<'FIND'
cd $RUNNER_TOOL_CACHE && for tool in */*/*.complete; do [ -e $tool ] && ${tool%.complete}/bin/tool; done
FIND
}

# A job changes nothing for the jobs of another runner, and has root write nowhere.
scenario_shared_tools() {
    local name
    server
    machine
    credentials
    printf 'name = "box"\n' >>"$root/etc/runup/config.toml"
    shared_tool node/20.1.0/x64
    shared_tool Ruby/3.3.0/x64
    chmod 777 "$root$shared"
    switch_on
    exits 78 runup install --count 2 --tool-cache $shared
    says "users other than root can change $shared"
    must no_runner
    chmod 755 "$root$shared"
    exits 0 runup install --count 2 --tool-cache $shared
    within 60 online 2
    hostile "$(find_tools)"'
plant $RUNNER_TOOL_CACHE/node/20.1.0/x64/bin/tool <<<"echo mine"; plant /opt/hostedtoolcache/Ruby/3.3.0/x64/bin/tool <<<"echo mine"
touch /opt/hostedtoolcache/mine && echo "created one"
mkdir -p go/1.0.0/x64/bin && echo "echo added" >go/1.0.0/x64/bin/tool && chmod 755 go/1.0.0/x64/bin/tool && touch go/1.0.0/x64.complete
mkdir -p ~/.config/runup && echo json = true >~/.config/runup/config.toml
rm -r Ruby && mkdir $loot/elsewhere && ln -s $loot/elsewhere Ruby && echo over' box
    for name in node/20.1.0/x64 Ruby/3.3.0/x64 "could not plant" over; do job_says "$name"; done
    job_does_not_say "planted"
    job_does_not_say "created one"
    # The links are made at each start.
    inside systemctl restart $unit
    within 60 online 2
    must_not sh -c "journalctl --quiet --directory='$root/var/log/journal' | grep -F 'available to jobs: {'"
    same "" "$(find "$root$loot/elsewhere" -mindepth 1 -uid 0)" "what root put where a link led"
    hostile "$(find_tools)"'
cd ..; rm -r _tool; ln -s $loot/elsewhere _tool; echo over' box
    job_says node/20.1.0/x64
    job_says added
    inside systemctl restart $unit
    within 60 online 2
    same "" "$(find "$root$loot/elsewhere" -mindepth 1 -uid 0)" "what root put where a link led"
    hostile "$(find_tools)" box-2
    for name in node/20.1.0/x64 Ruby/3.3.0/x64; do job_says "tool $name"; done
    job_does_not_say added
    # What others can change by now is not for jobs.
    chmod 777 "$root$shared/node/20.1.0/x64"
    exits 0 runup remove --all
    exits 0 runup install --tool-cache $shared
    within 60 online
    hostile "$(find_tools)"
    job_says "tool Ruby/3.3.0/x64"
    job_does_not_say node
    journal | grep "some tools of --tool-cache are not available to jobs: $shared/node/20.1.0/x64: users other than root can change it" >/dev/null ||
        fail "nothing tells that a tool is left out"
}

# What a job does with the links, the next one cannot tell: they are its user's, wherever it moves them.
scenario_shared_tools_of_an_ephemeral_runner() {
    local first
    server
    machine
    credentials
    shared_tool node/20.1.0/x64
    shared_tool node/22.0.0/x64
    install --directory --mode=1777 "$root/srv/shared"
    switch_on
    exits 0 runup install --ephemeral --tool-cache $shared
    within 60 online
    first=$(runner_id)
    # Without the logs, only this tells what the job did.
    hostile "exec >$loot/did"'
'"$(find_tools)"'
mv node/20.1.0/x64 /srv/shared/left && mv node/20.1.0/x64.complete $tree/.proxy && echo moved
mv $tree/_diag $work/old && mv node/22.0.0/x64 $tree/_diag && echo in the place of the logs'
    within 60 fresh_runner "$first"
    for name in "tool node/20.1.0/x64" moved "in the place of the logs"; do
        must grep --quiet --fixed-strings "$name" "$root$loot/did"
    done
    first=$(runner_id)
    absent /srv/shared/left /opt/actions-runner/.proxy
    hostile "$(find_tools)"'
stat --format="the logs are a %F" $tree/_diag; ls -A $tree /srv/shared'
    for name in node/20.1.0/x64 node/22.0.0/x64 "the logs are a directory"; do job_says "$name"; done
    job_does_not_say .proxy
    job_does_not_say left
    # One that others can change by now is left out, and stops no runner.
    within 60 fresh_runner "$first"
    first=$(runner_id)
    chmod 777 "$root$shared"
    hostile "$(find_tools)"
    job_says node/22.0.0/x64
    within 60 fresh_runner "$first"
    hostile "$(find_tools)"'
echo over'
    job_says over
    job_does_not_say node
}
