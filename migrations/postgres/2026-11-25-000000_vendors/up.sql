-- What a source told of the plan behind the key, in place of what it told before, and what our own
-- runs had used of the month by then; times in milliseconds since 1970.
CREATE TABLE accounts (
    source TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    credits_per_month BIGINT,
    credits_used BIGINT,
    calls_per_minute BIGINT,
    resets_ms BIGINT,
    told_ms BIGINT NOT NULL,
    own_used BIGINT NOT NULL
);

-- One candle of an asset over [open_time, open_time + timeframe). An observation may be pruned once
-- a final candle covers it.
CREATE TABLE candles (
    asset_id BIGINT NOT NULL,
    vs_currency TEXT COLLATE "C" NOT NULL,
    timeframe TEXT COLLATE "C" NOT NULL,
    open_time TIMESTAMP(3) NOT NULL,
    open DOUBLE PRECISION NOT NULL,
    high DOUBLE PRECISION NOT NULL,
    low DOUBLE PRECISION NOT NULL,
    close DOUBLE PRECISION NOT NULL,
    volume DOUBLE PRECISION,
    base_volume DOUBLE PRECISION,
    market_cap DOUBLE PRECISION,
    samples BIGINT,
    origin TEXT COLLATE "C" NOT NULL CHECK (origin IN ('source', 'archive', 'rollup')),
    final BOOLEAN NOT NULL,
    run_id BIGINT NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, timeframe, open_time),
    CONSTRAINT candles_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
);
CREATE INDEX candles_by_time ON candles (open_time);

-- One best bid and ask of a pair; extremes run over the session in log order.
CREATE TABLE crypto_metrics (
    source TEXT COLLATE "C" NOT NULL,
    pair TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    observed_at TIMESTAMP(6) NOT NULL,
    bid DOUBLE PRECISION NOT NULL,
    ask DOUBLE PRECISION NOT NULL,
    mid_price DOUBLE PRECISION NOT NULL,
    spread DOUBLE PRECISION NOT NULL,
    highest_bid DOUBLE PRECISION NOT NULL,
    lowest_ask DOUBLE PRECISION NOT NULL,
    max_spread DOUBLE PRECISION NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (source, pair, sequence)
);
CREATE INDEX crypto_metrics_by_time ON crypto_metrics (observed_at);

-- Quotes of a pair folded by event time over [window_start, window_start + timeframe).
CREATE TABLE quote_windows (
    source TEXT COLLATE "C" NOT NULL,
    pair TEXT COLLATE "C" NOT NULL,
    timeframe TEXT COLLATE "C" NOT NULL,
    window_start TIMESTAMP(6) NOT NULL,
    quotes BIGINT NOT NULL,
    open_mid DOUBLE PRECISION NOT NULL,
    high_mid DOUBLE PRECISION NOT NULL,
    low_mid DOUBLE PRECISION NOT NULL,
    close_mid DOUBLE PRECISION NOT NULL,
    highest_bid DOUBLE PRECISION NOT NULL,
    lowest_ask DOUBLE PRECISION NOT NULL,
    mean_spread DOUBLE PRECISION NOT NULL,
    max_spread DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (source, pair, timeframe, window_start)
);

-- The newest prices of CoinMarketCap's coins.
CREATE VIEW quotes_coins AS
SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active
FROM latest_prices
WHERE source = 'coinmarketcap';
