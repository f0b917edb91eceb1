"""What both Python peers share: the API's addresses, its fields, its times."""

from datetime import datetime, timezone

import orjson
import requests

SOURCE = "sandbox-coingecko"
PAGE = 250
THREADS = 4
FIGURES = {
    "price": "current_price",
    "volume_24h": "total_volume",
    "market_cap": "market_cap",
    "circulating_supply": "circulating_supply",
    "total_supply": "total_supply",
    "market_cap_rank": "market_cap_rank",
    "change_1h": "price_change_percentage_1h_in_currency",
    "change_24h": "price_change_percentage_24h_in_currency",
    "change_7d": "price_change_percentage_7d_in_currency",
    "change_30d": "price_change_percentage_30d_in_currency",
}


class Api:
    def __init__(self, url):
        self.url = url
        self.session = requests.Session()
        self.session.headers["User-Agent"] = "coinetl-bench-peer/1.0"
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=THREADS))

    def get(self, path, **query):
        answer = self.session.get(f"{self.url}{path}", params=query, timeout=60)
        answer.raise_for_status()
        return orjson.loads(answer.content)

    def coins(self):
        return self.get("/coins/list")

    def page(self, number):
        return self.get(
            "/coins/markets",
            vs_currency="usd",
            order="id_asc",
            per_page=PAGE,
            page=number,
            price_change_percentage="1h,24h,7d,30d",
            precision="full",
            sparkline="false",
        )


def now(as_text):
    return stamp(datetime.now(timezone.utc).isoformat(), as_text)


def stamp(text, as_text):
    """UTC, cut to milliseconds; SQLite's schema holds times as text of fixed width."""
    moment = datetime.fromisoformat(text).astimezone(timezone.utc).replace(tzinfo=None)
    if as_text:
        return moment.isoformat(" ", "milliseconds")
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def observed(record, otherwise, as_text):
    """Some coins were never updated; they get the run's time."""
    return stamp(record["last_updated"], as_text) if record.get("last_updated") else otherwise


def figures(record):
    return {name: record.get(field) for name, field in FIGURES.items()}
