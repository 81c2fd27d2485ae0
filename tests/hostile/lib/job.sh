# Hostile jobs: scripts that the machine's runner executes as its user, and the loot they could take.

# Directory where a job puts what it could read or receive. It belongs to root, all users can write to it, and it stays when
# the user is deleted.
loot=/srv/loot

# job_begin SCRIPT [RUNNER]: queues a job that runs SCRIPT, and prints its id. Every script gets the functions of
# `weapons`, below.
job_begin() {
    [[ -d $root$loot ]] || install --directory --mode=1777 "$root$loot"
    script "$(weapons && printf '%s\n' "$1")" "${2:-}"
}

# hostile SCRIPT [RUNNER]: the same, and waits for its end, whatever the result; its output goes to the log.
hostile() { finished "$(job_begin "$@")"; }

# Functions for every hostile job: the path of its runner's tree, ways to outlive itself, and what to do with loot.
weapons() {
    cat <<'WEAPONS'
set +e
work=${RUNNER_TEMP%/_temp}
tree=${work%/*}
loot=/srv/loot
# hide COMMAND…: keeps running after the job, in a session of its own, without the marks that identify a job's children. It has
# them until it is another program, and only then closes the pipe for which this waits.
hide() { : "$(env --ignore-environment "PATH=$PATH" setsid sh -c 'exec "$@" </dev/null >/dev/null 2>&1' hidden "$@" &)"; }
# escape SCRIPT: the same as a job of atd, outside the runner's control groups. at keeps its environment, and atd starts it a
# while later: this waits until it has begun.
escape() {
    local begun try
    begun=$(mktemp --dry-run $loot/begun.XXXXXX)
    printf ': >%s\n%s\n' "$begun" "$1" | env --ignore-environment "PATH=$PATH" at now 2>&1
    for try in {1..300}; do [ -e "$begun" ] && break; sleep 0.1; done
    rm -f "$begun"
}
# plant FILE: replaces FILE with stdin by any means; prints whether that worked.
plant() {
    rm -rf "$1" 2>/dev/null
    if { cat >"$1"; } 2>/dev/null; then echo "planted ${1##*/}"; else echo "could not plant ${1##*/}"; fi
    chmod 755 "$1" 2>/dev/null
}
# alter FILE SED-SCRIPT: changes a file in place.
alter() {
    local text
    if text=$(sed "$2" "$1" 2>/dev/null) && { printf '%s\n' "$text" >"$1"; } 2>/dev/null; then
        echo "altered ${1##*/}"
    else
        echo "could not alter ${1##*/}"
    fi
}
WEAPONS
}

# attempt COMMAND…: runs it and accepts any exit code, which is in `code`; a hang is a failure.
attempt() {
    code=0
    echo "+ $*"
    "$@" >"$here/stdout" 2>"$here/stderr" </dev/null || code=$?
    sed 's/^/  out: /' "$here/stdout"
    sed 's/^/  err: /' "$here/stderr"
    echo "  exit code $code"
    [[ $code != 124 ]] || fail "it hangs: $*"
}
succeeded() { same 0 "$code" "the exit code"; }

# The runner of this machine, next to the victim.
own_id() { state '[.runners[] | select(.name != "victim")][0].id'; }
own_online() { [[ $(state '[.runners[] | select(.name != "victim" and .online)] | length') == "${1:-1}" ]]; }

# Another machine's runner; its id is in `victim`.
victim() {
    victim=$(control POST runners '{"scope":"orgs/acme","name":"victim"}' | jq .id)
    [[ ${1:-} != online ]] || control PATCH "runners/$victim" '{"online":true}'
}
victim_is_there() { [[ $(state --argjson id "$victim" '[.runners[] | select(.id == $id)] | length') == 1 ]]; }
victim_lives() {
    same 1 "$(state --argjson id "$victim" '[.runners[] | select(.id == $id and .name == "victim")] | length')" \
        "the number of victims"
}

# Starts a server of the job in the machine, which keeps everything it receives in $loot/received, and answers 404. Its port is in
# $port. In Perl, because the smallest Debian has it.
recorder() {
    cat <<'RECORDER'
cat >$loot/recorder.pl <<'PERL'
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 0, Listen => 20, ReuseAddr => 1) or die;
open(my $port, ">", "/srv/loot/port.new"); print $port $server->sockport; close($port);
rename("/srv/loot/port.new", "/srv/loot/port");
$SIG{CHLD} = "IGNORE";
while (my $client = $server->accept) {
    next if fork;
    open(my $log, ">>", "/srv/loot/received");
    my $bytes;
    while (sysread($client, $bytes, 65536)) {
        syswrite($log, $bytes);
        next unless $bytes =~ /\r\n\r\n/;
        print $client "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        last;
    }
    select(undef, undef, undef, 0.2);
    exit;
}
PERL
escape "exec perl $loot/recorder.pl"
until [ -s $loot/port ]; do sleep 0.1; done
port=$(cat $loot/port)
RECORDER
}

