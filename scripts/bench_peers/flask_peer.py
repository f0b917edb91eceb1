"""What a user would write instead: `/dashboard` with Flask and SQLAlchemy over the same tables.

Run by gunicorn. PEER_CACHE=1 adds Flask-Caching in each process, keyed by the whole query, as its
documentation shows it.
"""

import datetime
import os

import flask
import sqlalchemy as sa
from flask_caching import Cache

SOURCE = os.environ["PEER_SOURCE"]
engine = sa.create_engine(os.environ["PEER_DATABASE"], pool_size=4)
tables = sa.MetaData()
assets = sa.Table("assets", tables, autoload_with=engine)
candles = sa.Table("candles", tables, autoload_with=engine)
prices = sa.Table("prices", tables, autoload_with=engine)
engine.dispose()

app = flask.Flask(__name__)
app.json.sort_keys = False
cache = Cache(app, config={"CACHE_NO_NULL_WARNING": True, "CACHE_TYPE": "SimpleCache" if os.environ.get("PEER_CACHE") else "NullCache",
                           "CACHE_DEFAULT_TIMEOUT": 3600})
DAY = datetime.timedelta(days=1)
ORDERS = {"crypto": "crypto", "price": "price", "24h": "24h", "7d": "7d", "1m": "1m", "24h-volume": "24h-volume",
          "market_cap": "market_cap"}


def newest_day(connection):
    moment = connection.execute(sa.select(sa.func.max(candles.c.open_time))).scalar()
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def chosen(connection, wanted):
    """The assets that are asked for: all, or by symbol or name without regard to case, the best ranked first."""
    query = sa.select(assets.c.id, assets.c.source_id, assets.c.symbol, assets.c.name).where(assets.c.source == SOURCE)
    if wanted == "all":
        return {row.id: row for row in connection.execute(query.where(assets.c.active))}
    names = [name.strip().lower() for name in wanted.split(",")]
    query = query.where(sa.or_(sa.func.lower(assets.c.symbol).in_(names), sa.func.lower(assets.c.name).in_(names)))
    found = list(connection.execute(query))
    ranks = dict(connection.execute(
        sa.select(prices.c.asset_id, sa.func.min(prices.c.market_cap_rank))
        .where(prices.c.asset_id.in_([row.id for row in found])).group_by(prices.c.asset_id)).all())
    best = {}
    for row in found:
        for name in names:
            if name in (row.symbol.lower(), row.name.lower()):
                rank = ranks.get(row.id) or 10**9
                if name not in best or rank < best[name][0]:
                    best[name] = (rank, row)
    return {row.id: row for _, row in best.values()}


def percent(now, before):
    return None if now is None or not before else (now - before) / before * 100


@app.get("/dashboard")
@cache.cached(query_string=True)
def dashboard():
    args = flask.request.args
    with engine.connect() as connection:
        date = args.get("date")
        day = datetime.datetime.strptime(date, "%Y-%m-%d") if date else newest_day(connection)
        coins = chosen(connection, args.get("id", "all"))
        days = [day - back * DAY for back in (0, 1, 7, 30)]
        closes = {moment: {} for moment in days}
        caps = {}
        query = sa.select(candles.c.asset_id, candles.c.open_time, candles.c.close, candles.c.market_cap).where(
            candles.c.open_time.in_(days), candles.c.timeframe == "1d", candles.c.vs_currency == "usd")
        told = sa.select(prices.c.asset_id, prices.c.price, prices.c.volume_24h, prices.c.market_cap).where(
            prices.c.observed_at >= day, prices.c.observed_at < day + DAY, prices.c.vs_currency == "usd")
        if len(coins) < 1000:
            query = query.where(candles.c.asset_id.in_(list(coins)))
            told = told.where(prices.c.asset_id.in_(list(coins)))
        for asset_id, moment, close, cap in connection.execute(query):
            closes[moment][asset_id] = close
            if moment == day:
                caps[asset_id] = cap
        last = {asset_id: (price, volume, cap)
                for asset_id, price, volume, cap in connection.execute(told.order_by(prices.c.observed_at))}
    rows = []
    for asset_id, coin in coins.items():
        price, volume, cap = last.get(asset_id, (None, None, None))
        now = closes[day].get(asset_id, price)
        if now is None:
            continue
        rows.append({
            "crypto": coin.name, "symbol": coin.symbol.upper(), "source": SOURCE, "id": coin.source_id, "price": now,
            "24h": percent(now, closes[days[1]].get(asset_id)), "7d": percent(now, closes[days[2]].get(asset_id)),
            "1m": percent(now, closes[days[3]].get(asset_id)), "24h-volume": volume,
            "market_cap": cap if cap is not None else caps.get(asset_id), "as_of": day.isoformat() + "Z",
        })
    key = ORDERS[args.get("order_by", "crypto")]
    rows.sort(key=lambda row: (row[key] is not None, row[key]), reverse=args.get("order_type", "desc") == "desc")
    return flask.jsonify(rows) if rows else ("", 204)
