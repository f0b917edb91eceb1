#!/usr/bin/env bash
# What the container does, by its first word:
#   cron (the default)        tables, a look at everything, then the schedule of docker/crontab
#   stream [OPTIONS]          tables, a look at everything, then coinetl consume
#   export                    daily candles as CSV, the minutes as Parquet, into $DATA_EXPORT (or /data_export)
#   pipeline [OPTIONS]        scripts/pipeline.sh once: db-setup, assets upsert, prices insert, candles rollup
#   anything else             a command of coinetl:  docker run --rm coinetl prices insert --top 10
set -euo pipefail

# A database that is not there yet, or whose tables are newer than this binary, ends the container, and its
# restart policy tries again. So do settings that can't work (78): a key that the source refuses. What may
# heal by itself (75: the source or the broker can't be reached; 1: a last run that failed) is shown, and the
# work starts: a container that restarts over and over would only call a source that wants to be left alone.
get_ready() {
  local code=0
  coinetl db-setup
  coinetl doctor || code=$?
  ((code != 78)) || exit "$code"
}

case ${1-cron} in
  cron)
    get_ready
    exec /app/docker/cron.sh /app/docker/crontab
    ;;
  stream)
    shift
    get_ready
    exec coinetl consume "$@"
    ;;
  export)
    # With more words it is the command itself.
    (($# == 1)) || exec coinetl "$@"
    out=${DATA_EXPORT:-/data_export}
    coinetl candles rollup --timeframe 1m,1d --wait 5m
    coinetl export candles --timeframe 1d --format csv --out "$out"
    coinetl export candles --timeframe 1m --format parquet --out "$out"
    exec coinetl export quote-windows --timeframe 1m --format parquet --out "$out"
    ;;
  pipeline)
    shift
    exec /app/scripts/pipeline.sh "$@"
    ;;
  *)
    exec coinetl "$@"
    ;;
esac
