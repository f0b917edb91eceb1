"""What a user would write with Quix Streams: quotes from a topic, mid, spread and running extremes, rows
into PostgreSQL by COPY. At least once: rows first, Kafka's offsets afterwards; extremes in the process.

Usage: quix_consumer.py SERVERS TOPIC QUOTES CONNINFO. Prints the seconds from start to the last row.
"""

import sys
import time
from datetime import datetime
from decimal import Decimal

import psycopg
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

servers, topic_name, wanted, conninfo = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
started = time.perf_counter()
extremes = {}


def worked_out(event):
    bid, ask = Decimal(event["bid"]), Decimal(event["ask"])
    spread = ask - bid
    key = event["source"], event["pair"]
    high, low, widest = extremes.get(key, (bid, ask, spread))
    extremes[key] = high, low, widest = max(high, bid), min(low, ask), max(widest, spread)
    at = datetime.fromisoformat(event["observed_at"]).replace(tzinfo=None)
    numbers = (bid, ask, (bid + ask) / 2, spread, high, low, widest)
    return (event["source"], event["pair"], event["sequence"], at, *map(float, numbers), f"{at:%Y-%m-%d}")


class Postgres(BatchingSink):
    def __init__(self):
        super().__init__()
        self.rows = 0

    def setup(self):
        self.conn = psycopg.connect(conninfo)

    def write(self, batch: SinkBatch):
        with self.conn.transaction(), self.conn.cursor() as cursor:
            with cursor.copy("COPY crypto_metrics FROM STDIN") as copy:
                for item in batch:
                    copy.write_row(item.value)
        self.rows += batch.size
        if self.rows >= wanted:
            print(time.perf_counter() - started, flush=True)
            application.stop()


application = Application(
    broker_address=servers,
    consumer_group=f"quix-{time.time_ns()}",
    auto_offset_reset="earliest",
    commit_every=20_000,
    commit_interval=5.0,
    loglevel="WARNING",
    request_timeout=30,
)
stream = application.dataframe(application.topic(topic_name, value_deserializer="json"))
stream.apply(worked_out).sink(Postgres())
application.run()
