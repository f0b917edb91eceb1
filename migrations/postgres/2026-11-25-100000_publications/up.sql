-- How far a run's rows were sent to a topic: the key of the newest row that the broker took, of each
-- kind of rows; done when all are. A row that a later run changed is that run's to send.
CREATE TABLE publications (
    topic TEXT COLLATE "C" NOT NULL,
    run_id BIGINT NOT NULL,
    what TEXT COLLATE "C" NOT NULL,
    done BOOLEAN NOT NULL,
    asset_id BIGINT NOT NULL,
    vs_currency TEXT COLLATE "C" NOT NULL,
    timeframe TEXT COLLATE "C" NOT NULL,
    moment TIMESTAMP(3),
    rows_sent BIGINT NOT NULL,
    PRIMARY KEY (topic, run_id, what),
    CONSTRAINT publications_run FOREIGN KEY (run_id) REFERENCES runs (id)
);
CREATE INDEX publications_by_run ON publications (run_id);
