#!/usr/bin/env bash
# A cron small enough to run without root, which Debian's needs: cron.sh FILE
#
# Lines: five fields and a command, or `@reboot` and a command. Fields: * N A-B */STEP A-B/STEP and lists
# of them; numbers only; Sunday is 0 or 7. As in cron, if both day fields are restricted either one will do.
# A minute that passes while the machine sleeps is not made up for. stdout and stderr are the container's.
set -euo pipefail

readonly file=${1:?usage: cron.sh FILE}
readonly alive=/tmp/cron.alive # touched every minute, for the health check
declare -a specs=() commands=()

fail() {
  echo "cron.sh: $*" >&2
  exit 78
}

# matches VALUE FIELD [LOWEST]: is the value in the field's list? `*` counts from the lowest.
matches() {
  local value=$1 part range step first last
  local -a parts
  IFS=, read -ra parts <<<"$2"
  for part in "${parts[@]}"; do
    range=${part%%/*} step=1
    [[ $part == */* ]] && step=${part#*/}
    case $range in
      \*) first=${3-0} last=99 ;;
      *-*) first=$((10#${range%-*})) last=$((10#${range#*-})) ;;
      *) first=$((10#$range)) last=$first ;;
    esac
    ((value >= first && value <= last && (value - first) % step == 0)) && return 0
  done
  return 1
}

# Is a line with these five fields due at `minute hour day month weekday`?
due() {
  local minute hour day month weekday now_minute now_hour now_day now_month now_weekday
  read -r minute hour day month weekday <<<"$1"
  read -r now_minute now_hour now_day now_month now_weekday <<<"$2"
  matches "$now_minute" "$minute" && matches "$now_hour" "$hour" && matches "$now_month" "$month" 1 || return 1
  if [[ $day != \** && $weekday != \** ]]; then
    matches "$now_day" "$day" 1 || on_weekday "$now_weekday" "$weekday"
  else
    matches "$now_day" "$day" 1 && on_weekday "$now_weekday" "$weekday"
  fi
}

on_weekday() {
  matches "$1" "$2" || { (($1 == 0)) && matches 7 "$2"; }
}

# All lines are read, and refused, at the start: a typing error must not wait for its hour.
read_file() {
  local line number=0 part='((\*|[0-9]+-[0-9]+)(/[1-9][0-9]*)?|[0-9]+)'
  local pattern="^(${part}(,${part})*[[:space:]]+){5}[^[:space:]]"
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    line=${line#"${line%%[![:space:]]*}"}
    if [[ -z $line || $line == \#* ]]; then
      continue
    elif [[ $line =~ ^@reboot[[:space:]]+(.*) ]]; then
      specs+=(@reboot)
      commands+=("${BASH_REMATCH[1]}")
    elif [[ $line =~ $pattern ]]; then
      local minute hour day month weekday command
      read -r minute hour day month weekday command <<<"$line"
      specs+=("$minute $hour $day $month $weekday")
      commands+=("$command")
    else
      fail "$file, line $number: neither five fields and a command nor @reboot: $line"
    fi
  done <"$file"
  ((${#specs[@]})) || fail "$file holds no line to run"
}

# In a process group of its own, so that the end reaches whatever the command has started.
start() {
  setsid bash -c "$1" </dev/null &
}

finish() {
  local pid
  trap - TERM INT
  for pid in $(jobs -p); do
    kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null || true
  done
  wait
  exit 0
}

main() {
  local i now last=$((EPOCHSECONDS / 60))
  read_file
  trap finish TERM INT
  for i in "${!specs[@]}"; do
    if [[ ${specs[i]} == @reboot ]]; then
      start "${commands[i]}"
    fi
  done
  while true; do
    touch "$alive"
    # Waited for in the background: a signal interrupts `wait`, but not a `sleep` in front.
    sleep $((60 - EPOCHSECONDS % 60)) &
    wait $! || true
    # Woken early by a clock that was put right: this minute had its turn.
    ((EPOCHSECONDS / 60 != last)) || continue
    last=$((EPOCHSECONDS / 60))
    now=$(printf '%(%-M %-H %-d %-m %w)T' -1)
    for i in "${!specs[@]}"; do
      if [[ ${specs[i]} != @reboot ]] && due "${specs[i]}" "$now"; then
        start "${commands[i]}"
      fi
    done
  done
}

main
