# `runup run`, which a container or the unit of an ephemeral runner starts, and which deregisters the runner when the machine
# stops.

# A machine on which a unit runs `runup run "$@"`; returns when the runner is online.
with_run() {
    server
    machine
    credentials
    switch_on
    write_run_unit "$@"
    inside systemctl enable --now --quiet $run_unit
    within 60 online
}

run_unit=by-hand.service

write_run_unit() {
    cat >"$root/etc/systemd/system/$run_unit" <<UNIT
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
ExecStart=/usr/bin/runup run $*
KillMode=mixed
TimeoutStopSec=150
[Install]
WantedBy=multi-user.target
UNIT
    inside systemctl daemon-reload
}

# The exit code of the unit's process.
exit_status() { property $run_unit ExecMainStatus; }

# The runner's user cannot reach the cloud's metadata.
metadata_denied() {
    local uid
    uid=$(inside id --user actions-runner)
    [[ $(ip rule list priority 1) == *"to 169.254.169.254 uidrange $uid-$uid ipproto tcp dport 80 prohibit"* ]]
}

# No process of the runner is left in the machine.
no_runner_processes() { must_not processes "$tree/"; }

scenario_run_and_stop() {
    with_run --drain 60s
    registered_once
    within 60 no_root_in "$run_unit"
    must metadata_denied
    local job from
    job=$(held_job)
    within 60 busy
    from=$(now)
    release_once stopping $run_unit
    exits 0 inside systemctl stop $run_unit
    released
    note "drained a job in $(since "$from")"
    must job_done "$job"
    same 0 "$(exit_status)" "the exit code of run"
    # It stays registered, as removal was not requested. The server would keep a session that is not ended for twenty seconds.
    within 15 offline
    no_runner_processes
    inside systemctl start $run_unit
    within 60 online
    registered_once
    reboot
    within 60 sessions 3
    must online
    registered_once
    # A job that does not get enough time.
    write_run_unit --drain 1s
    inside systemctl restart $run_unit
    within 60 sessions 4
    job=$(job 600)
    within 60 busy
    from=$(now)
    exits 0 inside systemctl stop $run_unit
    note "cut short in $(since "$from")"
    same 143 "$(exit_status)" "the exit code of run"
    no_runner_processes
    exits 0 runup remove
    must no_runner
    absent "$tree"
}

# Only the supervisor runs as root; its children run as the runner's user.
no_root_in() {
    local children
    children=$(inside ps -o user:32= --ppid "$(property "$1" MainPID)" | sort --unique)
    [[ $children == actions-runner ]]
}

scenario_ephemeral_again() {
    with_run --ephemeral --after-job again
    local first job turn
    for turn in 1 2; do
        first=$(runner_id)
        as_root setpriv --reuid=actions-runner --regid=actions-runner --clear-groups sh -c \
            "mkdir -p $tree/_work/left && echo secret >$tree/_work/left/over && echo left >$tree/.runner_migrated; ! echo PATH=/evil >>$tree/.env"
        job=$(job 1)
        within 60 job_done "$job"
        within 60 fresh_runner "$first"
        absent "$tree/_work/left" "$tree/.runner_migrated"
        must_not grep --quiet evil "$root$tree/.env"
    done
    same 1 "$(runners)" "the number of runners"
    # Stopped while idle: it is deregistered.
    local from
    from=$(now)
    exits 0 inside systemctl stop $run_unit
    note "idle, left in $(since "$from")"
    must no_runner
    same 0 "$(exit_status)" "the exit code of run"
    no_runner_processes
}

fresh_runner() { online && [[ $(runner_id) != "$1" ]]; }

scenario_ephemeral_poweroff() {
    with_run --ephemeral --after-job poweroff
    local job
    job=$(job 1)
    within 60 is_off
    wait "$nspawn"
    leader="" nspawn=""
    must job_done "$job"
    must no_runner
    switch_on
    within 60 online
    same 1 "$(runners)" "the number of runners"
}

