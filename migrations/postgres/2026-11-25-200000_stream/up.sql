-- Where a consumer group goes on in each partition: moved in the transaction that wrote the rows.
CREATE TABLE stream_offsets (
    consumer_group TEXT COLLATE "C" NOT NULL,
    topic TEXT COLLATE "C" NOT NULL,
    partition_id INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition_id)
);

-- Times for which quotes of a pair are missing.
CREATE TABLE quote_outages (
    source TEXT COLLATE "C" NOT NULL,
    pair TEXT COLLATE "C" NOT NULL,
    from_time TIMESTAMP(6) NOT NULL,
    to_time TIMESTAMP(6) NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (source, pair, from_time, to_time)
);

-- The running extremes of a session of quotes, which go on after a restart.
CREATE TABLE quote_sessions (
    source TEXT COLLATE "C" NOT NULL,
    pair TEXT COLLATE "C" NOT NULL,
    session TEXT COLLATE "C" NOT NULL,
    highest_bid DOUBLE PRECISION NOT NULL,
    lowest_ask DOUBLE PRECISION NOT NULL,
    max_spread DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (source, pair, session)
);

-- What a window of quotes needs to take in a late one: which quotes opened and closed it, and the sum
-- of its spreads as an exact decimal.
CREATE TABLE quote_window_edges (
    source TEXT COLLATE "C" NOT NULL,
    pair TEXT COLLATE "C" NOT NULL,
    timeframe TEXT COLLATE "C" NOT NULL,
    window_start TIMESTAMP(6) NOT NULL,
    open_time TIMESTAMP(6) NOT NULL,
    open_sequence BIGINT NOT NULL,
    close_time TIMESTAMP(6) NOT NULL,
    close_sequence BIGINT NOT NULL,
    spread_sum TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (source, pair, timeframe, window_start)
);
