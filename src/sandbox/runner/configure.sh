# configure: writes files and calls the server, in GitHub's order. If it is killed in between, the server has a runner
# that this directory does not know.

configure() {
    is_configured && fail "Cannot configure the runner because it is already configured. To reconfigure the runner, run 'config.cmd remove' or './config.sh remove' first."
    banner
    answer url "What is the URL of your repository?" ""
    local url=$answer
    [[ $url == *://?* ]] || fail "Invalid configuration provided for url. Terminating unattended configuration."
    if [[ -z $secret ]] && ! flag unattended; then
        [[ -t 0 ]] || fail "Cannot read keys when either application does not have a console or when console input has been redirected. Try Console.Read."
        IFS= read -r -s -p "What is your runner register token? " secret
    fi
    [[ -n $secret ]] || fail "Invalid configuration provided for token. Terminating unattended configuration."
    locate "$url"

    exchange register
    misbehave before
    say "√ Connected to GitHub"
    say ""
    say "# Runner Registration"
    say ""
    local group group_id name found
    # GitHub's order: there is a key before anything is asked of the server.
    write_rsa
    choose_group
    answer name "Enter the name of runner:" "$(hostname 2>/dev/null || uname -n)"
    name=$answer
    ask GET "$entity/actions/runners?name=$(encode "$name")" "RemoteAuth $credential" ||
        { refused GET "$entity/actions/runners?name=$name"; exit 1; }
    found=$(value id "$http_body")
    if [[ -n $found ]]; then
        say "A runner exists with the same name"
        flag replace || fail "A runner exists with the same name $name."
    fi
    register_runner
    if [[ -n $found ]]; then say "√ Successfully replaced the runner"; else say "√ Runner successfully added"; fi
    misbehave registered
    write_credentials
    say "√ Runner connection is good"
    say ""
    say "# Runner settings"
    say ""
    answer work "Enter name of work folder:" _work
    write_settings "$answer"
    say "√ Settings Saved."
    misbehave settings
    write_svc
    exit 0
}

banner() {
    say "--------------------------------------------------------------------------------"
    say "|     GitHub Actions: the sandbox's self-hosted runner registration            |"
    say "--------------------------------------------------------------------------------"
    say ""
    say "# Authentication"
    say ""
}

# locate URL: the API and the path of what the URL names. Unlike GitHub's, this one keeps the port.
locate() {
    local url=${1%/} path host scheme=${1%%://*}
    path=${url#*://}
    host=${path%%/*}
    path=${path#"$host"}
    path=${path#/}
    api=$scheme://$host/api/v3
    case $path in
    enterprises/*/* | */*/* | '') fail "'$1' should point to an org or repository." ;;
    enterprises/*) entity=$api/$path ;;
    */*) entity=$api/repos/$path ;;
    *) entity=$api/orgs/$path ;;
    esac
    runner_url=$1
}

# exchange EVENT: exchanges the token for a credential of the service.
exchange() {
    local url=$api/actions/runner-registration
    ask POST "$url" "RemoteAuth $secret" "{\"url\":$(quote "$runner_url"),\"runner_event\":\"$1\"}" ||
        { refused POST "$url"; exit 1; }
    credential=$(value token "$http_body")
    service=$(value url "$http_body")
    fault=$(value sandbox_fault "$http_body")
    [[ -n $credential ]] || fail "The server's answer has no token."
}

# misbehave WHEN: the fault that the sandbox requested in its answer, at this point.
misbehave() {
    case $1:$fault in
    before:hang | registered:hang-after-register) while :; do sleep 3600; done ;;
    before:succeed-without-register) exit 0 ;;
    before:print-secret) printf 'debug: the token is %s\n' "$secret" ;;
    registered:fail-after-register) fail "The sandbox was asked to fail after registering." ;;
    settings:fail-after-runner-file) fail "The sandbox was asked to fail after writing .runner." ;;
    esac
}