# systemd stops the services when the machine stops; the runner is deregistered before the network goes down.
scenario_shutdown_deregisters() {
    with_run --remove-on-shutdown
    switch_off
    must no_runner
    note "off and gone from the server in $off_seconds"
    switch_on
    within 60 online
    same 1 "$(runners)" "the number of runners"
    reboot
    within 60 online
    same 1 "$(runners)" "the number of runners"
    # A running job is cancelled, as no drain was requested.
    job 600
    within 60 busy
    switch_off
    must no_runner
    note "busy: $off_seconds"
}

# Requests arrive, and are never answered.
silence='{"route":"*","kind":"delay","ms":3600000}'

# The server stops answering while the machine stops: the machine stops anyway, and the next boot, or an administrator, finds
# what was left.
scenario_shutdown_without_network() {
    with_run --remove-on-shutdown
    local first
    first=$(runner_id)
    fault "$silence"
    # Azure and Google Cloud give 30 seconds from the notice, or from the shutdown, to the end, of which a busy machine loses some.
    switch_off 60
    no_faults
    note "off without the server in $off_seconds"
    ((${off_seconds%.*} < 45)) || fail "it took $off_seconds"
    same 1 "$(runners)" "the number of runners"
    forget_session
    switch_on
    within 60 online
    same 1 "$(runners)" "the number of runners"
    # The power fails, and the machine never comes back: another one of the fleet cleans up.
    power_cut
    forget_session
    exits 0 as_administrator runners prune --prefix boot- --dry-run --json
    same "$(runner_id)" "$(jq '.deleted[0].id' "$here/stdout")" "what prune would delete"
    same 1 "$(runners)" "the number of runners"
    exits 0 as_administrator runners prune --prefix boot-
    must no_runner
}

# The shortest spot notice, and a network that is already down: idle, or with a job that would take hours, everything ends before
# the machine does, in 30 seconds, of which a busy machine loses some; the next start deregisters the runner.
scenario_spot_notice_without_network() {
    server
    machine
    credentials
    switch_on
    metadata
    local work from took
    for work in idle job; do
        rm --force "$root/var/lib/metadata/notice"
        write_run_unit --ephemeral --drain 1h --cloud gcp --metadata-url "$metadata_url"
        inside systemctl start $run_unit
        within 60 online
        if [[ $work == job ]]; then
            job 36000
            within 60 busy
        fi
        fault "$silence"
        from=$(now)
        touch "$root/var/lib/metadata/notice"
        within 60 ended $run_unit
        took=$(since "$from")
        note "$work: stopped $took after the notice"
        ((${took%.*} < 45)) || fail "it took $took"
        no_runner_processes
        no_faults
        rm "$root/var/lib/metadata/notice"
        same 1 "$(runners)" "the number of runners"
        forget_session
        inside systemctl restart $run_unit
        within 60 online
        same 1 "$(runners)" "the number of runners"
        inside systemctl stop $run_unit
        within 60 no_runner
    done
}

ended() { inactive "$1" || failed "$1"; }

# runup, outside the machines.
as_administrator() {
    RUNUP_TOKEN=$api_token timeout 60 "$bin" "$@" --url "$org_url"
}

