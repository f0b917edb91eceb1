-- What a currency is worth: how much of it one US dollar buys, at the time the source tells.
CREATE TABLE fx_rates (
    source TEXT COLLATE "C" NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    observed_at TIMESTAMP(3) NOT NULL,
    per_usd DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (source, currency, observed_at)
);

-- Which intervals of a coin's candles were asked for, and what is known of them: half-open, without
-- overlap within a timeframe.
CREATE TABLE coverage (
    asset_id BIGINT NOT NULL,
    vs_currency TEXT COLLATE "C" NOT NULL,
    timeframe TEXT COLLATE "C" NOT NULL,
    from_time TIMESTAMP(3) NOT NULL,
    to_time TIMESTAMP(3) NOT NULL,
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('full', 'empty', 'missing', 'unreachable')),
    reason TEXT COLLATE "C",
    run_id BIGINT NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, timeframe, from_time),
    CONSTRAINT coverage_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
);

-- Hours in which prices or candles of these coins (both ids included) changed since they were folded:
-- written with the rows, taken away with the candles.
CREATE TABLE rollup_pending (
    hour TIMESTAMP(3) NOT NULL,
    vs_currency TEXT COLLATE "C" NOT NULL,
    first_asset BIGINT NOT NULL,
    last_asset BIGINT NOT NULL,
    PRIMARY KEY (hour, vs_currency, first_asset, last_asset)
);

-- Timeframes that every rollup keeps up to date. While one is folded for the first time, or again,
-- `built_asset` is the last coin that is done; NULL when all are.
CREATE TABLE rollup_timeframes (
    timeframe TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    built_asset BIGINT
);

-- Rolled up intervals that were not over when they were folded.
CREATE TABLE rollup_open (
    timeframe TEXT COLLATE "C" NOT NULL,
    open_time TIMESTAMP(3) NOT NULL,
    PRIMARY KEY (timeframe, open_time)
);

-- Observations of a source older than this are gone: what was folded of them can't be folded again.
CREATE TABLE pruned (
    source TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    before_time TIMESTAMP(3) NOT NULL
);

-- How far a file that is being imported was read: moved with its rows, taken away at its end.
CREATE TABLE import_positions (
    file TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    fingerprint TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL,
    line BIGINT NOT NULL,
    updated_at TIMESTAMP(3) NOT NULL
);

-- Which topic of that name the offsets are of: the id that the broker gave it; NULL where it gives none.
ALTER TABLE stream_offsets ADD COLUMN topic_id TEXT COLLATE "C";

-- What a run changed, for those who send it on.
CREATE INDEX candles_by_run ON candles (run_id);
