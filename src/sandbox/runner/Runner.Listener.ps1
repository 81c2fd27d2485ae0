# The sandbox's stand-in for Runner.Listener.exe: configure, remove and run, without services and pretend jobs.
$ErrorActionPreference = 'Stop'
$root = Split-Path -Parent $PSScriptRoot
$version = '@VERSION@'
$utf8 = New-Object System.Text.UTF8Encoding $true

function Fail($text) { [Console]::Error.WriteLine($text); exit 1 }
function Save($name, $value) {
    [IO.File]::WriteAllText((Join-Path $root $name), ($value | ConvertTo-Json -Depth 5), $utf8)
}
function Load($name) { [IO.File]::ReadAllText((Join-Path $root $name)) | ConvertFrom-Json }
function Clear-Configuration {
    foreach ($name in '.credentials', '.credentials_rsaparams', '.runner') {
        Remove-Item -Force -ErrorAction SilentlyContinue (Join-Path $root $name)
    }
}

# A name without a value is a flag; a flag that is followed by a word swallows it.
$values = @{}; $flags = @{}; $command = ''; $scope = ''
foreach ($argument in $args) {
    if ($argument -like '--*') {
        if ($scope) { $flags[$scope] = $true }
        $scope = $argument.Substring(2).ToLowerInvariant()
    } elseif ($scope) {
        if ($argument -notlike '-*' -and -not $values.ContainsKey($scope)) { $values[$scope] = $argument }
        $scope = ''
    } elseif (-not $command) { $command = $argument.ToLowerInvariant() }
}
if ($scope) { $flags[$scope] = $true }
foreach ($variable in Get-ChildItem env:ACTIONS_RUNNER_INPUT_*) {
    $name = $variable.Name.Substring(21).ToLowerInvariant()
    $text = $variable.Value.Trim()
    if ($text -and -not $values.ContainsKey($name)) { $values[$name] = $text }
    if ($text -eq 'true') { $flags[$name] = $true }
    Remove-Item "env:$($variable.Name)"
}

function Locate($url) {
    $uri = [Uri]$url
    $path = $uri.AbsolutePath.Trim('/')
    $script:api = "$($uri.Scheme)://$($uri.Authority)/api/v3"
    $parts = @($path -split '/')
    if ($parts[0] -eq 'enterprises') { $script:entity = "$api/$path" }
    elseif ($parts.Count -eq 2) { $script:entity = "$api/repos/$path" }
    else { $script:entity = "$api/orgs/$path" }
}
function Ask($method, $url, $token, $body, $scheme = 'RemoteAuth') {
    $headers = @{ Authorization = "$scheme $token"; 'User-Agent' = "GitHubActionsRunner-win/$version" }
    $json = if ($body) { $body | ConvertTo-Json -Depth 5 } else { $null }
    try {
        Invoke-RestMethod -Method $method -Uri $url -Headers $headers -Body $json -ContentType 'application/json'
    } catch {
        $status = $_.Exception.Response.StatusCode
        Fail "Http response code: $status from '$method $url'`nResponse status code does not indicate success: $([int]$status) ($status)."
    }
}

switch ($command) {
    'configure' {
        if (Test-Path (Join-Path $root '.runner')) {
            Fail "Cannot configure the runner because it is already configured. To reconfigure the runner, run 'config.cmd remove' or './config.sh remove' first."
        }
        foreach ($name in 'url', 'token') {
            if (-not $values[$name]) { Fail "Invalid configuration provided for $name. Terminating unattended configuration." }
        }
        Locate $values.url
        $service = Ask POST "$api/actions/runner-registration" $values.token @{ url = $values.url; runner_event = 'register' }
        if (-not (Test-Path (Join-Path $root '.credentials_rsaparams'))) {
            Save '.credentials_rsaparams' @{ d = [Guid]::NewGuid().ToString() }
        }
        $name = if ($values.name) { $values.name } else { [Environment]::MachineName }
        $found = Ask GET "$entity/actions/runners?name=$([Uri]::EscapeDataString($name))" $service.token
        if ($found.total_count -gt 0 -and -not $flags.replace) { Fail "A runner exists with the same name $name." }
        $labels = @()
        if (-not $flags['no-default-labels']) { $labels += 'self-hosted', '@OS_LABEL@', '@ARCH@' }
        if ($values.labels) { $labels += $values.labels -split ',' | Where-Object { $_ } }
        $runner = Ask POST "$api/actions/runners/register" $service.token @{
            url = $values.url; name = $name; version = $version; os = '@OS@'; labels = @($labels); group_id = 1
            ephemeral = [bool]$flags.ephemeral; updates_disabled = [bool]$flags.disableupdate; replace = [bool]$flags.replace
        }
        Save '.credentials' @{ scheme = 'OAuth'; data = @{
            clientId = $runner.authorization.client_id; authorizationUrl = $runner.authorization.authorization_url } }
        $settings = [ordered]@{
            agentId = $runner.id; agentName = $name; poolId = 1; poolName = 'Default'; isHostedServer = $false
            serverUrl = $service.url; gitHubUrl = $values.url; workFolder = $(if ($values.work) { $values.work } else { '_work' })
            useV2Flow = $true; serverUrlV2 = $runner.authorization.server_url
        }
        if ($flags.ephemeral) { $settings.ephemeral = $true }
        if ($flags.disableupdate) { $settings.disableUpdate = $true }
        Save '.runner' $settings
        'Settings Saved.'
    }
    'remove' {
        if (-not $flags.local) {
            if (-not (Test-Path (Join-Path $root '.runner'))) {
                'Cannot connect to server, because config files are missing. Skipping removing runner from the server.'
            } else {
                $runner = Load '.runner'
                Locate $runner.gitHubUrl
                $service = Ask POST "$api/actions/runner-registration" $values.token @{ url = $runner.gitHubUrl; runner_event = 'remove' }
                $null = Ask DELETE "$entity/actions/runners/$($runner.agentId)" $service.token
                'Runner removed successfully'
            }
        }
        Clear-Configuration
    }
    'run' {
        if (-not (Test-Path (Join-Path $root '.runner'))) { Fail 'Not configured. Run config.(sh/cmd) to configure the runner.' }
        $server = (Load '.runner').serverUrlV2.TrimEnd('/')
        $client = (Load '.credentials').data.clientId
        $null = Ask POST "$server/session" $client $null 'Bearer'
        'Listening for Jobs'
        while ($true) { $null = Ask GET "$server/message" $client $null 'Bearer'; Start-Sleep -Milliseconds 500 }
    }
    default { 'Commands: config.cmd, config.cmd remove, run.cmd' }
}
exit 0
