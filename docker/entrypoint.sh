#!/usr/bin/env bash
# `cron` (the default): tables first, then the schedule. Anything else is a command of coinetl:
#   docker run --rm coinetl prices insert --top 10
set -euo pipefail

if [[ ${1-cron} != cron ]]; then
  exec coinetl "$@"
fi

# A failure ends the container, and its restart policy tries again: the same for a database that is not there
# yet and for one whose tables are newer than this binary.
coinetl db-setup
coinetl db-setup --check
exec /app/docker/cron.sh /app/docker/crontab
