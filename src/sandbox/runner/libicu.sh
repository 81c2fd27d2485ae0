if [[ $(uname) == Linux ]]; then
    ldconfig=ldconfig
    if ! command -v ldconfig >/dev/null; then
        ldconfig=/sbin/ldconfig
        if [[ ! -x $ldconfig ]]; then
            echo "Can not find 'ldconfig'. Please install 'ldconfig' and try again."
            exit 1
        fi
    fi
    # shellcheck disable=SC2086
    if ! $ldconfig -NXv ${LD_LIBRARY_PATH//:/ } 2>/dev/null | grep -q libicu; then
        echo "Libicu's dependencies is missing for Dotnet Core 6.0"
        echo "Execute sudo ./bin/installdependencies.sh to install any missing Dotnet Core 6.0 dependencies."
        exit 1
    fi
fi
