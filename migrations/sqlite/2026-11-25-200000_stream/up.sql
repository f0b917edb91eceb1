-- Where a consumer group goes on in each partition: moved in the transaction that wrote the rows.
CREATE TABLE stream_offsets (
    consumer_group TEXT NOT NULL,
    topic TEXT NOT NULL,
    partition_id INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition_id)
) WITHOUT ROWID;

-- Times for which quotes of a pair are missing.
CREATE TABLE quote_outages (
    source TEXT NOT NULL,
    pair TEXT NOT NULL,
    from_time TEXT NOT NULL,
    to_time TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (source, pair, from_time, to_time)
) WITHOUT ROWID;

-- The running extremes of a session of quotes, which go on after a restart.
CREATE TABLE quote_sessions (
    source TEXT NOT NULL,
    pair TEXT NOT NULL,
    session TEXT NOT NULL,
    highest_bid REAL NOT NULL,
    lowest_ask REAL NOT NULL,
    max_spread REAL NOT NULL,
    PRIMARY KEY (source, pair, session)
) WITHOUT ROWID;

-- What a window of quotes needs to take in a late one: which quotes opened and closed it, and the sum
-- of its spreads as an exact decimal.
CREATE TABLE quote_window_edges (
    source TEXT NOT NULL,
    pair TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    window_start TEXT NOT NULL,
    open_time TEXT NOT NULL,
    open_sequence INTEGER NOT NULL,
    close_time TEXT NOT NULL,
    close_sequence INTEGER NOT NULL,
    spread_sum TEXT NOT NULL,
    PRIMARY KEY (source, pair, timeframe, window_start)
) WITHOUT ROWID;
