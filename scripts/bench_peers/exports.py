"""All prices of a SQLite file into one Parquet file: coinetl, and DuckDB doing the same."""

import json
import os
import shutil
from pathlib import Path

from databases import NAME
from report import Row
from tools import HERE, WORK, binary, fail, median, peak_memory, python_peer, run, say, settle, spread

COINS = 17_858
# Another number for a quick look: COINETL_BENCH_ROWS=1000000 scripts/bench export
ROWS = int(os.environ.get("COINETL_BENCH_ROWS", 10_000_000))
GROUP = 5 * COINS
MOST_MIB = {"parquet": 128, "csv": 64}
MOST_SIZE = 1.10
THREADS = 2


def measure(databases, rounds):
    database = next((one for one in databases if one.title == "SQLite"), None)
    if database is None:
        fail("the export is measured on SQLite")
    database.drop(NAME)
    run([binary("price_sink"), "prepare", database.url(NAME), COINS])
    run([binary("price_sink"), "store", database.url(NAME), GROUP, COINS, ROWS, 1])
    out = WORK / "export"
    ours, peer, memory = {"parquet": [], "csv": []}, [], {"parquet": 0, "csv": 0}
    sizes, peer_size = {}, 0
    # The first round of each side warms what is read.
    for turn in range(-1, rounds):
        for form in ours:
            shutil.rmtree(out, ignore_errors=True)
            settle()
            command = [binary("coinetl"), "export", "prices", "--format", form, "--out", out, "--output", "json"]
            told, seconds, mib = peak_memory([*command, "--database-url", database.url(NAME)])
            result = json.loads(told)
            if result["rows_read"] != ROWS:
                fail(f"{result['rows_read']} rows were exported, and {ROWS} are there")
            sizes[form], memory[form] = result["files"][0]["bytes"], max(memory[form], mib)
            if turn >= 0:
                ours[form].append(seconds)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        settle()
        file = out / "duckdb.parquet"
        told, _ = run([python_peer(), HERE / "duckdb_export.py", path_of(database), file, THREADS])
        peer_size = file.stat().st_size
        if turn >= 0:
            # Without Python's start and its imports.
            peer.append(json.loads(told)["seconds"])
            say(f"{turn + 1}/{rounds}: coinetl {ours['parquet'][-1]:.2f} s, DuckDB {peer[-1]:.2f} s")
    shutil.rmtree(out, ignore_errors=True)
    database.drop(NAME)
    ratio = median(peer) / median(ours["parquet"])
    larger = sizes["parquet"] / peer_size
    rows = [
        Row(f"{ROWS:,} prices from SQLite to Parquet", spread(ours["parquet"]), f"{spread(peer)} DuckDB", ratio, "≥ 1 ×",
            ratio >= 1),
        Row("size of the Parquet file", mib_text(sizes["parquet"]), f"{mib_text(peer_size)} DuckDB", 1 / larger,
            f"≤ {MOST_SIZE - 1:.0%} larger", larger <= MOST_SIZE),
        Row("memory at its peak, Parquet", f"{memory['parquet']:.0f} MiB", target=f"≤ {MOST_MIB['parquet']} MiB",
            met=memory["parquet"] <= MOST_MIB["parquet"]),
        Row(f"{ROWS:,} prices from SQLite to CSV", spread(ours["csv"])),
        Row("size of the CSV file", mib_text(sizes["csv"])),
        Row("memory at its peak, CSV", f"{memory['csv']:.0f} MiB", target=f"≤ {MOST_MIB['csv']} MiB",
            met=memory["csv"] <= MOST_MIB["csv"]),
    ]
    return FACTS, rows


def path_of(database):
    return Path(database.url(NAME).removeprefix("sqlite://"))


def mib_text(size):
    return f"{size / 2**20:.0f} MiB"


FACTS = f"""\
{ROWS:,} prices of {COINS:,} coins in one SQLite file, stored by the price sink. coinetl: the wall time of
`coinetl export prices`, with its run, the checksum and the flush to the disk. DuckDB (from PyPI, {THREADS} threads): `COPY … TO … (FORMAT
parquet, COMPRESSION zstd)` over its SQLite scanner, the same columns, without the start of Python; its rows are not
sorted by name, and nothing is flushed. Runs interleaved; median (fastest … slowest); the ratio is the peer's time
(or size) ÷ ours."""
