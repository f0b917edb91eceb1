#!/usr/bin/env python3
"""The same prices as `coinetl export`, by DuckDB: duckdb_export.py DATABASE FILE THREADS

Reads the SQLite file with DuckDB's own scanner and writes the columns of our files as Parquet with zstd.
"""

import json
import sys
import time

import duckdb
import duckdb_extensions

COLUMNS = ("price volume_24h base_volume_24h market_cap circulating_supply total_supply market_cap_rank "
           "change_1h change_24h change_7d change_30d").split()


def main():
    database, out, threads = sys.argv[1:]
    duckdb_extensions.import_extension("sqlite_scanner")
    connection = duckdb.connect(config={"threads": int(threads)})
    connection.execute("LOAD sqlite_scanner")
    started = time.perf_counter()
    figures = ", ".join(f"p.{name}" for name in COLUMNS)
    connection.execute(f"""
        COPY (
            SELECT a.source, a.source_id, a.symbol, p.vs_currency,
                   CAST(p.observed_at AS TIMESTAMP_MS) AS observed_at, {figures}
            FROM sqlite_scan('{database}', 'prices') p JOIN sqlite_scan('{database}', 'assets') a ON a.id = p.asset_id
        ) TO '{out}' (FORMAT parquet, COMPRESSION zstd)
    """)
    print(json.dumps({"seconds": time.perf_counter() - started}))


main()
