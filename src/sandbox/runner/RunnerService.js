// A stand-in. In the sandbox's archive, externals/node20/bin/node is a shell script that does what GitHub's
// RunnerService.js does: it keeps `bin/Runner.Listener run --startuptype service` alive.
