"""The Python peer of `import`, as it is usually written: read_csv, rename, to_sql."""

import json
import sys
import time

import pandas
from sqlalchemy import create_engine, text


def main():
    file, url = sys.argv[1:]
    engine = create_engine(url)
    started = time.perf_counter()
    frame = pandas.read_csv(file)
    names = frame["Name"].drop_duplicates()
    now = "2026-01-01 00:00:00.000"
    ids = {name: number for number, name in enumerate(names, 1)}
    coins = [{"i": number, "n": name, "t": now} for name, number in ids.items()]
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO assets VALUES (:i, 'pandas', :n, '', :n, TRUE, :t, :t)"), coins)
    days = pandas.to_datetime(frame["Date"]).dt.normalize()
    as_text = engine.dialect.name == "sqlite"
    candles = pandas.DataFrame({
        "asset_id": frame["Name"].map(ids),
        "vs_currency": "usd",
        "timeframe": "1d",
        "open_time": days.dt.strftime("%Y-%m-%d 00:00:00.000") if as_text else days,
        "open": frame["Open"],
        "high": frame["High"],
        "low": frame["Low"],
        "close": frame["Close"],
        "volume": frame["Volume"],
        "market_cap": frame["Marketcap"],
        "origin": "archive",
        "final": True,
        "run_id": 1,
    })
    candles.to_sql("candles", engine, if_exists="append", index=False, chunksize=10_000)
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": len(candles), "rows_per_second": len(candles) / seconds}))


main()
