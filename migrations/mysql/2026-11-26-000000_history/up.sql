-- What a currency is worth: how much of it one US dollar buys, at the time the source tells.
CREATE TABLE IF NOT EXISTS fx_rates (
    source VARCHAR(64) NOT NULL,
    currency VARCHAR(64) NOT NULL,
    observed_at DATETIME(3) NOT NULL,
    per_usd DOUBLE NOT NULL,
    PRIMARY KEY (source, currency, observed_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Which intervals of a coin's candles were asked for, and what is known of them: half-open, without
-- overlap within a timeframe.
CREATE TABLE IF NOT EXISTS coverage (
    asset_id BIGINT NOT NULL,
    vs_currency VARCHAR(64) NOT NULL,
    timeframe VARCHAR(64) NOT NULL,
    from_time DATETIME(3) NOT NULL,
    to_time DATETIME(3) NOT NULL,
    state VARCHAR(64) NOT NULL CHECK (state IN ('full', 'empty', 'missing', 'unreachable')),
    reason TEXT,
    run_id BIGINT NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, timeframe, from_time),
    CONSTRAINT coverage_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Hours in which prices or candles of these coins (both ids included) changed since they were folded:
-- written with the rows, taken away with the candles.
CREATE TABLE IF NOT EXISTS rollup_pending (
    hour DATETIME(3) NOT NULL,
    vs_currency VARCHAR(64) NOT NULL,
    first_asset BIGINT NOT NULL,
    last_asset BIGINT NOT NULL,
    PRIMARY KEY (hour, vs_currency, first_asset, last_asset)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Timeframes that every rollup keeps up to date. While one is folded for the first time, or again,
-- `built_asset` is the last coin that is done; NULL when all are.
CREATE TABLE IF NOT EXISTS rollup_timeframes (
    timeframe VARCHAR(64) NOT NULL PRIMARY KEY,
    built_asset BIGINT
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Rolled up intervals that were not over when they were folded.
CREATE TABLE IF NOT EXISTS rollup_open (
    timeframe VARCHAR(64) NOT NULL,
    open_time DATETIME(3) NOT NULL,
    PRIMARY KEY (timeframe, open_time)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Observations of a source older than this are gone: what was folded of them can't be folded again.
CREATE TABLE IF NOT EXISTS pruned (
    source VARCHAR(64) NOT NULL PRIMARY KEY,
    before_time DATETIME(3) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- How far a file that is being imported was read: moved with its rows, taken away at its end.
CREATE TABLE IF NOT EXISTS import_positions (
    file VARCHAR(255) NOT NULL PRIMARY KEY,
    fingerprint VARCHAR(64) NOT NULL,
    position BIGINT NOT NULL,
    line BIGINT NOT NULL,
    updated_at DATETIME(3) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Which topic of that name the offsets are of: the id that the broker gave it; NULL where it gives none.
-- MySQL has no ADD COLUMN IF NOT EXISTS.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
                WHERE table_schema = DATABASE() AND table_name = 'stream_offsets' AND column_name = 'topic_id');
SET @make = IF(@missing, 'ALTER TABLE stream_offsets ADD COLUMN topic_id VARCHAR(64)', 'DO 0');
PREPARE make FROM @make;
EXECUTE make;
DEALLOCATE PREPARE make;

-- What a run changed, for those who send it on. MySQL has no CREATE INDEX IF NOT EXISTS.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.statistics
                WHERE table_schema = DATABASE() AND table_name = 'candles' AND index_name = 'candles_by_run');
SET @make = IF(@missing, 'CREATE INDEX candles_by_run ON candles (run_id)', 'DO 0');
PREPARE make FROM @make;
EXECUTE make;
DEALLOCATE PREPARE make;

-- One row for each coin, currency and UTC day: the close of the day's candle, and what was told last of its
-- volume and market cap. Of days behind a coin's newest daily candle, which no rollup has seen yet, the last
-- price is the close. The recursions walk from currency to currency of a coin, as in latest_prices; what is
-- asked of the view then reaches the coins' own rows by their keys.
CREATE OR REPLACE VIEW daily_prices AS
WITH RECURSIVE rolled (asset_id, vs_currency) AS (
    SELECT a.id, (SELECT q.vs_currency FROM candles q WHERE q.asset_id = a.id
                  ORDER BY q.vs_currency LIMIT 1)
    FROM assets a
    UNION ALL
    SELECT h.asset_id, (SELECT q.vs_currency FROM candles q
                        WHERE q.asset_id = h.asset_id AND q.vs_currency > h.vs_currency
                        ORDER BY q.vs_currency LIMIT 1)
    FROM rolled h
    WHERE h.vs_currency IS NOT NULL
),
told (asset_id, vs_currency) AS (
    SELECT a.id, (SELECT q.vs_currency FROM prices q WHERE q.asset_id = a.id
                  ORDER BY q.vs_currency LIMIT 1)
    FROM assets a
    UNION ALL
    SELECT h.asset_id, (SELECT q.vs_currency FROM prices q
                        WHERE q.asset_id = h.asset_id AND q.vs_currency > h.vs_currency
                        ORDER BY q.vs_currency LIMIT 1)
    FROM told h
    WHERE h.vs_currency IS NOT NULL
)
SELECT c.asset_id, c.vs_currency, DATE(c.open_time) AS day, c.close,
       (SELECT q.volume_24h FROM prices q
        WHERE q.asset_id = c.asset_id AND q.vs_currency = c.vs_currency AND q.volume_24h IS NOT NULL
            AND q.observed_at >= CAST(DATE(c.open_time) AS DATETIME(3)) AND q.observed_at < CAST(DATE(c.open_time) AS DATETIME(3)) + INTERVAL 1 DAY
        ORDER BY q.observed_at DESC LIMIT 1) AS volume_24h,
       COALESCE((SELECT q.market_cap FROM prices q
        WHERE q.asset_id = c.asset_id AND q.vs_currency = c.vs_currency AND q.market_cap IS NOT NULL
            AND q.observed_at >= CAST(DATE(c.open_time) AS DATETIME(3)) AND q.observed_at < CAST(DATE(c.open_time) AS DATETIME(3)) + INTERVAL 1 DAY
        ORDER BY q.observed_at DESC LIMIT 1), c.market_cap) AS market_cap,
       a.source, a.source_id, a.symbol, a.name
FROM rolled h
JOIN assets a ON a.id = h.asset_id
JOIN candles c ON c.asset_id = h.asset_id AND c.vs_currency = h.vs_currency AND c.timeframe = '1d'
UNION ALL
SELECT p.asset_id, p.vs_currency, DATE(p.observed_at), p.price,
       (SELECT q.volume_24h FROM prices q
        WHERE q.asset_id = p.asset_id AND q.vs_currency = p.vs_currency AND q.volume_24h IS NOT NULL
            AND q.observed_at >= CAST(DATE(p.observed_at) AS DATETIME(3)) AND q.observed_at < CAST(DATE(p.observed_at) AS DATETIME(3)) + INTERVAL 1 DAY
        ORDER BY q.observed_at DESC LIMIT 1),
       (SELECT q.market_cap FROM prices q
        WHERE q.asset_id = p.asset_id AND q.vs_currency = p.vs_currency AND q.market_cap IS NOT NULL
            AND q.observed_at >= CAST(DATE(p.observed_at) AS DATETIME(3)) AND q.observed_at < CAST(DATE(p.observed_at) AS DATETIME(3)) + INTERVAL 1 DAY
        ORDER BY q.observed_at DESC LIMIT 1),
       a.source, a.source_id, a.symbol, a.name
FROM told h
JOIN assets a ON a.id = h.asset_id
JOIN prices p ON p.asset_id = h.asset_id AND p.vs_currency = h.vs_currency AND p.price IS NOT NULL
    AND p.observed_at >= COALESCE((SELECT CAST(DATE(c.open_time) AS DATETIME(3)) + INTERVAL 1 DAY FROM candles c
                                   WHERE c.asset_id = h.asset_id AND c.vs_currency = h.vs_currency
                                       AND c.timeframe = '1d'
                                   ORDER BY c.open_time DESC LIMIT 1), '1970-01-01')
WHERE NOT EXISTS (SELECT 1 FROM prices q
                  WHERE q.asset_id = p.asset_id AND q.vs_currency = p.vs_currency AND q.price IS NOT NULL
                      AND q.observed_at > p.observed_at AND q.observed_at < CAST(DATE(p.observed_at) AS DATETIME(3)) + INTERVAL 1 DAY);
