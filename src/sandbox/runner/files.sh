# The files of a configured runner, and output to the terminal and to the log.

# Like GitHub's, it keeps its log open: if a job replaced the file by a FIFO, opening it again would block.
log() {
    [[ -f $diag ]] || return 0
    local now text=$*
    [[ -z $secret ]] || text=${text//"$secret"/***}
    utc now '%Y-%m-%d %H:%M:%SZ'
    printf '[%s INFO Listener] %s\n' "$now" "$text" >>"$diag"
}
say() { printf '%s\n' "$*"; log "$*"; }
complain() { printf '%s\n' "$(mask "$*")" >&2; log "$*"; }
fail() { complain "$@"; exit 1; }

# utc VARIABLE FORMAT: the time. Without a process of its own: tests start this program thousands of times.
if ((BASH_VERSINFO[0] >= 5)); then
    utc() { TZ=UTC0 printf -v "$1" "%($2)T" -1; }
else
    utc() { printf -v "$1" '%s' "$(date -u "+$2")"; }
fi

# The text without the token.
mask() {
    local text=$*
    [[ -n $secret ]] && text=${text//"$secret"/***}
    printf '%s' "$text"
}

is_configured() { [[ -e $root/.runner || -e $root/.runner_migrated ]]; }

# .env is part of the environment of every start, before the inputs are read from it.
load_env() {
    local line
    [[ -f $root/.env ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] && export "${line?}"
    done <"$root/.env"
}

# A JSON string, quoted.
quote() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    printf '"%s"' "$text"
}

# value KEY TEXT: the first value of this key in a JSON text; enough for what the sandbox sends.
value() {
    local pattern="\"$1\"[[:space:]]*:[[:space:]]*(\"(([^\"\\\\]|\\\\.)*)\"|[-0-9a-z.]+)"
    [[ $2 =~ $pattern ]] || return 1
    if [[ ${BASH_REMATCH[1]} == \"* ]]; then
        local text=${BASH_REMATCH[2]}
        text=${text//\\\"/\"}
        printf '%s' "${text//\\\\/\\}"
    else
        printf '%s' "${BASH_REMATCH[1]}"
    fi
}

# setting KEY: a value of .runner, or of the settings that the server sent instead.
setting() { value "$1" "$(cat "$(newest .runner)" 2>/dev/null)"; }

# newest FILE: the file of this name that is in effect.
newest() {
    if [[ -e $root/$1_migrated ]]; then echo "$root/$1_migrated"; else echo "$root/$1"; fi
}

# write FILE: saves standard input.
write() {
    local said
    said=$({ cat >"$root/$1"; } 2>&1) && return
    case $said in
    *'No space left on device') throw "No space left on device : '$root/$1'" ;;
    *'Disk quota exceeded') throw "Disk quota exceeded : '$root/$1'" ;;
    esac
    denied "$1"
}

# An exception: configure and remove print it and exit 1, run exits 2.
failure_code=1
throw() {
    local prefix=''
    ((failure_code == 1)) || prefix='An error occurred: '
    complain "$prefix$1"
    exit "$failure_code"
}
denied() { throw "Access to the path '$root/$1' is denied."; }

delete_configuration() {
    local file
    for file in .credentials .credentials_migrated .credentials_rsaparams .runner .runner_migrated; do
        if [[ -e $root/$file || -L $root/$file ]]; then
            rm -f "${root:?}/$file" 2>/dev/null || denied "$file"
            say "√ Removed $file"
        fi
    done
}
