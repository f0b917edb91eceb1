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
