# C1: a job that becomes root through root's terminal.

# A program that opens root's terminal, if it has one, and types a command into root's shell.
typist() {
    cat <<'TYPIST'
cat >$loot/typist.pl <<'PERL'
open(my $terminal, "+<", "/dev/tty") or exit 0;
open(my $seen, ">", "/srv/loot/had-a-terminal"); close($seen);
ioctl($terminal, 0x5412, $_) for split(//, "touch /root/owned\n");
PERL
TYPIST
}

# The job replaces the programs that root runs during a removal.
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

# Root runs the runner in the foreground, and its job tries to open the terminal.
scenario_terminal_of_run() {
    server
    machine
    credentials
    switch_on
    local id
    id=$(job_begin "$(typist)
perl \$loot/typist.pl; echo done")
    typed_by_root "timeout --foreground --signal=INT 120 runup run --ephemeral" 1
    must job_done "$id"
    absent /root/owned $loot/had-a-terminal
}

# Root's process has a key in its session keyring, an open file and ignored signals. Its runner's jobs inherit none of them.
scenario_what_root_had_open() {
    local id
    server
    machine
    credentials
    switch_on
    install --mode=600 /dev/stdin "$root/root/secret" <<<"only for root: $RANDOM$RANDOM"
    install --mode=600 /dev/stdin "$root/root/rich.pl" <<'PERL'
my ($add_key, $keyctl) = `uname -m` =~ /^x86_64/ ? (248, 250) : (217, 219);
$^F = 255;
open(our $secret, "<", "/root/secret") or die;
my $text = <$secret>; seek($secret, 0, 0);
# A session keyring of its own, with the secret in it.
my ($type, $name) = ("user", "canary");
syscall($keyctl, 1, 0) >= 0 or die "no keyring: $!";
syscall($add_key, $type, $name, $text, length $text, -3) >= 0 or die "no key: $!";
$SIG{$_} = "IGNORE" for qw(INT QUIT PIPE USR1);
exec @ARGV;
PERL
    id=$(job_begin "cat >\$loot/read-key.pl <<'PERL'
my (\$request_key, \$keyctl) = \`uname -m\` =~ /^x86_64/ ? (249, 250) : (218, 219);
my (\$type, \$name, \$text) = ('user', 'canary', ' ' x 200);
my \$id = syscall(\$request_key, \$type, \$name, 0, 0);
exit if \$id < 0;
my \$length = syscall(\$keyctl, 11, \$id, \$text, 200);
open(my \$key, '>', '/srv/loot/key'); print \$key substr(\$text, 0, \$length);
PERL
perl \$loot/read-key.pl
for descriptor in {3..30}; do cat <&\$descriptor >>\$loot/open; done 2>/dev/null
# SIGINT, SIGUSR1, SIGPIPE; the fake runner consists of shells, which ignore SIGQUIT in their children.
echo \"ignored: \$((0x\$(awk '/^SigIgn:/ { print \$2 }' /proc/self/status) & 0x1202))\"")
    # Not through systemd, because the machine may not use keyrings.
    attempt inside perl /root/rich.pl /usr/bin/runup run --ephemeral
    must job_done "$id"
    job_of "$id" .log
    absent $loot/key
    nothing_was_taken
    last_job=$id
    job_says "ignored: 0"
}
