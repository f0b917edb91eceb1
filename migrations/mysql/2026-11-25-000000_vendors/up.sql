-- What a source told of the plan behind the key, in place of what it told before, and what our own
-- runs had used of the month by then; times in milliseconds since 1970.
CREATE TABLE IF NOT EXISTS accounts (
    source VARCHAR(64) NOT NULL PRIMARY KEY,
    credits_per_month BIGINT,
    credits_used BIGINT,
    calls_per_minute BIGINT,
    resets_ms BIGINT,
    told_ms BIGINT NOT NULL,
    own_used BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- One candle of an asset over [open_time, open_time + timeframe). An observation may be pruned once
-- a final candle covers it.
CREATE TABLE IF NOT EXISTS candles (
    asset_id BIGINT NOT NULL,
    vs_currency VARCHAR(64) NOT NULL,
    timeframe VARCHAR(64) NOT NULL,
    open_time DATETIME(3) NOT NULL,
    open DOUBLE NOT NULL,
    high DOUBLE NOT NULL,
    low DOUBLE NOT NULL,
    close DOUBLE NOT NULL,
    volume DOUBLE,
    base_volume DOUBLE,
    market_cap DOUBLE,
    samples BIGINT,
    origin VARCHAR(64) NOT NULL CHECK (origin IN ('source', 'archive', 'rollup')),
    final BOOLEAN NOT NULL,
    run_id BIGINT NOT NULL,
    PRIMARY KEY (asset_id, vs_currency, timeframe, open_time),
    CONSTRAINT candles_asset FOREIGN KEY (asset_id) REFERENCES assets (id),
    INDEX candles_by_time (open_time)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- One best bid and ask of a pair; extremes run over the session in log order.
CREATE TABLE IF NOT EXISTS crypto_metrics (
    source VARCHAR(64) NOT NULL,
    pair VARCHAR(64) NOT NULL,
    sequence BIGINT NOT NULL,
    observed_at DATETIME(6) NOT NULL,
    bid DOUBLE NOT NULL,
    ask DOUBLE NOT NULL,
    mid_price DOUBLE NOT NULL,
    spread DOUBLE NOT NULL,
    highest_bid DOUBLE NOT NULL,
    lowest_ask DOUBLE NOT NULL,
    max_spread DOUBLE NOT NULL,
    session VARCHAR(255) NOT NULL,
    PRIMARY KEY (source, pair, sequence),
    INDEX crypto_metrics_by_time (observed_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Quotes of a pair folded by event time over [window_start, window_start + timeframe).
CREATE TABLE IF NOT EXISTS quote_windows (
    source VARCHAR(64) NOT NULL,
    pair VARCHAR(64) NOT NULL,
    timeframe VARCHAR(64) NOT NULL,
    window_start DATETIME(6) NOT NULL,
    quotes BIGINT NOT NULL,
    open_mid DOUBLE NOT NULL,
    high_mid DOUBLE NOT NULL,
    low_mid DOUBLE NOT NULL,
    close_mid DOUBLE NOT NULL,
    highest_bid DOUBLE NOT NULL,
    lowest_ask DOUBLE NOT NULL,
    mean_spread DOUBLE NOT NULL,
    max_spread DOUBLE NOT NULL,
    PRIMARY KEY (source, pair, timeframe, window_start)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- The newest prices of CoinMarketCap's coins.
CREATE OR REPLACE VIEW quotes_coins AS
SELECT asset_id, vs_currency, observed_at, price, volume_24h, base_volume_24h, market_cap, circulating_supply, total_supply, market_cap_rank, change_1h, change_24h, change_7d, change_30d, run_id, source, source_id, symbol, name, active
FROM latest_prices
WHERE source = 'coinmarketcap';
