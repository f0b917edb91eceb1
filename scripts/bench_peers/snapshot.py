"""One snapshot of all coins, from HTTP into the database: coinetl, and Python doing the same."""

import json

from databases import NAME
from report import Row
from tools import HERE, Sandbox, binary, fail, median, python_peer, run, say, seconds_text, settle, spread

COINS = 17_600
CALLS_PER_MINUTE = 600
TARGETS = {"SQLite": 0.5, "PostgreSQL": 0.8, "MariaDB": 0.8}
STEPS = (["assets", "upsert"], ["prices", "insert"])


def prepare(database):
    database.drop(NAME)
    run([binary("coinetl"), "db-setup", "--database-url", database.url(NAME)])
    settle()
    database.prepare_server()


def coinetl(database, sandbox, limit=0):
    """Seconds of both commands together, and of the second alone with its calls."""
    env = {"COINGECKO_API_URL": sandbox.url, "COINETL_CALLS_PER_MINUTE": str(limit)}
    total = 0
    for step in STEPS:
        out, seconds = run([binary("coinetl"), *step, "--output", "json", "--database-url", database.url(NAME)], env)
        total += seconds
    return total, seconds, json.loads(out)["calls"]


def python(database, sandbox, peer):
    out, seconds = run([python_peer(), HERE / peer, sandbox.url, database.sqlalchemy_url(NAME)])
    return seconds, json.loads(out)["seconds"]


def content(database):
    """Numbers of coins and prices and a sum, to see that the same work was done."""
    sql = "SELECT (SELECT COUNT(*) FROM assets), COUNT(*), SUM(LN(1 + volume_24h)) FROM prices"
    if database.title == "SQLite":
        sql = sql.replace("SUM(LN(1 + volume_24h))", "SUM(volume_24h > 1000)")
    else:
        sql = sql.replace("SUM(LN(1 + volume_24h))", "SUM(CASE WHEN volume_24h > 1000 THEN 1 ELSE 0 END)")
    return [int(float(cell)) for cell in database.query(NAME, sql)[0].replace("|", " ").split()]


def measure(databases, rounds):
    rows = []
    with Sandbox(COINS) as sandbox, Sandbox(COINS, "2026-09-16T11:14:20Z") as later:
        for database in databases:
            rows += measure_one(database, sandbox, later, rounds)
        rows.append(limited(databases[0], sandbox))
    return FACTS, rows


def measure_one(database, sandbox, later, rounds):
    ours, next_hour, tuned, tuned_work, naive = [], [], [], [], []
    # The first run of each program reads it from the disk.
    for turn in range(-1, rounds):
        prepare(database)
        seconds = coinetl(database, sandbox)[0]
        wanted = content(database)
        hour = coinetl(database, later)[0]
        prepare(database)
        peer, work = python(database, sandbox, "tuned.py")
        if content(database) != wanted:
            fail(f"{database.title}: Python stored {content(database)}, coinetl {wanted}")
        if turn >= 0:
            ours.append(seconds), next_hour.append(hour), tuned.append(peer), tuned_work.append(work)
            say(f"{database.title} {turn + 1}/{rounds}: coinetl {seconds:.2f} s, Python {peer:.2f} s")
    if database.title == "SQLite":
        for _ in range(min(rounds, 3)):
            prepare(database)
            naive.append(python(database, sandbox, "naive.py")[0])
            if content(database) != wanted:
                fail(f"{database.title}: naive Python stored {content(database)}, coinetl {wanted}")
    database.drop(NAME)
    target = TARGETS[database.title]
    met = median(ours) <= target
    rows = [
        Row(
            f"{database.title}: {wanted[0]:,} coins and {wanted[1]:,} prices into an empty database",
            spread(ours),
            f"{spread(tuned)} tuned Python, {seconds_text(median(tuned_work))} of it after its imports",
            median(tuned) / median(ours),
            f"≤ {target} s",
            met,
        ),
        Row(f"{database.title}: the same coins an hour later", spread(next_hour)),
    ]
    if naive:
        peer = f"{spread(naive)} naive Python, row by row"
        rows.insert(1, Row(f"{database.title}: the same", spread(ours), peer, median(naive) / median(ours)))
    return rows


def limited(database, sandbox):
    prepare(database)
    _, seconds, calls = coinetl(database, sandbox, CALLS_PER_MINUTE)
    database.drop(NAME)
    least = calls * 60 / CALLS_PER_MINUTE
    return Row(
        f"{database.title}: `prices insert` at {CALLS_PER_MINUTE} calls a minute, {calls} calls",
        seconds_text(seconds),
        f"{seconds_text(least)} = calls ÷ rate",
        seconds / least,
        "≤ 1.02 ×",
        seconds <= 1.02 * least,
    )


FACTS = f"""\
`coinetl sandbox` with {COINS:,} coins in a process of its own, without a rate limit, on the same machine. coinetl: the wall
time of `assets upsert` and `prices insert` together, two processes. Python: one process with requests, four threads and
SQLAlchemy, one transaction for the coins and one for the prices, bulk upserts; it keeps no runs, counts, lease or rejects.
Runs interleaved; median (fastest … slowest); the ratio is the peer's time ÷ ours (with a limit: ours ÷ the least possible)."""
