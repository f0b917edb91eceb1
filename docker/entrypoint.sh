#!/usr/bin/env bash
# What the container does, by its first word:
#   cron (the default)        tables, a look at everything, then the schedule of docker/crontab
#   pipeline [OPTIONS]        scripts/pipeline.sh once: db-setup, assets upsert, prices insert
#   anything else             a command of coinetl:  docker run --rm coinetl prices insert --top 10
set -euo pipefail

case ${1-cron} in
  cron)
    # A database that is not there yet, or whose tables are newer than this binary, ends the container, and its
    # restart policy tries again. So do settings that can't work (78): a key that the source refuses. What may
    # heal by itself (75: the source can't be reached; 1: a last run that failed) is shown, and the clock starts:
    # a container that restarts over and over would only call a source that wants to be left alone.
    coinetl db-setup
    code=0
    coinetl doctor || code=$?
    ((code != 78)) || exit "$code"
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
