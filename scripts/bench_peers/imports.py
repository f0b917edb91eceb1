"""Millions of daily candles in Kaggle's layout: `coinetl import`, and how others load such a file."""

import json
import math
import random

from databases import NAME
from report import Row
from tools import DATA, HERE, binary, fail, median, peak_memory, python_peer, run, say, settle, spread

ROWS = 5_000_000
DAYS = 4_000
# pandas takes minutes for what the others do in seconds: it gets this part of the rows, and is judged by rows a second.
PANDAS_PART = 10
FLAT_LIMIT, SLACK = 64, 16
HEAD = "SNo,Name,Symbol,Date,High,Low,Open,Close,Volume,Marketcap\n"
CONTENT = "SELECT COUNT(*), SUM(CASE WHEN close > 50 THEN 1 ELSE 0 END), SUM(CASE WHEN volume > 500000 THEN 1 ELSE 0 END) FROM candles"


def days():
    """The dates of a coin's rows, the oldest first."""
    import datetime

    first = datetime.date(2013, 4, 29)
    return [(first + datetime.timedelta(days=day)).isoformat() for day in range(DAYS)]


def generate(rows, kaggle, table):
    """The file that everybody gets, and the same rows in the shape of our table, for \\copy."""
    dice, dates = random.Random(4711), days()
    with open(kaggle, "w") as out, open(table, "w") as ready:
        out.write(HEAD)
        for number in range(rows):
            coin, day = divmod(number, DAYS)
            if day == 0:
                price = math.exp(dice.uniform(-10, 10))
            price *= math.exp(dice.gauss(0, 0.03))
            opened, close = price * dice.uniform(0.97, 1.03), price
            high, low = max(opened, close) * dice.uniform(1, 1.05), min(opened, close) * dice.uniform(0.95, 1)
            volume, cap = dice.uniform(0, 1e6), close * 1e7
            out.write(f"{day + 1},Coin {coin},C{coin},{dates[day]} 23:59:59,{high},{low},{opened},{close},{volume},{cap}\n")
            ready.write(f"{coin + 1}\tusd\t1d\t{dates[day]} 00:00:00\t{opened}\t{high}\t{low}\t{close}\t{volume}\t\\N\t{cap}\t\\N\t"
                        "archive\tt\t1\n")


def prepare(database):
    database.drop(NAME)
    run([binary("coinetl"), "db-setup", "--database-url", database.url(NAME)])
    settle()
    database.prepare_server()


def ours(database, file, rows):
    """Seconds of the whole command, and its peak in MiB."""
    prepare(database)
    command = [binary("coinetl"), "import", file, "--output", "json", "--quiet", "--database-url", database.url(NAME)]
    out, seconds, mib = peak_memory(command)
    told = json.loads(out)
    if told["rows_written"] != rows or told["rows_rejected"]:
        fail(f"{database.title}: {told}")
    return seconds, mib


def again(database, file, rows):
    command = [binary("coinetl"), "import", file, "--output", "json", "--database-url", database.url(NAME)]
    out, seconds = run(command)
    if json.loads(out)["rows_unchanged"] != rows:
        fail(f"{database.title}: the second import changed something: {out}")
    return seconds


def content(database):
    return [int(float(cell)) for cell in database.query(NAME, CONTENT)[0].replace("|", " ").split()]


