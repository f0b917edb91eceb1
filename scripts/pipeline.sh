#!/usr/bin/env bash
# The whole job once, made for cron: db-setup, assets upsert, prices insert, candles rollup, and publish where a
# broker is set.
# See --help.
set -euo pipefail
export LC_NUMERIC=C # a decimal point in the seconds, whatever the machine's language

usage() {
  cat <<'TEXT'
usage: scripts/pipeline.sh [GLOBAL OPTIONS] [options of `prices insert`]

  scripts/pipeline.sh --top 1000
  scripts/pipeline.sh --vs usd,eur --database-url mysql://coinetl@localhost/coinetl

Runs `coinetl db-setup`, `coinetl assets upsert`, `coinetl prices insert`, `coinetl candles rollup` in the
repository's folder, so a relative path (sqlite://coinetl.db, the .env file) means that folder, wherever it is
started from. The rollup is of all sources, and waits two minutes for that of another pipeline.
Where KAFKA_BOOTSTRAP_SERVERS is set, in the environment or in .env, `coinetl publish` is the last step.
COINETL_DIR names another folder; the Debian package's is /var/lib/coinetl.

Global options reach all steps: --database-url URL, --source NAME, --sandbox, --wait TIME,
--output FORMAT, --log-format FORMAT, -v, -q. All others go to `prices insert`.

stdout gets one line a step: when it ended (UTC), step, exit code, seconds, and what it said of itself in one
line. On a terminal a step's whole output comes first. stderr is coinetl's own: silent under cron when all is well.

The binary: $COINETL_BIN, else target/release/coinetl, else coinetl in the PATH.

Exit codes: that of the step that failed, and the steps after it are not run; but 3 (part of it stored) does
not stop the rest, and is the code in the end. A rollup that fails stops nothing: prices are stored and sent all the
same, the next run folds what is left, and the code in the end is the rollup's, 3 instead of 75. If the previous run is still at it, the step that finds the
other busy ends with 75 and nothing is doubled or lost; with --wait 5m it waits for its turn first.
TEXT
}

fail_config() {
  echo "pipeline.sh: $*" >&2
  exit 78
}

find_binary() {
  if [[ -n ${COINETL_BIN-} ]]; then
    command -v -- "$COINETL_BIN" || fail_config "COINETL_BIN=$COINETL_BIN can't be run: name the binary"
  elif [[ -x target/release/coinetl ]]; then
    echo target/release/coinetl
  else
    command -v coinetl ||
      fail_config "no coinetl found: build it (cargo build --release) in $PWD, or name it in COINETL_BIN"
  fi
}

# Sorts the arguments into `globals` and `prices`.
sort_arguments() {
  while (($#)); do
    case $1 in
      --database-url | --source | --wait | --output | --log-format)
        if (($# < 2)); then
          echo "pipeline.sh: $1 wants a value" >&2
          exit 2
        fi
        globals+=("$1" "$2")
        shift
        ;;
      --database-url=* | --source=* | --wait=* | --output=* | --log-format=* | \
        --sandbox | --verbose | --quiet) globals+=("$1") ;;
      # Their values are passed on unread: a coin's id may look like an option.
      --top | --ids | --vs)
        prices+=("$1")
        if (($# > 1)); then
          prices+=("$2")
          shift
        fi
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      *)
        if [[ $1 =~ ^-[vq]+$ ]]; then
          globals+=("$1")
        else
          prices+=("$1")
        fi
        ;;
    esac
    shift
  done
}

# As the binary sees it: the environment first, then .env of this folder.
has_broker() {
  [[ -n ${KAFKA_BOOTSTRAP_SERVERS-} ]] ||
    grep -qsE "^[[:space:]]*(export[[:space:]]+)?KAFKA_BOOTSTRAP_SERVERS[[:space:]]*=[[:space:]]*[\"']?[^\"' ]" .env
}

# Runs one step and logs it in one line; its code is left in `code`.
step() {
  local name=$1 begin=${EPOCHREALTIME/./} output seconds first=""
  shift
  code=0
  output=$("$binary" "$@" "${globals[@]}") || code=$?
  seconds=$(((${EPOCHREALTIME/./} - begin + 50000) / 100000))
  if [[ -t 1 && -n $output ]]; then
    printf '%s\n' "$output"
  fi
  [[ -t 1 ]] || first=${output%%$'\n'*}
  printf '%s step=%s exit=%d seconds=%d.%d%s\n' "$(date -u +%FT%TZ)" "$name" "$code" \
    $((seconds / 10)) $((seconds % 10)) "${first:+ $first}"
}

main() {
  local -a globals=() prices=()
  local binary code worst=0
  # Looked up before the change of folder: what the caller names is relative to where the caller is.
  if [[ ${COINETL_BIN-} == */* ]]; then
    COINETL_BIN=$(realpath -m -- "$COINETL_BIN")
  fi
  # A folder that is not there must not turn into another one with an empty database.
  cd -- "${COINETL_DIR:-$(dirname "$(realpath "${BASH_SOURCE[0]}")")/..}" || fail_config "COINETL_DIR can't be entered"
  sort_arguments "$@"
  binary=$(find_binary)

  step db-setup db-setup
  ((code == 0 || code == 3)) || return "$code"
  step assets-upsert assets upsert
  ((code == 0 || code == 3)) || return "$code"
  worst=$code
  step prices-insert prices insert "${prices[@]}"
  ((code == 0 || code == 3)) || return "$code"
  ((code == 0)) || worst=$code
  local -a patience=(--wait 2m)
  if [[ " ${globals[*]} " == *" --wait"* ]]; then
    patience=()
  fi
  step candles-rollup candles rollup "${patience[@]}"
  # 75 would say that nothing is stored.
  case $code in
    0) ;;
    75) worst=3 ;;
    *) worst=$code ;;
  esac
  if has_broker; then
    step publish publish
    ((code == 0 || (code == 3 && worst != 0))) || return "$code"
  fi
  return "$worst"
}

main "$@"
exit # an update of this file while it runs must not be read as its next line
