-- Text must compare byte by byte, trailing spaces included. utf8mb4_bin pads ('' = ' '), so each
-- server gets its own collation without padding: MySQL reads /*!80017 … */, MariaDB skips that
-- range of versions and reads /*M! … */.
--
-- MySQL commits after each statement of a migration. IF NOT EXISTS lets db-setup go on where it
-- was killed.

CREATE TABLE IF NOT EXISTS runs (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    command VARCHAR(64) NOT NULL,
    source VARCHAR(64) NOT NULL,
    started_at DATETIME(3) NOT NULL,
    finished_at DATETIME(3),
    status VARCHAR(64) NOT NULL CHECK (status IN ('running', 'ok', 'partial', 'failed')),
    calls BIGINT NOT NULL DEFAULT 0,
    credits BIGINT NOT NULL DEFAULT 0,
    rows_read BIGINT NOT NULL DEFAULT 0,
    rows_written BIGINT NOT NULL DEFAULT 0,
    rows_updated BIGINT NOT NULL DEFAULT 0,
    rows_unchanged BIGINT NOT NULL DEFAULT 0,
    rows_rejected BIGINT NOT NULL DEFAULT 0,
    rows_absent BIGINT NOT NULL DEFAULT 0,
    error TEXT,
    INDEX runs_by_start (started_at),
    INDEX runs_by_command (command, source, status)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

CREATE TABLE IF NOT EXISTS assets (
    id BIGINT NOT NULL PRIMARY KEY,
    source VARCHAR(64) NOT NULL,
    source_id VARCHAR(255) NOT NULL,
    symbol TEXT NOT NULL,
    name TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    first_seen_at DATETIME(3) NOT NULL,
    updated_at DATETIME(3) NOT NULL,
    CONSTRAINT assets_by_source_id UNIQUE (source, source_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- prices.run_id names a run but does not reference it: the check of a key that every row of a
-- batch shares takes a third of the time of storing it, and old runs may be cleared away.
CREATE TABLE IF NOT EXISTS prices (
    asset_id BIGINT NOT NULL,
    vs_currency VARCHAR(64) NOT NULL,
    observed_at DATETIME(3) NOT NULL,
    price DOUBLE,
    volume_24h DOUBLE,
    base_volume_24h DOUBLE,
    market_cap DOUBLE,
    circulating_supply DOUBLE,
    total_supply DOUBLE,
    market_cap_rank INTEGER,
    change_1h DOUBLE,
    change_24h DOUBLE,
    change_7d DOUBLE,
    change_30d DOUBLE,
    run_id BIGINT NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, observed_at),
    CONSTRAINT prices_asset FOREIGN KEY (asset_id) REFERENCES assets (id),
    INDEX prices_by_time (observed_at),
    INDEX prices_by_run (run_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- digest finds a rejected record that is kept already; records of streams have an offset instead.
CREATE TABLE IF NOT EXISTS dead_letters (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    run_id BIGINT,
    source VARCHAR(64) NOT NULL,
    topic VARCHAR(255) NOT NULL,
    partition_id INTEGER,
    offset_id BIGINT,
    payload MEDIUMTEXT NOT NULL,
    error TEXT NOT NULL,
    digest VARCHAR(64),
    received_at DATETIME(3) NOT NULL,
    CONSTRAINT dead_letters_by_offset UNIQUE (topic, partition_id, offset_id),
    CONSTRAINT dead_letters_run FOREIGN KEY (run_id) REFERENCES runs (id),
    INDEX dead_letters_by_run (run_id),
    INDEX dead_letters_by_digest (digest),
    INDEX dead_letters_by_source (source, received_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- One running owner of each command and source; times in microseconds since 1970 by the
-- database's clock.
CREATE TABLE IF NOT EXISTS leases (
    command VARCHAR(64) NOT NULL,
    source VARCHAR(64) NOT NULL,
    token VARCHAR(64) NOT NULL,
    run_id BIGINT,
    heartbeat_us BIGINT NOT NULL,
    PRIMARY KEY (command, source)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- The newest slot given out for a call to each API.
CREATE TABLE IF NOT EXISTS call_slots (
    api VARCHAR(255) NOT NULL PRIMARY KEY,
    last_call_us BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Coins that their source lists but had no price for when it was asked by id.
CREATE TABLE IF NOT EXISTS absences (
    asset_id BIGINT NOT NULL,
    vs_currency VARCHAR(64) NOT NULL,
    asked_us BIGINT NOT NULL,
    PRIMARY KEY (asset_id, vs_currency),
    CONSTRAINT absences_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- The newest price of each coin and currency. The recursion walks from currency to currency of a
-- coin by the primary key, and ORDER BY … LIMIT 1 takes the end of its history: a few index
-- lookups for each coin, however long the history is.
CREATE OR REPLACE VIEW latest_prices AS
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
CREATE OR REPLACE VIEW cap_top_10 AS
SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active, position
FROM (
    SELECT l.*, ROW_NUMBER() OVER (PARTITION BY l.source, l.vs_currency
                                   ORDER BY l.market_cap DESC, l.asset_id) AS position
    FROM latest_prices l
    WHERE l.active = TRUE AND l.market_cap IS NOT NULL
) ranked
WHERE position <= 10;

-- The ten largest 24 hour volumes of each source and currency, among active coins.
CREATE OR REPLACE VIEW vol_top_10 AS
SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active, position
FROM (
    SELECT l.*, ROW_NUMBER() OVER (PARTITION BY l.source, l.vs_currency
                                   ORDER BY l.volume_24h DESC, l.asset_id) AS position
    FROM latest_prices l
    WHERE l.active = TRUE AND l.volume_24h IS NOT NULL
) ranked
WHERE position <= 10;
