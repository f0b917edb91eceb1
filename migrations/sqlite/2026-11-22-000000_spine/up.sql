-- Times are text of fixed width, so that they sort and compare as they are.
-- prices has no rowid: a coin's history lies together, and the key is stored once.

CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    command TEXT NOT NULL,
    source TEXT NOT NULL,
    started_at TEXT NOT NULL,
    finished_at TEXT,
    status TEXT NOT NULL CHECK (status IN ('running', 'ok', 'partial', 'failed')),
    calls INTEGER NOT NULL DEFAULT 0,
    credits INTEGER NOT NULL DEFAULT 0,
    rows_read INTEGER NOT NULL DEFAULT 0,
    rows_written INTEGER NOT NULL DEFAULT 0,
    rows_updated INTEGER NOT NULL DEFAULT 0,
    rows_unchanged INTEGER NOT NULL DEFAULT 0,
    rows_rejected INTEGER NOT NULL DEFAULT 0,
    rows_absent INTEGER NOT NULL DEFAULT 0,
    error TEXT
);
CREATE INDEX runs_by_start ON runs (started_at);
CREATE INDEX runs_by_command ON runs (command, source, status);

CREATE TABLE assets (
    id INTEGER PRIMARY KEY NOT NULL,
    source TEXT NOT NULL,
    source_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    name TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    first_seen_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    CONSTRAINT assets_by_source_id UNIQUE (source, source_id)
);

-- prices.run_id names a run but does not reference it: the check of a key that every row of a
-- batch shares takes a third of the time of storing it, and old runs may be cleared away.
CREATE TABLE prices (
    asset_id INTEGER NOT NULL,
    vs_currency TEXT NOT NULL,
    observed_at TEXT NOT NULL,
    price REAL,
    volume_24h REAL,
    base_volume_24h REAL,
    market_cap REAL,
    circulating_supply REAL,
    total_supply REAL,
    market_cap_rank INTEGER,
    change_1h REAL,
    change_24h REAL,
    change_7d REAL,
    change_30d REAL,
    run_id INTEGER NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, observed_at),
    CONSTRAINT prices_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
) WITHOUT ROWID;
CREATE INDEX prices_by_time ON prices (observed_at);
CREATE INDEX prices_by_run ON prices (run_id);

-- digest finds a rejected record that is kept already; records of streams have an offset instead.
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    run_id INTEGER,
    source TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition_id INTEGER,
    offset_id INTEGER,
    payload TEXT NOT NULL,
    error TEXT NOT NULL,
    digest TEXT,
    received_at TEXT NOT NULL,
    CONSTRAINT dead_letters_by_offset UNIQUE (topic, partition_id, offset_id),
    CONSTRAINT dead_letters_run FOREIGN KEY (run_id) REFERENCES runs (id)
);
CREATE INDEX dead_letters_by_run ON dead_letters (run_id);
CREATE INDEX dead_letters_by_digest ON dead_letters (digest);
CREATE INDEX dead_letters_by_source ON dead_letters (source, received_at);

-- One running owner of each command and source; times in microseconds since 1970 by the
-- database's clock.
CREATE TABLE leases (
    command TEXT NOT NULL,
    source TEXT NOT NULL,
    token TEXT NOT NULL,
    run_id INTEGER,
    heartbeat_us INTEGER NOT NULL,
    PRIMARY KEY (command, source)
) WITHOUT ROWID;

-- The newest slot given out for a call to each API.
CREATE TABLE call_slots (
    api TEXT NOT NULL PRIMARY KEY,
    last_call_us INTEGER NOT NULL
) WITHOUT ROWID;

-- Coins that their source lists but had no price for when it was asked by id.
CREATE TABLE absences (
    asset_id INTEGER NOT NULL,
    vs_currency TEXT NOT NULL,
    asked_us INTEGER NOT NULL,
    PRIMARY KEY (asset_id, vs_currency),
    CONSTRAINT absences_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
) WITHOUT ROWID;

-- The newest price of each coin and currency. The recursion walks from currency to currency of a
-- coin by the primary key, and ORDER BY … LIMIT 1 takes the end of its history: a few index
-- lookups for each coin, however long the history is.
CREATE VIEW latest_prices AS
WITH RECURSIVE held (asset_id, vs_currency) AS (
    SELECT a.id, (SELECT q.vs_currency FROM prices q WHERE q.asset_id = a.id
                  ORDER BY q.vs_currency LIMIT 1)
    FROM assets a
    UNION ALL
    SELECT h.asset_id, (SELECT q.vs_currency FROM prices q
                        WHERE q.asset_id = h.asset_id AND q.vs_currency > h.vs_currency
                        ORDER BY q.vs_currency LIMIT 1)
    FROM held h
    WHERE h.vs_currency IS NOT NULL
)
SELECT p.asset_id, p.vs_currency, p.observed_at, p.price, p.volume_24h, p.base_volume_24h, p.market_cap, p.circulating_supply, p.total_supply, p.market_cap_rank, p.change_1h, p.change_24h, p.change_7d, p.change_30d, p.run_id,
       a.source, a.source_id, a.symbol, a.name, a.active
FROM held h
JOIN assets a ON a.id = h.asset_id
JOIN prices p ON p.asset_id = h.asset_id AND p.vs_currency = h.vs_currency
    AND p.observed_at = (SELECT q.observed_at FROM prices q
                         WHERE q.asset_id = h.asset_id AND q.vs_currency = h.vs_currency
                         ORDER BY q.observed_at DESC LIMIT 1)
WHERE h.vs_currency IS NOT NULL;

-- The ten largest market caps of each source and currency, among active coins.
CREATE VIEW cap_top_10 AS
SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active, position
FROM (
    SELECT l.*, ROW_NUMBER() OVER (PARTITION BY l.source, l.vs_currency
                                   ORDER BY l.market_cap DESC, l.asset_id) AS position
    FROM latest_prices l
    WHERE l.active = TRUE AND l.market_cap IS NOT NULL
) ranked
WHERE position <= 10;

-- The ten largest 24 hour volumes of each source and currency, among active coins.
CREATE VIEW vol_top_10 AS
SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active, position
FROM (
    SELECT l.*, ROW_NUMBER() OVER (PARTITION BY l.source, l.vs_currency
                                   ORDER BY l.volume_24h DESC, l.asset_id) AS position
    FROM latest_prices l
    WHERE l.active = TRUE AND l.volume_24h IS NOT NULL
) ranked
WHERE position <= 10;
