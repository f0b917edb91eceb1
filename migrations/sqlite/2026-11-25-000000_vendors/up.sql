-- What a source told of the plan behind the key, in place of what it told before, and what our own
-- runs had used of the month by then; times in milliseconds since 1970.
CREATE TABLE accounts (
    source TEXT NOT NULL PRIMARY KEY,
    credits_per_month INTEGER,
    credits_used INTEGER,
    calls_per_minute INTEGER,
    resets_ms INTEGER,
    told_ms INTEGER NOT NULL,
    own_used INTEGER NOT NULL
) WITHOUT ROWID;

-- One candle of an asset over [open_time, open_time + timeframe). An observation may be pruned once
-- a final candle covers it.
CREATE TABLE candles (
    asset_id INTEGER NOT NULL,
    vs_currency TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    open_time TEXT NOT NULL,
    open REAL NOT NULL,
    high REAL NOT NULL,
    low REAL NOT NULL,
    close REAL NOT NULL,
    volume REAL,
    base_volume REAL,
    market_cap REAL,
    samples INTEGER,
    origin TEXT NOT NULL CHECK (origin IN ('source', 'archive', 'rollup')),
    final BOOLEAN NOT NULL,
    run_id INTEGER NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, timeframe, open_time),
    CONSTRAINT candles_asset FOREIGN KEY (asset_id) REFERENCES assets (id)
) WITHOUT ROWID;
CREATE INDEX candles_by_time ON candles (open_time);

-- One best bid and ask of a pair; extremes run over the session in log order.
CREATE TABLE crypto_metrics (
    source TEXT NOT NULL,
    pair TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    observed_at TEXT NOT NULL,
    bid REAL NOT NULL,
    ask REAL NOT NULL,
    mid_price REAL NOT NULL,
    spread REAL NOT NULL,
    highest_bid REAL NOT NULL,
    lowest_ask REAL NOT NULL,
    max_spread REAL NOT NULL,
    session TEXT NOT NULL,
    PRIMARY KEY (source, pair, sequence)
) WITHOUT ROWID;
CREATE INDEX crypto_metrics_by_time ON crypto_metrics (observed_at);

-- Quotes of a pair folded by event time over [window_start, window_start + timeframe).
CREATE TABLE quote_windows (
    source TEXT NOT NULL,
    pair TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    window_start TEXT NOT NULL,
    quotes INTEGER NOT NULL,
    open_mid REAL NOT NULL,
    high_mid REAL NOT NULL,
    low_mid REAL NOT NULL,
    close_mid REAL NOT NULL,
    highest_bid REAL NOT NULL,
    lowest_ask REAL NOT NULL,
    mean_spread REAL NOT NULL,
    max_spread REAL NOT NULL,
    PRIMARY KEY (source, pair, timeframe, window_start)
) WITHOUT ROWID;

-- The newest prices of CoinMarketCap's coins.
CREATE VIEW quotes_coins AS
SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active
FROM latest_prices
WHERE source = 'coinmarketcap';
