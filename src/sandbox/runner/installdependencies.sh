#!/bin/bash
# A fake: the sandbox's runner needs only bash and coreutils.
if [[ $(id -u) -ne 0 ]]; then
    echo "Need to run with sudo privilege"
    exit 1
fi
echo "The sandbox's runner has no dependencies to install."