choose_group() {
    group=$(input runnergroup)
    group_id=1
    ask GET "$entity/actions/runner-groups" "RemoteAuth $credential" ||
        { refused GET "$entity/actions/runner-groups"; exit 1; }
    if [[ -z $group ]]; then
        group=Default
        return
    fi
    local list=$http_body item
    list=${list#*\[}
    while [[ $list == *"}"* ]]; do
        item=${list%%\}*}
        list=${list#*\}}
        if [[ $(lower "$(value name "$item")") == $(lower "$group") ]]; then
            group_id=$(value id "$item")
            return
        fi
    done
    fail "Could not find any self-hosted runner group named \"$group\"."
}

write_rsa() {
    local key
    if [[ -e $root/.credentials_rsaparams ]]; then
        # GitHub's uses the key that is there.
        [[ -r $root/.credentials_rsaparams ]] || denied .credentials_rsaparams
        return
    fi
    key=$(head -c 32 /dev/urandom | base64 | tr -d '\n')
    write .credentials_rsaparams </dev/null
    chmod 600 "$root/.credentials_rsaparams" || exit 1
    # Not a key: the sandbox knows its runners by their client ids.
    printf '\xef\xbb\xbf{\n  "d": "%s",\n  "exponent": "AQAB",\n  "modulus": ""\n}' "$key" | write .credentials_rsaparams || exit 1
}

register_runner() {
    local body labels='' label unsupported
    if flag no-default-labels; then
        [[ -n $(input labels) ]] || fail "You must provide --labels when using --no-default-labels"
    else
        for label in self-hosted "$os_label" "$arch"; do
            labels+=",{\"name\":\"$label\",\"type\":\"system\"}"
        done
    fi
    answer labels "Enter any additional labels (ex. label-1,label-2):" ,
    local parts
    IFS=, read -ra parts <<<"$answer"
    for label in ${parts[@]+"${parts[@]}"}; do
        [[ -z $label ]] || labels+=",{\"name\":$(quote "$label"),\"type\":\"user\"}"
    done
    body="{\"url\":$(quote "$runner_url"),\"group_id\":$group_id,\"name\":$(quote "$name"),\"version\":\"$version\""
    body+=",\"os\":\"$os\",\"labels\":[${labels#,}]"
    flag ephemeral && body+=',"ephemeral":true'
    flag disableupdate && body+=',"updates_disabled":true'
    [[ -z $found ]] || body+=",\"runner_id\":$found,\"replace\":true"
    body+='}'
    ask POST "$api/actions/runners/register" "RemoteAuth $credential" "$body" ||
        { refused POST "$api/actions/runners/register"; exit 1; }
    agent_id=$(value id "$http_body")
    client_id=$(value client_id "$http_body")
    # The runner is on the server all the same.
    unsupported=$(value sandbox_unsupported "$http_body") &&
        fail "The GitHub server does not support configuring a self-hosted runner with '$unsupported' flag."
    authorization_url=$(value authorization_url "$http_body")
    server_url=$(value server_url "$http_body")
}

write_credentials() {
    printf '\xef\xbb\xbf{\n  "scheme": "OAuth",\n  "data": {\n    "clientId": %s,\n    "authorizationUrl": %s,\n    "requireFipsCryptography": "True"\n  }\n}' \
        "$(quote "$client_id")" "$(quote "$authorization_url")" | write .credentials || exit 1
}

write_settings() {
    local more=''
    flag disableupdate && more+=$',\n  "disableUpdate": true'
    flag ephemeral && more+=$',\n  "ephemeral": true'
    printf '\xef\xbb\xbf{\n  "agentId": %d,\n  "agentName": %s,\n  "poolId": %d,\n  "poolName": %s,\n  "isHostedServer": false,\n  "serverUrl": %s,\n  "gitHubUrl": %s,\n  "workFolder": %s,\n  "useV2Flow": true,\n  "serverUrlV2": %s%s\n}' \
        "$agent_id" "$(quote "$name")" "$group_id" "$(quote "$group")" "$(quote "$service")" "$(quote "$runner_url")" \
        "$(quote "$1")" "$(quote "$server_url")" "$more" | write .runner || exit 1
}

# The owner is the first path segment of the server's URL, as in GitHub's runner for Enterprise Server.
write_svc() {
    local service_name=actions.runner._services.${name// /_}.service
    [[ $os == linux ]] || return 0
    sed -e "s|{{SvcNameVar}}|${service_name//[^0-9a-zA-Z._-]/-}|" \
        -e "s|{{SvcDescription}}|GitHub Actions Runner (_services.${name//[^0-9a-zA-Z._ -]/-})|" \
        "$root/bin/systemd.svc.sh.template" | write svc.sh || exit 1
    chmod 755 "$root/svc.sh"
}
