"""The Python peer as it is usually written: a call after the other, each row merged by the ORM."""

import json
import sys
import time

from sqlalchemy import MetaData, create_engine, select
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session

from client import PAGE, SOURCE, Api, figures, now, observed


def main():
    address, url = sys.argv[1:]
    started = time.perf_counter()
    api, engine, tables = Api(address), create_engine(url), MetaData()
    tables.reflect(engine, only=["assets", "prices"])
    base = automap_base(metadata=tables)
    base.prepare()
    asset, price = base.classes.assets, base.classes.prices

    coins, today = api.coins(), now(as_text=True)
    with Session(engine) as session:
        for number, coin in enumerate(coins, 1):
            found = session.scalar(select(asset).where(asset.source == SOURCE, asset.source_id == coin["id"]))
            session.merge(
                asset(
                    id=found.id if found else number,
                    source=SOURCE,
                    source_id=coin["id"],
                    symbol=coin["symbol"] or "",
                    name=coin["name"] or "",
                    active=True,
                    first_seen_at=found.first_seen_at if found else today,
                    updated_at=today,
                )
            )
        session.commit()

    for number in range(1, -(-len(coins) // PAGE) + 1):
        # A commit for each page, as for each call.
        with Session(engine) as session:
            for record in api.page(number):
                found = session.scalar(
                    select(asset).where(asset.source == SOURCE, asset.source_id == record["id"])
                )
                if found is None:
                    continue
                session.merge(
                    price(
                        asset_id=found.id,
                        vs_currency="usd",
                        observed_at=observed(record, today, as_text=True),
                        run_id=1,
                        **figures(record),
                    )
                )
            session.commit()
    print(json.dumps({"seconds": time.perf_counter() - started}))


main()
