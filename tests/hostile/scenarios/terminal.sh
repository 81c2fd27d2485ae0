# C1: a job that becomes root by root's terminal.

# A program that takes root's terminal, if it is given one, and types a command into root's shell.
typist() {
    cat <<'TYPIST'
cat >$loot/typist.pl <<'PERL'
open(my $terminal, "+<", "/dev/tty") or exit 0;
open(my $seen, ">", "/srv/loot/had-a-terminal"); close($seen);
ioctl($terminal, 0x5412, $_) for split(//, "touch /root/owned\n");
PERL
TYPIST
}

# The job replaces the programs that root runs at a removal.
scenario_terminal_at_remove() {
    with_service
    hostile "$(typist)
for program in config.sh env.sh bin/Runner.Listener; do
    plant \$tree/\$program <<<'#!/bin/bash
perl /srv/loot/typist.pl
exit 1'
done"
    typed_by_root "runup remove" 1
    absent /root/owned $loot/had-a-terminal
    must no_runner
}

# Root runs the runner in the foreground, and its job looks for the terminal.
scenario_terminal_of_run() {
    server
    machine
    credentials
    switch_on
    local id
    id=$(job_begin "$(typist)
perl \$loot/typist.pl; echo done")
    typed_by_root "timeout --foreground --signal=INT 20 runup run --ephemeral" 1
    must job_done "$id"
    absent /root/owned $loot/had-a-terminal
}
