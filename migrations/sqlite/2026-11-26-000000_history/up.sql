-- What a currency is worth: how much of it one US dollar buys, at the time the source tells.
CREATE TABLE fx_rates (
    source TEXT NOT NULL,
    currency TEXT NOT NULL,
    observed_at TEXT NOT NULL,
    per_usd REAL NOT NULL,
    PRIMARY KEY (source, currency, observed_at)
) WITHOUT ROWID;

-- Which intervals of a coin's candles were asked for, and what is known of them: half-open, without
-- overlap within a timeframe.
CREATE TABLE coverage (
    asset_id INTEGER NOT NULL,
    vs_currency TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    from_time TEXT NOT NULL,
    to_time TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('full', 'empty', 'missing', 'unreachable')),
    reason TEXT,
    run_id INTEGER NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, timeframe, from_time),
    CONSTRAINT coverage_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
) WITHOUT ROWID;

-- Hours in which prices or candles of these coins (both ids included) changed since they were folded:
-- written with the rows, taken away with the candles.
CREATE TABLE rollup_pending (
    hour TEXT NOT NULL,
    vs_currency TEXT NOT NULL,
    first_asset INTEGER NOT NULL,
    last_asset INTEGER NOT NULL,
    PRIMARY KEY (hour, vs_currency, first_asset, last_asset)
) WITHOUT ROWID;

-- Timeframes that every rollup keeps up to date. While one is folded for the first time, or again,
-- `built_asset` is the last coin that is done; NULL when all are.
CREATE TABLE rollup_timeframes (
    timeframe TEXT NOT NULL PRIMARY KEY,
    built_asset INTEGER
) WITHOUT ROWID;

-- Rolled up intervals that were not over when they were folded.
CREATE TABLE rollup_open (
    timeframe TEXT NOT NULL,
    open_time TEXT NOT NULL,
    PRIMARY KEY (timeframe, open_time)
) WITHOUT ROWID;

-- Observations of a source older than this are gone: what was folded of them can't be folded again.
CREATE TABLE pruned (
    source TEXT NOT NULL PRIMARY KEY,
    before_time TEXT NOT NULL
) WITHOUT ROWID;

-- How far a file that is being imported was read: moved with its rows, taken away at its end.
CREATE TABLE import_positions (
    file TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    position INTEGER NOT NULL,
    line INTEGER NOT NULL,
    updated_at TEXT NOT NULL
) WITHOUT ROWID;

-- Which topic of that name the offsets are of: the id that the broker gave it; NULL where it gives none.
ALTER TABLE stream_offsets ADD COLUMN topic_id TEXT;

-- What a run changed, for those who send it on.
CREATE INDEX candles_by_run ON candles (run_id);
