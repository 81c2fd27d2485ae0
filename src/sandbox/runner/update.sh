# The listener's part of a self-update: downloads the archive that the server names, checks it, puts its directories next
# to the old ones, and leaves the exchange to a script that waits for the exit of the listener.

# self_update: the update in the message in http_body. Returns if it fails; the old version then continues.
self_update() {
    local target url sum staging=$work/_update script=$work/_update.sh cut
    target=$(value update_version "$http_body")
    url=$(value update_url "$http_body")
    sum=$(value update_sha256 "$http_body")
    cut=$(value sandbox_cut_off "$http_body")
    say "Runner update in progress, do not shutdown runner."
    say "Downloading $target runner"
    if ! stage_update; then
        complain "$(stamp): The update to $target failed; version $version goes on."
        rm -rf "$staging"
        pause 5
        return
    fi
    say "Waiting for current job finish running."
    delete_old_versions
    say "Generate and execute update script."
    write_update_script
    rm -f update.finished
    bash "$script" </dev/null >/dev/null 2>&1 &
    say "Runner will exit shortly for update, should be back online within 10 seconds."
    say "Runner update process finished."
    request DELETE "$server/session" "Bearer $client"
    [[ $ephemeral == true ]] && exit 4
    exit 3
}

stage_update() {
    local package=$staging/runner1.tar.gz file part
    rm -rf "$staging" && mkdir -p "$staging" || return 1
    fetch "$url" "$package" || { complain "Failed to get package '$package' from '$url': ${http_status:-no answer}"; return 1; }
    if [[ $(sha256_of "$package") != "$sum" ]]; then
        complain "Computed runner hash does not match expected Runner Package hash $sum for $package"
        return 1
    fi
    tar -xzf "$package" -C "$staging" && rm -f "$package" || return 1
    for part in bin externals; do
        rm -rf "${root:?}/$part.$target" && cp -R "$staging/$part" "$root/$part.$target" || return 1
    done
    for file in "$staging"/*; do
        [[ -f $file ]] || continue
        # Removed first: a shell that reads the old one keeps what it reads.
        rm -f "$root/${file##*/}" && cp "$file" "$root/${file##*/}" || return 1
    done
}

sha256_of() {
    local line
    if command -v sha256sum >/dev/null; then line=$(sha256sum "$1"); else line=$(shasum -a 256 "$1"); fi
    printf '%s' "${line%% *}"
}

# The running version and the new one are kept.
delete_old_versions() {
    local old
    for old in "$root"/bin.* "$root"/externals.*; do
        [[ $old == *".$target" || $old == *".$version" ]] || rm -rf "$old"
    done
}

write_update_script() {
    sed -e "s|_PROCESS_ID_|$$|" \
        -e "s|_RUNNER_PROCESS_NAME_|Runner.Listener|" \
        -e "s|_ROOT_FOLDER_|$root|" \
        -e "s|_EXIST_RUNNER_VERSION_|$version|" \
        -e "s|_DOWNLOAD_RUNNER_VERSION_|$target|" \
        -e "s|_UPDATE_LOG_|$root/_diag/SelfUpdate-$(date -u +%Y%m%d-%H%M%S).log|" \
        -e "s|_SANDBOX_CUT_OFF_|$cut|" \
        "$root/bin.$target/update.sh.template" >"$script" && chmod 755 "$script"
}
