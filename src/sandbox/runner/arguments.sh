# The options from the command line and the environment, with the rules and pitfalls of GitHub's parser.

known_arguments=' url token pat name labels runnergroup work auth monitorsocketaddress username windowslogonaccount windowslogonpassword jitconfig startuptype '
known_flags=' unattended replace ephemeral disableupdate no-default-labels runasservice generateserviceconfig local once help version commit check '
command=
secret=
unknown=()

lower() {
    if [[ $1 == *[[:upper:]]* ]]; then printf '%s' "$1" | tr '[:upper:]' '[:lower:]'; else printf '%s' "$1"; fi
}

# The variable that holds an input: a hyphen cannot be part of its name.
variable() { printf 'input_%s' "${1//-/_}"; }

# set_input KIND NAME VALUE: the first one wins, so that the command line beats the environment.
set_input() {
    local known=$known_arguments
    [[ $1 == flag ]] && known=$known_flags
    [[ $known == *" $2 "* ]] || return 1
    local name
    name=$(variable "$2")
    [[ -n ${!name} ]] || printf -v "$name" '%s' "$3"
}

parse_arguments() {
    local argument scope='' searching=yes
    for argument in "$@"; do
        case $argument in
        --*)
            close_scope "$scope"
            scope=$(lower "${argument#--}")
            searching=
            ;;
        -*)
            # Neither a value nor an argument: it is dropped, and so is the name before it.
            close_scope "$scope"
            scope=
            searching=
            ;;
        *)
            if [[ -n $scope ]]; then
                # A flag that is followed by a word swallows it, and is not set.
                set_input argument "$scope" "$argument" || [[ $known_flags == *" $scope "* ]] || unknown+=("$scope")
                scope=
            elif [[ -n $searching && -z $command ]]; then
                command=$(lower "$argument")
            else
                unknown+=("$argument")
            fi
            ;;
        esac
    done
    close_scope "$scope"
}

# A name without a value is a flag.
close_scope() {
    [[ -n $1 ]] || return 0
    set_input flag "$1" true || [[ $known_arguments == *" $1 "* ]] || unknown+=("$1")
}

# ACTIONS_RUNNER_INPUT_NAME, each removed from the environment once it is read. Flags need the word "true".
read_inputs() {
    local entry name text
    while IFS= read -r -d '' entry; do
        [[ ${entry%%=*} == [Aa][Cc][Tt][Ii][Oo][Nn][Ss]_*_*_* ]] || continue
        name=$(lower "${entry%%=*}")
        [[ $name == actions_runner_input_* ]] || continue
        name=${name#actions_runner_input_}
        text=${entry#*=}
        text=${text#"${text%%[![:space:]]*}"}
        text=${text%"${text##*[![:space:]]}"}
        [[ -z $text ]] || set_input argument "$name" "$text" ||
            { [[ $(lower "$text") == true ]] && set_input flag "$name" true; }
        [[ ${entry%%=*} == *-* ]] || unset "${entry%%=*}"
    done < <(env -0)
    secret=$(input token)
}

input() {
    local name
    name=$(variable "$1")
    printf '%s' "${!name}"
}

flag() {
    local name
    name=$(variable "$1")
    [[ ${!name} == true ]]
}

# answer NAME QUESTION DEFAULT: an input, or without --unattended the answer to a prompt; the result is in $answer.
answer() {
    answer=$(input "$1")
    [[ -z $answer ]] || return 0
    answer=$3
    flag unattended && return 0
    while :; do
        printf '%s ' "$2"
        IFS= read -r answer || { [[ -n $3 ]] || sleep 1; }
        answer=${answer:-$3}
        [[ -z $answer ]] || return 0
    done
}

usage() {
    cat <<'USAGE'
Commands:
 ./config.sh         Configures the runner
 ./config.sh remove  Unconfigures the runner
 ./run.sh            Runs the runner interactively. Does not require any options.

Config options: --unattended --url --token --name --runnergroup --labels --no-default-labels --work --replace
                --ephemeral --disableupdate
USAGE
}
