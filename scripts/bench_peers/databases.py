"""The three databases: making and dropping one, its own loader, its own client."""

import subprocess

from tools import REPO, WORK, fail, run, say

NAME = "bench_coinetl"
KEY = "asset_id, vs_currency, observed_at"
FIGURES = (
    "price volume_24h base_volume_24h market_cap circulating_supply total_supply market_cap_rank "
    "change_1h change_24h change_7d change_30d"
).split()


def replace_all():
    """The peer's update in an upsert: all columns, without looking whether they differ."""
    return ", ".join(f"{name} = excluded.{name}" for name in [*FIGURES, "run_id"])


class Sqlite:
    title = "SQLite"
    null = ""
    loader = ".import"
    merger = ".import into a temporary table, INSERT … ON CONFLICT DO UPDATE"
    before_series = ""
    whole_read = ("SELECT {columns} FROM {table}",)

    def numbers(self, count):
        return f"WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count} - 1)"

    def moment(self, seconds):
        return f"strftime('%Y-%m-%d %H:%M:%S.000', unixepoch('2026-03-01') + {seconds}, 'unixepoch')"

    def text(self, number):
        return f"'coin-' || {number}"

    def url(self, name):
        return f"sqlite://{self.file(name)}"

    def sqlalchemy_url(self, name):
        return f"sqlite:///{self.file(name)}"

    def file(self, name):
        return WORK / "data" / f"{name}.db"

    def drop(self, name):
        for tail in ("", "-wal", "-shm"):
            self.file(name).with_name(f"{name}.db{tail}").unlink(missing_ok=True)

    def prepare_server(self):
        pass

    def load(self, name, file):
        return run(["sqlite3", "-bail", self.file(name), ".mode tabs", f".import '{file}' prices"])[1]

    def merge(self, name, file):
        # The temporary table is a file of its own without a log: the shell's default.
        return run(
            ["sqlite3", "-bail", self.file(name)]
            + ["CREATE TEMP TABLE stage AS SELECT * FROM prices LIMIT 0", ".mode tabs", f".import '{file}' stage"]
            + [f"INSERT INTO prices SELECT * FROM stage WHERE TRUE ON CONFLICT ({KEY}) DO UPDATE SET {replace_all()}"]
        )[1]

    def query(self, name, sql, discard=False):
        return run(["sqlite3", "-bail", self.file(name), sql], discard=discard)

    def version(self):
        return "SQLite shell " + run(["sqlite3", "--version"])[0].split()[0]


class Server:
    def __init__(self, address):
        self.address = address
        self.port = address.rsplit(":", 1)[1]

    def url(self, name):
        return f"{self.address}/{name}"


class MariaDb(Server):
    title = "MariaDB"
    null = "\\N"
    loader = "LOAD DATA LOCAL INFILE"
    merger = "LOAD DATA LOCAL INFILE … REPLACE"
    before_series = "SET max_recursive_iterations = 100000000; "
    whole_read = ("SELECT {columns} FROM {table}",)

    def numbers(self, count):
        return f"WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count} - 1)"

    def moment(self, seconds):
        return f"TIMESTAMPADD(SECOND, {seconds}, '2026-03-01')"

    def text(self, number):
        return f"CONCAT('coin-', {number})"

    def client(self, *more):
        return ["mariadb", "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={self.port}"] + [
            "--user=root",
            "--local-infile=1",
            "--batch",
            "--skip-column-names",
            *more,
        ]

    def sqlalchemy_url(self, name):
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}?charset=utf8mb4"

    def drop(self, name):
        run(self.client("--execute", f"DROP DATABASE IF EXISTS {name}"))

    def prepare_server(self):
        pass

    def load(self, name, file, how=""):
        text = f"LOAD DATA LOCAL INFILE '{file}' {how} INTO TABLE prices CHARACTER SET utf8mb4"
        return run(self.client(name, "--execute", text))[1]

    def merge(self, name, file):
        return self.load(name, file, "REPLACE")

    def query(self, name, sql, discard=False):
        return run(self.client(name, "--quick", "--execute", sql), discard=discard)

    def version(self):
        return run(self.client("--execute", "SELECT VERSION()"))[0].strip()


class Postgres(Server):
    title = "PostgreSQL"
    null = "\\N"
    loader = "\\copy"
    merger = "\\copy into a temporary table, INSERT … ON CONFLICT DO UPDATE"
    before_series = ""
    whole_read = (
        "COPY (SELECT {columns} FROM {table}) TO STDOUT",
        "COPY (SELECT {columns} FROM {table}) TO STDOUT (FORMAT binary)",
    )

    def numbers(self, count):
        return f"WITH numbers (n) AS (SELECT * FROM generate_series(0, {count} - 1))"

    def moment(self, seconds):
        return f"TIMESTAMP '2026-03-01' + ({seconds}) * INTERVAL '1 second'"

    def text(self, number):
        return f"'coin-' || {number}"

    def client(self, name, *more):
        return ["psql", "--no-psqlrc", "--quiet", "--no-password", "--host=127.0.0.1", f"--port={self.port}"] + [
            "--username=postgres",
            f"--dbname={name}",
            "--set=ON_ERROR_STOP=1",
            "--tuples-only",
            *more,
        ]

    def sqlalchemy_url(self, name):
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def drop(self, name):
        run(self.client("postgres", "--command", f"DROP DATABASE IF EXISTS {name}"))

    def prepare_server(self):
        # What the step before left to the checkpointer would be paid for by the next one.
        run(self.client("postgres", "--command", "CHECKPOINT"))

    def load(self, name, file):
        return run(self.client(name, "--command", f"\\copy prices from '{file}'"))[1]

    def merge(self, name, file):
        return run(
            self.client(name, "--single-transaction")
            + ["--command", "CREATE TEMPORARY TABLE stage (LIKE prices)"]
            + ["--command", f"\\copy stage from '{file}'"]
            + ["--command"]
            + [f"INSERT INTO prices SELECT * FROM stage ON CONFLICT ({KEY}) DO UPDATE SET {replace_all()}"]
        )[1]

    def query(self, name, sql, discard=False):
        return run(self.client(name, "--command", sql), discard=discard)

    def version(self):
        return "PostgreSQL " + run(self.client("postgres", "--command", "SHOW server_version"))[0].split()[0]


def start():
    """SQLite and both servers; and a function that stops what was started."""
    services = str(REPO / "scripts/services")
    started = []
    for service in ("mysql", "postgres"):
        if subprocess.run([services, "status", service], capture_output=True).returncode != 0:
            say(f"starting {service}")
            started.append(service)
            run([services, "up", service])

    def stop():
        for service in started:
            subprocess.run([services, "down", service])

    addresses = dict(
        line.removeprefix("export ").split("=", 1)
        for line in run([services, "env"])[0].splitlines()
        if "=" in line
    )
    urls = [addresses.get(f"COINETL_TEST_{name}_URL", "").strip("'") for name in ("MYSQL", "POSTGRES")]
    if not all(urls):
        stop()
        fail("scripts/services names no servers")
    return [Sqlite(), Postgres(urls[1]), MariaDb(urls[0])], stop
