-- Where a consumer group goes on in each partition: moved in the transaction that wrote the rows.
CREATE TABLE IF NOT EXISTS stream_offsets (
    consumer_group VARCHAR(255) NOT NULL,
    topic VARCHAR(249) NOT NULL,
    partition_id INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- Times for which quotes of a pair are missing.
CREATE TABLE IF NOT EXISTS quote_outages (
    source VARCHAR(64) NOT NULL,
    pair VARCHAR(64) NOT NULL,
    from_time DATETIME(6) NOT NULL,
    to_time DATETIME(6) NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (source, pair, from_time, to_time)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- The running extremes of a session of quotes, which go on after a restart.
CREATE TABLE IF NOT EXISTS quote_sessions (
    source VARCHAR(64) NOT NULL,
    pair VARCHAR(64) NOT NULL,
    session VARCHAR(255) NOT NULL,
    highest_bid DOUBLE NOT NULL,
    lowest_ask DOUBLE NOT NULL,
    max_spread DOUBLE NOT NULL,
    PRIMARY KEY (source, pair, session)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;

-- What a window of quotes needs to take in a late one: which quotes opened and closed it, and the sum
-- of its spreads as an exact decimal.
CREATE TABLE IF NOT EXISTS quote_window_edges (
    source VARCHAR(64) NOT NULL,
    pair VARCHAR(64) NOT NULL,
    timeframe VARCHAR(64) NOT NULL,
    window_start DATETIME(6) NOT NULL,
    open_time DATETIME(6) NOT NULL,
    open_sequence BIGINT NOT NULL,
    close_time DATETIME(6) NOT NULL,
    close_sequence BIGINT NOT NULL,
    spread_sum TEXT NOT NULL,
    PRIMARY KEY (source, pair, timeframe, window_start)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;
