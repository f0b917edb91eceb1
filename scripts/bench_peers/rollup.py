"""candles rollup: everything once, and the hour that came last, beside reading the same rows."""

import json

from databases import NAME
from report import Row
from tools import binary, median, peak_memory, run, say, seconds_text, settle, spread

POINTS, SMALL = 10_000_000, 100_000
# One a minute: an hour's candle is folded of sixty.
COINS = 1_000
# An hour of a snapshot that all coins are in.
HOUR_COINS = 17_600
LIMIT_MIB = 64
START = "2026-03-01 00:00:00"


def measure(databases, rounds):
    rows, points = [], POINTS
    for database in databases:
        rows += everything(database, rounds, points)
        rows += an_hour(database, rounds, points)
        database.drop(NAME)
    return FACTS.format(points=points), rows


def everything(database, rounds, points):
    """All of it to 1h and 1d, beside the fastest way to read coin, time and price."""
    prepare(database, COINS)
    fill(database, COINS, points // COINS, 60)
    reading, folding, peaks = [], [], []
    for _ in range(rounds):
        reading.append(min(database.query(NAME, sql, discard=True)[1] for sql in reads(database)))
        database.query(NAME, "DELETE FROM candles")
        database.query(NAME, "DELETE FROM rollup_timeframes")
        database.prepare_server()
        settle()
        seconds, mib, counts = rollup(database)
        folding.append(seconds)
        peaks.append(mib)
        say(f"{database.title}: {points:,} points read in {reading[-1]:.1f} s, folded in {seconds:.1f} s, {mib:.0f} MiB")
    ratio = median(folding) / median(reading)
    what = f"{database.title}: {points:,} points to 1h and 1d, {counts['rows_written']:,} candles"
    return [
        Row(what, spread(folding), f"{spread(reading)} to read coin, time and price", ratio, "≤ 2 ×", ratio <= 2),
        Row(f"{database.title}: peak memory of it", f"{max(peaks):.0f} MiB", target=f"≤ {LIMIT_MIB} MiB",
            met=max(peaks) <= LIMIT_MIB),
    ]


def an_hour(database, rounds, points):
    """An hour of all coins, on top of few rows and of many."""
    times = {}
    for stored in (SMALL, points):
        prepare(database, HOUR_COINS)
        # The same hour of the day on both: its day is folded as well.
        hours = stored // HOUR_COINS // 24 * 24 + SMALL // HOUR_COINS
        fill(database, HOUR_COINS, hours, 3600)
        rollup(database)
        times[stored] = []
        for n in range(rounds):
            fill(database, HOUR_COINS, 1, 3600, hours + n)
            database.query(NAME, mark(database, hours + n))
            database.prepare_server()
            settle()
            times[stored].append(rollup(database)[0])
        say(f"{database.title}: an hour on {stored:,} rows: {spread(times[stored])}")
    few, many = (median(times[stored]) for stored in (SMALL, points))
    what = f"{database.title}: the next hour of {HOUR_COINS:,} coins, on {points:,} stored rows"
    peer = f"{seconds_text(few)} on {SMALL:,}"
    return [Row(what, spread(times[points]), peer, many / few, "≤ 2 ×", many <= 2 * few)]


def prepare(database, coins):
    database.drop(NAME)
    run([binary("coinetl"), "db-setup", "--database-url", database.url(NAME)])
    database.query(NAME, series(database, coins, "INSERT INTO assets (id, source, source_id, symbol, name, active, "
                                "first_seen_at, updated_at) {numbers} SELECT n + 1, 'bench', {text}, 'c', 'c', TRUE, "
                                f"'{START}.000', '{START}.000' FROM numbers"))


def fill(database, coins, each, seconds, first=0):
    """Prices of all coins, `each` of them, so many seconds apart: moment after moment, as they come in life. MariaDB
    takes many that way for an hour, and the same pages come of the order of their keys."""
    hour = f"{each} * {seconds} + {first} * {seconds}"
    say(f"{database.title}: {coins * each:,} prices up to {hour} s")
    at = database.moment(f"({first} + t.n) * {seconds}")
    # Prices that move, and fit no short decimal.
    price = "(1 + a.id % 97) * (1 + (t.n * 7919 + a.id * 104729) % 10007 / 100000.0)"
    order = "a.id, t.n" if database.title == "MariaDB" and each > 1 else "t.n, a.id"
    database.query(NAME, series(database, each, "INSERT INTO prices (asset_id, vs_currency, observed_at, price, run_id) "
                                f"{{numbers}} SELECT a.id, 'usd', {at}, {price}, 1 "
                                f"FROM numbers t CROSS JOIN assets a ORDER BY {order}"))


def series(database, count, statement):
    """`statement` with a table of the numbers below `count`."""
    return database.before_series + statement.format(numbers=database.numbers(count), text=database.text("n"))


def mark(database, hour):
    """What the price sink would have left."""
    at = database.moment(f"{hour} * 3600").replace("t.n", "0")
    return f"INSERT INTO rollup_pending SELECT {at}, 'usd', 1, {HOUR_COINS}"


def reads(database):
    return [sql.format(columns="asset_id, observed_at, price", table="prices") for sql in database.whole_read]


def rollup(database):
    out, seconds, mib = peak_memory([binary("coinetl"), "candles", "rollup", "--output", "json",
                                     "--database-url", database.url(NAME)])
    return seconds, mib, json.loads(out)


FACTS = f"""\
{{points:,}} points of {COINS:,} coins, one a minute, put in moment after moment by SQL. The peer is the fastest read of
the three columns through the database's own client, in any order, its output thrown away. Then {HOUR_COINS:,} coins, one
point an hour: the hour that came last, on few stored rows and on many, day and hour being folded again."""
