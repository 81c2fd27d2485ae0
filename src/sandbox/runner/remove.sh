# remove: the server first, then the files. If the server refuses, the files are kept.

remove() {
    if flag local; then
        delete_configuration
        exit 0
    fi
    [[ ! -e $root/.service ]] || fail "Uninstall service first"
    say ""
    say "# Runner removal"
    say ""
    if [[ ! -e $root/.runner || ! -e $root/.credentials ]]; then
        say "Cannot connect to server, because config files are missing. Skipping removing runner from the server."
        delete_configuration
        exit 0
    fi
    [[ -n $secret ]] || fail "Cannot read keys when either application does not have a console or when console input has been redirected. Try Console.Read."
    source "$root/bin/standin/configure.sh"
    local id
    id=$(setting agentId)
    locate "$(setting gitHubUrl)"
    exchange remove
    misbehave before
    ask DELETE "$entity/actions/runners/$id" "RemoteAuth $credential" ||
        { refused DELETE "$entity/actions/runners/$id"; exit 1; }
    say "√ Runner removed successfully"
    misbehave registered
    delete_configuration
    exit 0
}