def copied(database, table, rows):
    """psql's own loader into a table with our keys, indexes and foreign key."""
    prepare(database)
    coins = -(-rows // DAYS)
    database.query(NAME, "INSERT INTO assets SELECT i, 'bench', 'c' || i, '', '', TRUE, now(), now() "
                         f"FROM generate_series(1, {coins}) AS t (i)")
    database.query(NAME, "INSERT INTO runs (id, command, source, started_at, status) VALUES (1, 'x', 'x', now(), 'ok')")
    settle()
    return run(database.client(NAME, "--command", f"\\copy candles from '{table}'"))[1]


def pandas(database, file):
    prepare(database)
    out, _ = run([python_peer(), HERE / "import_pandas.py", file, database.sqlalchemy_url(NAME)])
    return json.loads(out)["rows_per_second"]


def duckdb(file, rows):
    target = DATA / "peer.duckdb"
    target.unlink(missing_ok=True)
    settle()
    told = json.loads(run([python_peer(), HERE / "import_duckdb.py", file, target])[0])
    target.unlink(missing_ok=True)
    if told["rows"] != rows:
        fail(f"DuckDB loaded {told}")
    return told["seconds"]


def measure(databases, rounds):
    kaggle, table, part = DATA / "kaggle.csv", DATA / "candles.tsv", DATA / "kaggle-part.csv"
    say(f"generating {ROWS:,} rows")
    generate(ROWS, kaggle, table)
    with open(kaggle) as whole, open(part, "w") as out:
        for _ in range(ROWS // PANDAS_PART + 1):
            out.write(whole.readline())
    rows, wanted = [], None
    for database in databases:
        times, peaks, seconds_again, peers = [], [], [], {}
        for turn in range(rounds):
            seconds, mib = ours(database, kaggle, ROWS)
            times.append(seconds)
            peaks.append(mib)
            seconds_again.append(again(database, kaggle, ROWS))
            found = content(database)
            wanted = wanted or found
            if found != wanted:
                fail(f"{database.title} holds {found}, not {wanted}")
            if database.title == "PostgreSQL":
                peers.setdefault("copy", []).append(copied(database, table, ROWS))
                if content(database) != wanted:
                    fail("\\copy loaded something else")
            if database.title == "SQLite":
                peers.setdefault("duckdb", []).append(duckdb(kaggle, ROWS))
            if turn == 0:
                peers["pandas"] = [pandas(database, part)]
            say(f"{database.title} {turn + 1}/{rounds}: {seconds:.1f} s, again {seconds_again[-1]:.1f} s, {peers}")
        rows += rows_of(database, times, peaks, seconds_again, peers)
    rows += flat(databases[0], kaggle)
    databases[0].drop(NAME)
    for file in (kaggle, table, part):
        file.unlink()
    words = FACTS.format(rows=ROWS, coins=-(-ROWS // DAYS), days=DAYS, part=ROWS // PANDAS_PART)
    return words, rows


def rows_of(database, times, peaks, seconds_again, peers):
    speed = ROWS / median(times)
    told = f"{spread(times)}, {speed / 1000:.0f} k rows/s"
    rows = []
    ratio = speed / peers["pandas"][0]
    rows.append(Row(f"{database.title}: into an empty database", told,
                    f"{peers['pandas'][0] / 1000:.1f} k rows/s, pandas `to_sql`", ratio, "≥ 8 ×", ratio >= 8))
    for name, words, target in (("copy", "`\\copy` into the same table", 0.7), ("duckdb", "DuckDB, `read_csv` into a keyed table", 0.5)):
        if name in peers:
            ratio = median(peers[name]) / median(times)
            rows.append(Row(f"{database.title}: the same", told, f"{spread(peers[name])}, {words}", ratio, f"≥ {target} ×",
                            ratio >= target))
    rows.append(Row(f"{database.title}: the same file again, nothing changes", spread(seconds_again)))
    peak = max(peaks)
    rows.append(Row(f"{database.title}: peak memory", f"{peak:.0f} MiB", target=f"≤ {FLAT_LIMIT} MiB", met=peak <= FLAT_LIMIT))
    return rows


def flat(database, kaggle):
    """Four times the rows, the same memory."""
    many = DATA / "kaggle-many.csv"
    with open(many, "w") as out:
        out.write(HEAD)
        for copy in range(4):
            with open(kaggle) as whole:
                whole.readline()
                for line in whole:
                    number, name, symbol, rest = line.split(",", 3)
                    out.write(f"{number},{name}-{copy},{symbol}-{copy},{rest}")
    seconds, mib = ours(database, many, 4 * ROWS)
    many.unlink()
    return [Row(f"{database.title}: peak memory at {4 * ROWS:,} rows", f"{mib:.0f} MiB in {seconds:.0f} s",
                target=f"≤ {FLAT_LIMIT + SLACK} MiB", met=mib <= FLAT_LIMIT + SLACK)]


FACTS = """\
One CSV file of {rows:,} rows in Kaggle's layout: {coins:,} coins of {days:,} days, numbers of up to 18 digits. coinetl: the whole
command, with its run, lease, counts and resumable place, into the table with its key, two indexes and foreign key. `\\copy` gets
the same rows ready in the shape of that table. DuckDB reads the same file into a table with the same key and no indexes, with
all its threads. pandas reads a file of {part:,} of these rows and appends it to the same table. Median (fastest … slowest)."""
