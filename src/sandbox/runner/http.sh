# HTTP/1.1, one request per connection: over bash's /dev/tcp, or through curl for https. The proxy is that of http_proxy or
# https_proxy.

# The proxy for a scheme and host, as GitHub's runner chooses it: none for hosts on this machine or in no_proxy.
proxy_for() {
    local scheme=$1 host=$2 proxy entry entries
    case $scheme in
    https) proxy=${https_proxy:-$HTTPS_PROXY} ;;
    *) proxy=${http_proxy:-$HTTP_PROXY} ;;
    esac
    case $host in localhost | 127.* | ::1) return ;; esac
    IFS=, read -ra entries <<<"${no_proxy:-$NO_PROXY}"
    for entry in ${entries[@]+"${entries[@]}"}; do
        entry=${entry#.}
        [[ $entry == '*' || $host == "$entry" || (-n $entry && $host == *".$entry") ]] && return
    done
    proxy=${proxy#http://}
    printf '%s' "${proxy%%/*}"
}

# The header for the credentials in a proxy's URL, without percent encoding.
proxy_credential() {
    local user=${1%@*}
    [[ $user != "$1" ]] || return 0
    printf 'Proxy-Authorization: Basic %s\r\n' "$(printf '%b' "${user//%/\\x}" | base64 | tr -d '\n')"
}

# Sends a request without TLS, and opens descriptor 3 for the answer.
send_plain() {
    local method=$1 authority=$2 path=$3 credential=$4 body=$5 host=$6 port=$7
    { exec 3<>"/dev/tcp/$host/$port"; } 2>/dev/null || return 1
    # printf is part of bash, so no token is on a command line.
    printf '%s %s HTTP/1.1\r\nHost: %s\r\n%sUser-Agent: %s\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' \
        "$method" "$path" "$authority" "$credential" "$agent" "${#body}" "$body" >&3 2>/dev/null
}

# The same over TLS. curl trusts what SSL_CERT_FILE names, as GitHub's runner does, and prints the answer as it is on the wire.
send_secure() {
    local method=$1 url=$2 credential=$3 body=$4 proxy=$5
    exec 3< <(
        curl --silent --include --raw --http1.1 --suppress-connect-headers --max-time 900 --user-agent "$agent" --request "$method" \
            --config <([[ -z $proxy ]] && echo 'noproxy = "*"' || printf 'proxy = "http://%s"\n' "$proxy") \
            --header @<(printf '%sAccept: application/json\r\nContent-Type: application/json\r\n' "$credential") \
            --data-binary @<(printf '%s' "$body") "$url" </dev/null 2>/dev/null
    )
}

# open_request METHOD URL AUTHORIZATION [BODY]: sends a request and reads the head of its answer; sets http_status and http_id,
# and leaves descriptor 3 open for the body. Fails if there is no connection.
open_request() {
    local LC_ALL=C method=$1 url=$2 authorization=$3 body=${4-}
    local scheme=${2%%://*} rest=${2#*://} host port line proxy credential='' agent="GitHubActionsRunner-$os/$version"
    http_status='' http_body='' http_id=''
    case $scheme in http | https) ;; *) complain "The sandbox's runner speaks http and https only, not '$url'"; return 1 ;; esac
    local authority=${rest%%/*} path=/${rest#*/}
    [[ $rest == */* ]] || path=/
    host=${authority%:*} port=${authority##*:}
    [[ $authority == *:* ]] || { host=$authority port=80; }
    host=${host#[} host=${host%]}
    proxy=$(proxy_for "$scheme" "$host")
    [[ -z $authorization ]] || credential="Authorization: $authorization"$'\r\n'
    if [[ $scheme == https ]]; then
        send_secure "$method" "$url" "$credential" "$body" "$proxy"
    else
        if [[ -n $proxy ]]; then
            credential+=$(proxy_credential "$proxy" && printf x)
            credential=${credential%x} path=$url proxy=${proxy##*@}
            host=${proxy%:*} port=${proxy##*:}
        fi
        send_plain "$method" "$authority" "$path" "$credential" "$body" "$host" "$port" || return 1
    fi
    if IFS= read -r -t 100 line <&3; then
        line=${line%$'\r'}
        http_status=${line#* }
        http_status=${http_status%% *}
        while IFS= read -r -t 100 line <&3; do
            line=${line%$'\r'}
            [[ -n $line ]] || break
            case $line in
            [Xx]-[Gg]it[Hh]ub-[Rr]equest-[Ii]d:*) http_id=${line#*: } ;;
            esac
        done
    fi
}

# close_request METHOD URL: closes the connection; fails if there was no answer.
close_request() {
    local rest=${2#*://}
    exec 3<&- 3>&-
    log "$1 /${rest#*/}: ${http_status:-no answer}"
    [[ $http_status =~ ^[0-9]+$ ]]
}

# request METHOD URL AUTHORIZATION [BODY]: sets http_status, http_body and http_id; fails if there is no answer.
request() {
    local LC_ALL=C
    open_request "$@" || return 1
    [[ -z $http_status ]] || IFS= read -r -d '' -t 100 http_body <&3
    close_request "$1" "$2"
}

# fetch URL FILE [AUTHORIZATION]: saves a binary document, which a shell variable cannot hold.
fetch() {
    open_request GET "$1" "${3-}" || return 1
    timeout 900 cat <&3 >"$2"
    close_request GET "$1" && [[ $http_status == 200 ]]
}

# ask METHOD URL AUTHORIZATION [BODY]: the same with up to three attempts; a 2xx succeeds. Only a 404 is not retried.
# GitHub's runner waits for 1 to 5 seconds between attempts.
ask() {
    local attempt
    for attempt in 1 2 3; do
        if request "$@"; then
            [[ $http_status == 2* ]] && return 0
            [[ $http_status == 404 ]] && return 1
        fi
        log "attempt $attempt failed"
        [[ $attempt == 3 ]] || sleep 0.3
    done
    return 1
}

# The message for a failed answer: the runner's text, then the server's.
refused() {
    local method=$1 url=$2 name words
    if [[ -z $http_status ]]; then
        complain "Connection refused (${url#*://})"
        return
    fi
    case $http_status in
    401) name=Unauthorized ;;
    403) name=Forbidden ;;
    404) name=NotFound ;;
    409) name=Conflict ;;
    422) name=UnprocessableEntity ;;
    429) name=TooManyRequests ;;
    500) name=InternalServerError ;;
    502) name=BadGateway ;;
    503) name=ServiceUnavailable ;;
    *) name=$http_status ;;
    esac
    # "Bad Gateway" of BadGateway.
    words=$(printf '%s' "$name" | sed 's/\([a-z]\)\([A-Z]\)/\1 \2/g')
    complain "Http response code: $name from '$method $url' (Request Id: $http_id)"
    complain "$http_body"
    complain "Response status code does not indicate success: $http_status ($words)."
}

# encode TEXT: percent-encoded.
encode() {
    local LC_ALL=C text=$1 i char
    for ((i = 0; i < ${#text}; i++)); do
        char=${text:i:1}
        case $char in
        [a-zA-Z0-9.~_-]) printf '%s' "$char" ;;
        *) printf '%%%02X' "$(($(printf '%d' "'$char") & 255))" ;;
        esac
    done
}
