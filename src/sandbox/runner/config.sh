#!/bin/bash
# The sandbox's fake config.sh: the same checks in the same order, messages and exit codes as GitHub's.

if [[ $(id -u) -eq 0 && -z "$RUNNER_ALLOW_RUNASROOT" ]]; then
    echo "Must not run with sudo"
    exit 1
fi

# Like GitHub's, the checks come before the cd, so they check nothing if started in another directory.
if [[ $(uname) == Linux && -e ./bin/libcoreclr.so ]]; then
    if ! command -v ldd >/dev/null; then
        echo "Can not find 'ldd'. Please install 'ldd' and try again."
        exit 1
    fi
    for library in libcoreclr.so libSystem.Security.Cryptography.Native.OpenSsl.so libSystem.IO.Compression.Native.so; do
        if ldd "./bin/$library" | grep 'not found'; then
            echo "Dependencies is missing for Dotnet Core 6.0"
            echo "Execute sudo ./bin/installdependencies.sh to install any missing Dotnet Core 6.0 dependencies."
            exit 1
        fi
    done
fi
@LIBICU_CHECK@

cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
source ./env.sh

shopt -s nocasematch
if [[ "$1" == "remove" ]]; then
    ./bin/Runner.Listener "$@"
else
    ./bin/Runner.Listener configure "$@"
fi
