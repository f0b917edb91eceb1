"""A topic of a million quotes into rows, extremes and windows: coinetl, librdkafka alone, Quix Streams."""

import json
import os
import subprocess
import time

from databases import NAME
from report import Row
from tools import HERE, REPO, WORK, binary, fail, median, peak_memory, python_peer, run, say, seconds_text, settle, spread

QUOTES = 1_000_000
RATE, SECONDS = 10_000, 20
TARGETS = {"SQLite": 150_000, "PostgreSQL": 100_000}
EXACTLY_ONCE = 0.15
MEMORY = 128
LATENCY = 1.0


def kafka():
    """The broker's address, and whether it was started for this."""
    services = str(REPO / "scripts/services")
    started = subprocess.run([services, "status", "kafka"], capture_output=True).returncode != 0
    if started:
        say("starting kafka")
        run([services, "up", "kafka"])
    lines = run([services, "env"])[0].splitlines()
    address = next((line.split("=", 1)[1] for line in lines if line.startswith("export COINETL_TEST_KAFKA")), None)
    if not address:
        fail("scripts/services names no broker")
    return address, started


def fresh(database):
    database.drop(NAME)
    run([binary("coinetl"), "db-setup", "--database-url", database.url(NAME)])
    settle()
    database.prepare_server()


def settings(servers, topic):
    group = f"bench-{time.time_ns()}"
    return {"KAFKA_BOOTSTRAP_SERVERS": servers, "KAFKA_TOPIC": topic, "KAFKA_GROUP": group}


def ours(database, servers, topic):
    """Seconds of the whole command, joining the group included, and its largest resident set."""
    fresh(database)
    command = [binary("coinetl"), "consume", "--until-end", "--quiet", "--output", "json"]
    out, seconds, mib = peak_memory([*command, "--database-url", database.url(NAME)], settings(servers, topic))
    if json.loads(out)["rows_written"] != QUOTES:
        fail(f"{database.title}: {out}")
    count(database)
    return seconds, mib


def plain(database, servers, topic):
    fresh(database)
    seconds = float(run([binary("quote_stream"), "plain", servers, topic, QUOTES, database.url(NAME)])[0])
    count(database)
    return seconds


def quix(database, servers, topic):
    fresh(database)
    conninfo = f"host=127.0.0.1 port={database.port} user=postgres dbname={NAME}"
    seconds = float(run([python_peer(), HERE / "quix_consumer.py", servers, topic, QUOTES, conninfo])[0])
    count(database)
    return seconds


def count(database):
    stored = int(database.query(NAME, "SELECT COUNT(*) FROM crypto_metrics")[0])
    if stored != QUOTES:
        fail(f"{database.title}: {stored} of {QUOTES} quotes are stored")


def latency(database, servers):
    """Percentiles in seconds from a quote's event to its row, at a steady rate."""
    fresh(database)
    topic = f"bench-latency-{time.time_ns()}"
    run([binary("quote_stream"), "fill", servers, topic, 0])
    consumer = subprocess.Popen([binary("coinetl"), "consume", "--quiet", "--database-url", database.url(NAME)],
                                cwd=WORK, env={**os.environ, **settings(servers, topic)})
    try:
        time.sleep(5)
        return json.loads(run([binary("quote_stream"), "latency", servers, topic, RATE, SECONDS, database.url(NAME)])[0])
    finally:
        consumer.terminate()
        if consumer.wait() != 0:
            fail(f"{database.title}: the consumer ended with {consumer.returncode}")


def measure(databases, rounds):
    servers, started = kafka()
    try:
        topic = f"bench-quotes-{time.time_ns()}"
        run([binary("quote_stream"), "fill", servers, topic, QUOTES])
        rows, raw = [], []
        for _ in range(rounds):
            settle()
            raw.append(float(run([binary("quote_stream"), "read", servers, topic, QUOTES])[0]))
        rows.append(Row("reading the topic with librdkafka and nothing else", "", f"{rate(raw)}: {spread(raw)}"))
        for database in databases:
            rows += measure_one(database, servers, topic, rounds)
        return FACTS, rows
    finally:
        if started:
            run([REPO / "scripts/services", "down", "kafka"])


def measure_one(database, servers, topic, rounds):
    mine, without, peers, peaks = [], [], [], []
    for turn in range(rounds):
        seconds, mib = ours(database, servers, topic)
        mine.append(seconds)
        peaks.append(mib)
        without.append(plain(database, servers, topic))
        if database.title == "PostgreSQL":
            peers.append(quix(database, servers, topic))
        say(f"{database.title}, round {turn + 1}: {seconds:.1f} s, plain {without[-1]:.1f} s, {mib:.0f} MiB")
    name, target = database.title, TARGETS.get(database.title)
    met = None if target is None else QUOTES / median(mine) >= target
    rows = [Row(f"{name}: rows, extremes, windows of {QUOTES:,} quotes", f"{rate(mine)}: {spread(mine)}",
                target="" if target is None else f"≥ {target:,} a second", met=met)]
    cost = median(mine) / median(without) - 1
    rows.append(Row(f"{name}: the same without offsets, fence and running state", rate(mine),
                    f"{rate(without)}: {spread(without)}", median(mine) / median(without), "≤ 1.15 ×",
                    cost <= EXACTLY_ONCE))
    if peers:
        rows.append(Row(f"{name}: Quix Streams, rows alone, at least once", rate(mine),
                        f"{rate(peers)}: {spread(peers)}", median(peers) / median(mine)))
    rows.append(Row(f"{name}: peak memory", f"{max(peaks):.0f} MiB", target=f"≤ {MEMORY} MiB",
                    met=max(peaks) <= MEMORY))
    ages = latency(database, servers)
    rows.append(Row(f"{name}: from event to row, {RATE:,} quotes a second for {SECONDS} s",
                    f"p50 {seconds_text(ages['p50'])}, p99 {seconds_text(ages['p99'])}", target="p99 < 1 s",
                    met=ages["p99"] < LATENCY))
    return rows


def rate(seconds):
    return f"{QUOTES / median(seconds):,.0f} a second"


FACTS = """\
Three partitions, thirty pairs, events of 219 bytes; Kafka, the database and the consumer on the same two cores. Seconds are
those of the whole command, from its start to its end: joining the group is part of it. "Without" is the same reading,
parsing, rows and windows by the same code in two threads, without group, fence, offsets and stored extremes.
Quix Streams writes the rows alone, by COPY in transactions of 20,000, keeps its extremes in the process and commits to Kafka
afterwards: whoever kills it has rows twice."""
