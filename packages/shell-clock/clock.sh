#!/bin/sh
# Prints the time every INTERVAL seconds. SIGTERM ends it at once: `wait` is interrupted by a signal, `sleep` is not.
# It is killed with KILL: a TERM is lost on a child that has not become `sleep` yet.
set -eu

interval=${INTERVAL:-5}
format=${FORMAT:-%H:%M:%S %Z}
case $interval in
    '' | 0 | *[!0-9]*) echo "cannot start: INTERVAL must be a whole number of seconds above 0, got '$interval'" >&2; exit 2 ;;
esac

trap '[ -z "${!:-}" ] || kill -KILL "$!" 2>/dev/null || :; echo "clock: stopped"; exit 0' TERM INT

while :; do
    date +"$format"
    sleep "$interval" &
    wait "$!"
done
