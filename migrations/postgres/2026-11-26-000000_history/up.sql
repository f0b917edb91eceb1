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

-- One row for each coin, currency and UTC day: the close of the day's candle, and what was told last of its
-- volume and market cap. Of days behind a coin's newest daily candle, which no rollup has seen yet, the last
-- price is the close. The recursions walk from currency to currency of a coin, as in latest_prices; what is
-- asked of the view then reaches the coins' own rows by their keys.
CREATE VIEW daily_prices AS
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
SELECT c.asset_id, c.vs_currency, CAST(c.open_time AS DATE) AS day, c.close,
       (SELECT q.volume_24h FROM prices q
        WHERE q.asset_id = c.asset_id AND q.vs_currency = c.vs_currency AND q.volume_24h IS NOT NULL
            AND q.observed_at >= date_trunc('day', c.open_time) AND q.observed_at < date_trunc('day', c.open_time) + INTERVAL '1 day'
        ORDER BY q.observed_at DESC LIMIT 1) AS volume_24h,
       COALESCE((SELECT q.market_cap FROM prices q
        WHERE q.asset_id = c.asset_id AND q.vs_currency = c.vs_currency AND q.market_cap IS NOT NULL
            AND q.observed_at >= date_trunc('day', c.open_time) AND q.observed_at < date_trunc('day', c.open_time) + INTERVAL '1 day'
        ORDER BY q.observed_at DESC LIMIT 1), c.market_cap) AS market_cap,
       a.source, a.source_id, a.symbol, a.name
FROM rolled h
JOIN assets a ON a.id = h.asset_id
JOIN candles c ON c.asset_id = h.asset_id AND c.vs_currency = h.vs_currency AND c.timeframe = '1d'
UNION ALL
SELECT p.asset_id, p.vs_currency, CAST(p.observed_at AS DATE), p.price,
       (SELECT q.volume_24h FROM prices q
        WHERE q.asset_id = p.asset_id AND q.vs_currency = p.vs_currency AND q.volume_24h IS NOT NULL
            AND q.observed_at >= date_trunc('day', p.observed_at) AND q.observed_at < date_trunc('day', p.observed_at) + INTERVAL '1 day'
        ORDER BY q.observed_at DESC LIMIT 1),
       (SELECT q.market_cap FROM prices q
        WHERE q.asset_id = p.asset_id AND q.vs_currency = p.vs_currency AND q.market_cap IS NOT NULL
            AND q.observed_at >= date_trunc('day', p.observed_at) AND q.observed_at < date_trunc('day', p.observed_at) + INTERVAL '1 day'
        ORDER BY q.observed_at DESC LIMIT 1),
       a.source, a.source_id, a.symbol, a.name
FROM told h
JOIN assets a ON a.id = h.asset_id
JOIN prices p ON p.asset_id = h.asset_id AND p.vs_currency = h.vs_currency AND p.price IS NOT NULL
    AND p.observed_at >= COALESCE((SELECT date_trunc('day', c.open_time) + INTERVAL '1 day' FROM candles c
                                   WHERE c.asset_id = h.asset_id AND c.vs_currency = h.vs_currency
                                       AND c.timeframe = '1d'
                                   ORDER BY c.open_time DESC LIMIT 1), TIMESTAMP '1970-01-01')
WHERE NOT EXISTS (SELECT 1 FROM prices q
                  WHERE q.asset_id = p.asset_id AND q.vs_currency = p.vs_currency AND q.price IS NOT NULL
                      AND q.observed_at > p.observed_at AND q.observed_at < date_trunc('day', p.observed_at) + INTERVAL '1 day');