# The metadata service of a cloud, in the machine: it has no notice until a file exists.
metadata() {
    cat >"$root/usr/local/bin/metadata" <<'PYTHON'
#!/usr/bin/python3
import datetime, email.utils, http.server, json, os, time

class Metadata(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        self.answer(200, "a-session-token")

    def do_GET(self):
        notice = os.path.exists("/var/lib/metadata/notice")
        if os.path.exists("/var/lib/metadata/hang"):
            time.sleep(3600)
        soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=120)
        path = self.path.split("?")[0]
        if path == "/latest/meta-data/spot/instance-action" and notice:
            self.answer(200, json.dumps({"action": "terminate", "time": soon.strftime("%Y-%m-%dT%H:%M:%SZ")}))
        elif path == "/metadata/instance/compute/name":
            self.answer(200, "this-one")
        elif path == "/metadata/scheduledevents":
            event = {"EventId": "1", "EventType": "Preempt", "EventStatus": "Scheduled", "ResourceType": "VirtualMachine",
                     "Resources": ["this-one"], "NotBefore": email.utils.format_datetime(soon, usegmt=True)}
            self.answer(200, json.dumps({"DocumentIncarnation": 1, "Events": [event] if notice else []}))
        elif path == "/computeMetadata/v1/instance/preempted":
            self.answer(200, "TRUE" if notice else "FALSE")
        else:
            self.answer(404, "")

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
os.makedirs("/var/lib/metadata", exist_ok=True)
with open("/var/lib/metadata/port.new", "w") as file:
    file.write(str(server.server_port))
os.rename("/var/lib/metadata/port.new", "/var/lib/metadata/port")
server.serve_forever()
PYTHON
    chmod 755 "$root/usr/local/bin/metadata"
    in_background metadata /usr/local/bin/metadata
    within 60 test -e "$root/var/lib/metadata/port"
    metadata_url=http://127.0.0.1:$(<"$root/var/lib/metadata/port")
}

# In each cloud, the notice has the effect of a shutdown: the job gets its time, as far as the notice allows, and the runner is
# deregistered before the machine goes.
scenario_spot_notice() {
    server
    machine
    credentials
    switch_on
    metadata
    local cloud job from
    for cloud in aws azure gcp; do
        rm --force "$root/var/lib/metadata/notice"
        write_run_unit --ephemeral --drain 60s --cloud $cloud --metadata-url "$metadata_url"
        inside systemctl start $run_unit
        within 60 online
        from=$(now)
        touch "$root/var/lib/metadata/notice"
        within 60 no_runner
        note "$cloud: gone $(since "$from") after the notice"
        within 60 inactive $run_unit
        same 0 "$(exit_status)" "the exit code of run"
    done
    # With a job.
    rm --force "$root/var/lib/metadata/notice"
    write_run_unit --ephemeral --drain 60s --cloud aws --metadata-url "$metadata_url"
    inside systemctl start $run_unit
    within 60 online
    job=$(held_job)
    within 60 busy
    touch "$root/var/lib/metadata/notice"
    within 60 journal_says $run_unit "waiting for its end"
    release
    within 60 job_done "$job"
    within 60 no_runner
    within 60 inactive $run_unit
}

# A metadata service that hangs or does not exist has no effect.
scenario_metadata_that_hangs() {
    server
    machine
    credentials
    switch_on
    metadata
    touch "$root/var/lib/metadata/hang"
    write_run_unit --remove-on-shutdown --cloud aws --metadata-url "$metadata_url"
    inside systemctl start $run_unit
    within 60 online
    local job from
    job=$(job 1)
    within 60 job_done "$job"
    from=$(now)
    exits 0 inside systemctl stop $run_unit
    note "left in $(since "$from")"
    must no_runner
    write_run_unit --remove-on-shutdown --cloud gcp --metadata-url http://127.0.0.1:9
    inside systemctl start $run_unit
    within 60 online
}

# The listener is told that its version is too old: the exit code and the message report that, and the newest version.
scenario_version_deprecated() {
    with_run
    fault '{"route":"session","kind":"status","code":426}'
    exits 0 inside systemctl restart $run_unit
    within 60 failed $run_unit
    same 80 "$(exit_status)" "the exit code of run"
    journal --unit=$run_unit >"$here/journal"
    must grep --quiet 2.336.0 "$here/journal"
    no_runner_processes
    no_faults
    exits 0 inside systemctl restart $run_unit
    within 60 online
    registered_once
}

# Only the supervisor is killed: the next one finds and stops the listener that was left.
scenario_supervisor_killed() {
    with_run
    inside systemctl kill --kill-who=main --signal=KILL $run_unit
    within 60 failed $run_unit
    inside systemctl restart $run_unit
    forget_session
    within 60 sessions 2
    must online
    registered_once
}
