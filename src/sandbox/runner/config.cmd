@echo off
rem The sandbox's stand-in for config.cmd.
cd /d "%~dp0"
if /i "%1"=="remove" (
  powershell -NoLogo -NoProfile -ExecutionPolicy Bypass -File bin\Runner.Listener.ps1 %*
) else (
  powershell -NoLogo -NoProfile -ExecutionPolicy Bypass -File bin\Runner.Listener.ps1 configure %*
)
exit /b %ERRORLEVEL%
