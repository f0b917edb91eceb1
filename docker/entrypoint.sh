#!/usr/bin/env bash
# What the container does, by its first word:
#   cron (the default)        tables, a look at everything, then the schedule of docker/crontab
#   pipeline [OPTIONS]        scripts/pipeline.sh once: db-setup, assets upsert, prices insert
#   anything else             a command of coinetl:  docker run --rm coinetl prices insert --top 10
set -euo pipefail

case ${1-cron} in
  cron)
    # A failure ends the container, and its restart policy tries again: the same for a database that is not
    # there yet, one whose tables are newer than this binary, and a key that the source refuses. Only a plain
    # cross (1), such as a last run that failed, does not keep the clock from starting: the clock is what heals it.
    coinetl db-setup
    code=0
    coinetl doctor || code=$?
    ((code == 0 || code == 1)) || exit "$code"
    exec /app/docker/cron.sh /app/docker/crontab
    ;;
  pipeline)
    shift
    exec /app/scripts/pipeline.sh "$@"
    ;;
  *)
    exec coinetl "$@"
    ;;
esac