# Every secret: the API token, and each token that the server issued.
secrets() {
    printf '%s\n' "$api_token"
    control GET tokens | jq --raw-output '.[]'
    # What only root can read.
    [[ ! -e $root/root/secret ]] || cat "$root/root/secret"
}

# No secret is in what the job's uid could read, write or receive. A search that finds nothing proves nothing, so a planted
# secret is searched first.
nothing_was_taken() {
    local places=("$root$loot" "$root$tree/_diag" "$root$tree/_work") place
    secrets >"$here/secrets"
    install -D --mode=600 "$here/secrets" "$here/proof/secrets"
    grep --recursive --quiet --fixed-strings --file="$here/secrets" "$here/proof" || fail "the search did not find the planted secret"
    state '.jobs[].log' >"$here/proof-logs"
    must_not grep --fixed-strings --file="$here/secrets" "$here/proof-logs"
    for place in "${places[@]}" "$root/home" "$root/tmp"; do
        [[ -e $place ]] || continue
        must_not grep --recursive --binary-files=text --devices=skip --fixed-strings --file="$here/secrets" "$place"
    done
    # Nor did the hostile program get root to do anything.
    absent /root/owned
}

# token_for_root KIND: a registration or remove token in root's directory, as an operator would copy it from the browser.
token_for_root() {
    curl --silent --fail --header "Authorization: Bearer $api_token" --header "User-Agent: test" --request POST \
        "$server_url/api/v3/orgs/acme/actions/runners/$1-token" | jq --raw-output .token >"$here/$1-token"
    install --mode=600 "$here/$1-token" "$root/root/$1-token"
}

# Puts the runner's archive into root's directory, for commands without a credential; sets `sha256` to its digest.
archive_for_root() {
    local list=$here/downloads.json
    curl --silent --fail --header "Authorization: Bearer $api_token" --header "User-Agent: test" \
        "$server_url/api/v3/orgs/acme/actions/runners/downloads" |
        jq '[.[] | select(.os == "linux" and .architecture == "x64")][0]' >"$list"
    curl --silent --fail --header "Authorization: Bearer $(jq --raw-output .temp_download_token "$list")" \
        --output "$root/root/$(jq --raw-output .filename "$list")" "$(jq --raw-output .download_url "$list")"
    archive=/root/$(jq --raw-output .filename "$list")
    sha256=$(jq --raw-output .sha256_checksum "$list")
}

# The numeric id of the runner's user in the machine.
uid_of() { inside id --user "$1"; }

# What the user owns in the tree: in a sealed one, only the logs and the work directory.
only_logs_and_work() {
    local found
    found=$(find "$root$1" -mindepth 1 -maxdepth 1 -uid "$(uid_of "$2")" -printf '%f\n' | sort | paste --serial --delimiters=' ')
    same "_diag _work" "$found" "what belongs to $2 in $1"
    # At any depth: nothing else, and nothing that its mode lets the user write.
    found=$(find "$root$1" \( -path "$root$1/_diag" -o -path "$root$1/_work" \) -prune -o \
        \( -uid "$(uid_of "$2")" -o -perm /o+w -a -not -type l \) -print)
    same "" "$found" "what $2 can write in $1"
}

# Whether the program under test has this option.
knows() { "$bin" install --help 2>/dev/null | grep -- "$1" >/dev/null; }

knows_upgrade() { "$bin" upgrade --help >/dev/null 2>&1; }

# typed_by_root COMMAND SECONDS: types a command into an interactive shell of root, waits for its end plus the given time, and
# leaves.
typed_by_root() {
    mkfifo "$here/keys"
    inside_deadline=300 inside script --quiet --return --command "bash --norc -i" /dev/null <"$here/keys" >"$here/screen" 2>&1 &
    local shell=$! keys
    exec {keys}>"$here/keys"
    printf '%s; touch /root/typed\n' "$1" >&"$keys"
    within 240 test -e "$root/root/typed"
    sleep "$2"
    printf 'exit\n' >&"$keys"
    exec {keys}>&-
    wait "$shell" || true
    rm "$here/keys" "$root/root/typed"
    sed 's/^/  screen: /' "$here/screen"
}
