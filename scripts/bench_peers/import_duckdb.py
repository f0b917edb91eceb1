"""DuckDB's own reader of CSV into a table with the key of ours."""

import json
import sys
import time

import duckdb


def main():
    file, target = sys.argv[1:]
    started = time.perf_counter()
    connection = duckdb.connect(target)
    connection.execute(
        "CREATE TABLE candles (coin TEXT NOT NULL, vs_currency TEXT NOT NULL, timeframe TEXT NOT NULL, "
        "open_time TIMESTAMP NOT NULL, open DOUBLE NOT NULL, high DOUBLE NOT NULL, low DOUBLE NOT NULL, close DOUBLE NOT NULL, "
        "volume DOUBLE, market_cap DOUBLE, origin TEXT NOT NULL, final BOOLEAN NOT NULL, "
        "PRIMARY KEY (coin, vs_currency, timeframe, open_time))"
    )
    connection.execute(
        "INSERT INTO candles SELECT Name, 'usd', '1d', date_trunc('day', Date), Open, High, Low, Close, Volume, Marketcap, "
        "'archive', TRUE FROM read_csv(?)",
        [file],
    )
    rows = connection.execute("SELECT COUNT(*) FROM candles").fetchone()[0]
    connection.close()
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - started}))


main()
