#!/bin/bash
# A stand-in: the sandbox's runner needs bash and coreutils only.
if [[ $(id -u) -ne 0 ]]; then
    echo "Need to run with sudo privilege"
    exit 1
fi
echo "The sandbox's runner has no dependencies to install."
