"""The Python peer as somebody who knows SQLAlchemy writes it: threads, one transaction, bulk upserts."""

import importlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import MetaData, create_engine, select

from client import PAGE, SOURCE, THREADS, Api, figures, now, observed


def upsert(connection, table, rows, keys):
    dialect = connection.dialect.name
    insert = importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
    changing = [name for name in rows[0] if name not in keys and name not in ("id", "first_seen_at")]
    if dialect == "mysql":
        insert = insert.on_duplicate_key_update({name: insert.inserted[name] for name in changing})
    else:
        insert = insert.on_conflict_do_update(
            index_elements=keys, set_={name: insert.excluded[name] for name in changing}
        )
    # Rows beside the statement let each driver's own bulk path work.
    connection.execute(insert, rows)


def main():
    address, url = sys.argv[1:]
    started = time.perf_counter()
    api, engine, tables = Api(address), create_engine(url), MetaData()
    tables.reflect(engine, only=["assets", "prices"])
    assets, prices = tables.tables["assets"], tables.tables["prices"]
    as_text = engine.dialect.name == "sqlite"

    coins, today = api.coins(), now(as_text)
    rows = [
        {
            "id": number,
            "source": SOURCE,
            "source_id": coin["id"],
            "symbol": coin["symbol"] or "",
            "name": coin["name"] or "",
            "active": True,
            "first_seen_at": today,
            "updated_at": today,
        }
        for number, coin in enumerate(coins, 1)
    ]
    with engine.begin() as connection:
        upsert(connection, assets, rows, ["source", "source_id"])
        ids = {key: number for key, number in connection.execute(select(assets.c.source_id, assets.c.id))}

    seen, rows = set(), []
    with ThreadPoolExecutor(THREADS) as pool:
        for records in pool.map(api.page, range(1, -(-len(coins) // PAGE) + 1)):
            for record in records:
                asset_id = ids.get(record["id"])
                if asset_id is None or asset_id in seen:
                    continue
                seen.add(asset_id)
                key = (asset_id, "usd", observed(record, today, as_text))
                rows.append(dict(zip(("asset_id", "vs_currency", "observed_at"), key), run_id=1, **figures(record)))
    with engine.begin() as connection:
        upsert(connection, prices, rows, ["asset_id", "vs_currency", "observed_at"])
    print(json.dumps({"seconds": time.perf_counter() - started}))


main()
