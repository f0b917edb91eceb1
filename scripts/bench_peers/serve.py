"""The REST API over 25 million candles in PostgreSQL, against Flask and SQLAlchemy on the same tables."""

import contextlib
import datetime
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import time
import urllib.request

import paint
from databases import NAME
from report import Row
from tools import HERE, WORK, binary, fail, median, python_peer, run, say, settle

COINS, DAYS = 17_600, 1_421
SOURCE = "coingecko"
FIRST = datetime.date(2022, 12, 1)
SECONDS = 8
CONNECTIONS = 8
MEMORY = 128


def fill(database):
    """A candle a day of each coin, and the newest prices; indexes made after the rows, as that takes minutes less."""
    database.drop(NAME)
    run([binary("coinetl"), "db-setup", "--database-url", database.url(NAME)])
    last = FIRST + datetime.timedelta(days=DAYS - 1)
    say(f"{COINS * DAYS:,} candles into PostgreSQL")
    indexes = database.query(NAME, "SELECT indexdef FROM pg_indexes WHERE tablename = 'candles' "
                                   "AND indexname <> 'candles_pkey'")[0].strip().splitlines()
    names = [re.search(r"INDEX (\S+) ON", line).group(1) for line in indexes]
    for statement in [
        "INSERT INTO runs (command, source, started_at, finished_at, status) VALUES "
        f"('import', '{SOURCE}', now(), now(), 'ok')",
        "INSERT INTO assets SELECT n, '" + SOURCE + "', 'coin-' || n, CASE WHEN n = 1 THEN 'btc' ELSE 'c' || n END, "
        "CASE WHEN n = 1 THEN 'Bitcoin' ELSE 'Coin ' || n END, TRUE, now(), now() "
        f"FROM generate_series(1, {COINS}) AS n",
        *(f"DROP INDEX {name}" for name in names),
        "ALTER TABLE candles DROP CONSTRAINT candles_pkey, DROP CONSTRAINT candles_asset",
        "INSERT INTO candles SELECT n, 'usd', '1d', TIMESTAMP '" + str(FIRST) + "' + d * INTERVAL '1 day', "
        "1000.0 / n, 1100.0 / n, 900.0 / n, (1000.0 + 300 * sin(d / 20.0 + n)) / n, 1e9 / n, 1e6 / n, 1e12 / n, NULL, "
        f"'source', TRUE, 1 FROM generate_series(1, {COINS}) AS n, generate_series(0, {DAYS - 1}) AS d",
        "ALTER TABLE candles ADD PRIMARY KEY (asset_id, vs_currency, timeframe, open_time), "
        "ADD CONSTRAINT candles_asset FOREIGN KEY (asset_id) REFERENCES assets (id)",
        *indexes,
        "INSERT INTO prices (asset_id, vs_currency, observed_at, price, volume_24h, market_cap, market_cap_rank, run_id) "
        f"SELECT n, 'usd', TIMESTAMP '{last} 10:00', 1000.0 / n, 1e9 / n, 1e12 / n, n, 1 "
        f"FROM generate_series(1, {COINS}) AS n",
        "VACUUM ANALYZE",
    ]:
        database.query(NAME, statement)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def ours(database, *more):
    server = subprocess.Popen(
        [binary("coinetl"), "serve", "--bind", "127.0.0.1:0", "--source", SOURCE, "--database-url", database.url(NAME),
         *more], cwd=WORK, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield re.search(r"http://(\S+)", server.stdout.readline()).group(1), server.pid
    finally:
        server.terminate()
        if server.wait(timeout=30) != 0:
            fail(f"coinetl serve ended with {server.returncode}")


@contextlib.contextmanager
def flask(database, cached):
    address = f"127.0.0.1:{free_port()}"
    env = {**os.environ, "PEER_DATABASE": database.sqlalchemy_url(NAME), "PEER_SOURCE": SOURCE}
    if cached:
        env["PEER_CACHE"] = "1"
    server = subprocess.Popen(
        [python_peer(), "-m", "gunicorn", "--workers", "2", "--bind", address, "--chdir", HERE, "--keep-alive", "60",
         "--worker-class", "gthread", "--threads", "4", "--log-level", "error", "flask_peer:app"], cwd=WORK, env=env)
    try:
        until(f"http://{address}/dashboard?id=btc")
        yield address, server.pid
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


@contextlib.contextmanager
def constant(size):
    server = subprocess.Popen([binary("http_load"), "constant", str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True)
    try:
        yield server.stdout.readline().strip(), server.pid
    finally:
        server.stdin.close()
        server.wait(timeout=30)


def until(url):
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.read()
        except OSError:
            time.sleep(0.1)
    fail(f"{url} does not answer")


def load(address, paths, connections=CONNECTIONS, seconds=SECONDS, rate=0):
    file = WORK / "paths"
    file.write_text("\n".join(paths))
    told = json.loads(run([binary("http_load"), "load", address, connections, seconds, rate, file])[0])
    if told["failed"] or not told["requests"]:
        fail(f"{address}: {told}")
    return told


def every_day(wanted):
    """The same query for every day that has 30 days before it: no cache can know the answer."""
    return [f"/dashboard?id={wanted}&date={FIRST + datetime.timedelta(days=day)}" for day in range(31, DAYS)]


def every_coin():
    """One coin by its symbol, another and another day each time; more of them than are asked in the time."""
    days = [FIRST + datetime.timedelta(days=day) for day in range(31, DAYS)]
    return [f"/dashboard?id=c{2 + n % (COINS - 1)}&date={days[n * 7 % len(days)]}" for n in range(200_000)]



def same_answers(database):
    """Both do the same work: a day's prices and changes of all coins are equal."""
    def figures(address):
        rows = json.loads(until(f"http://{address}/dashboard?id=all&date=2024-05-05"))
        return {row["id"]: [row["crypto"], row["symbol"], row["price"], row["24h"], row["7d"], row["1m"], row["market_cap"]]
                for row in rows}

    with ours(database) as (mine, _), flask(database, False) as (peer, _):
        mine, peer = figures(mine), figures(peer)
    if mine.keys() != peer.keys() or len(mine) != COINS:
        fail(f"{len(mine)} coins of {len(peer)}")
    for key, row in mine.items():
        for ours_, theirs in zip(row, peer[key]):
            same = ours_ == theirs or isinstance(ours_, float) and abs(ours_ - theirs) <= 1e-9 * max(1, abs(theirs))
            if not same:
                fail(f"{key}: {row} is not {peer[key]}")


def resident(pid, field):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def measure(databases, rounds):
    database = next((one for one in databases if one.title == "PostgreSQL"), None)
    if database is None:
        fail("the section serve needs PostgreSQL")
    page = paint.measure(rounds)
    fill(database)
    same_answers(database)
    rows, uncached, plain, peaks = [], {}, {}, []
    sets = {"all": every_day("all"), "btc": every_coin()}
    for _ in range(rounds):
        for name, paths in sets.items():
            settle()
            with ours(database) as (address, pid):
                uncached.setdefault(name, []).append(load(address, paths)["per_second"])
                peaks.append(resident(pid, "VmHWM"))
            with flask(database, False) as (address, _):
                plain.setdefault(name, []).append(load(address, paths)["per_second"])
    for name in sets:
        ratio = median(uncached[name]) / median(plain[name])
        what = "all" if name == "all" else "one of the coins"
        rows.append(Row(f"/dashboard?id={what}, each question once: nothing is cached", a_second(uncached[name]),
                        f"Flask, SQLAlchemy: {a_second(plain[name])}", ratio, "≥ 4 ×", ratio >= 4))
    for name in sets:
        rows += cached(database, name, rounds, peaks)
    rows += charts(database, rounds)
    rows.append(Row("peak memory of all this", f"{max(peaks):.0f} MiB", target=f"≤ {MEMORY} MiB", met=max(peaks) <= MEMORY))
    return FACTS, rows + page


def cached(database, name, rounds, peaks):
    path = [f"/dashboard?id={name}"]
    mine, peers, least, tails, size = [], [], [], [], 0
    for _ in range(rounds):
        settle()
        with ours(database) as (address, pid):
            size = len(until(f"http://{address}{path[0]}"))
            mine.append(load(address, path)["per_second"])
            tails.append(load(address, path, rate=mine[-1] / 2)["p99_ms"])
            peaks.append(resident(pid, "VmHWM"))
        with flask(database, True) as (address, _):
            for _ in range(20):
                until(f"http://{address}{path[0]}")
            peers.append(load(address, path)["per_second"])
        with constant(size) as (address, _):
            least.append(load(address, ["/"])["per_second"])
    ratio, of_least = median(mine) / median(peers), median(mine) / median(least)
    what = f"/dashboard?id={name}, cached ({size:,} bytes)"
    return [
        Row(what, a_second(mine), f"Flask-Caching: {a_second(peers)}", ratio, "≥ 8 ×", ratio >= 8),
        Row(what, a_second(mine), f"a constant by axum: {a_second(least)}", of_least, "≥ 0.75 ×", of_least >= 0.75),
        Row(f"{what}, p99 at half of that rate", f"{median(tails):.1f} ms", target="< 20 ms", met=median(tails) < 20),
    ]


def charts(database, rounds):
    """A year of a coin, another coin each time, one after the other."""
    last = FIRST + datetime.timedelta(days=DAYS)
    first = last - datetime.timedelta(days=365)
    paths = [f"/candles?id=coin-{n}&timeframe=1d&from={first}&to={last}&limit=400" for n in range(1, COINS)]
    took = []
    for _ in range(rounds):
        with ours(database) as (address, _):
            until(f"http://{address}{paths[-1]}")
            took.append(load(address, paths, connections=1, seconds=4)["p50_ms"])
    return [Row("a year of daily candles of one coin, nothing cached, p50", f"{statistics.median(took):.2f} ms",
                target="≤ 3 ms", met=statistics.median(took) <= 3)]


def a_second(rates):
    text = f"{median(rates):,.0f} a second" if median(rates) >= 10 else f"{median(rates):.1f} a second"
    return text if len(rates) == 1 else f"{text} ({min(rates):,.0f} … {max(rates):,.0f})"


FACTS = f"""\
{COINS * DAYS:,} daily candles of {COINS:,} coins in PostgreSQL. The server, the database and the load (8 connections kept open,
{SECONDS} s a figure) share the same two cores. The peer is Flask 3 and SQLAlchemy 2 (Core) under gunicorn, 2 workers of 4
threads, with the same queries over the same tables; its answers are compared with ours, row by row, before anything is
measured. At a rate, the time of an answer counts from when its request was due."""
