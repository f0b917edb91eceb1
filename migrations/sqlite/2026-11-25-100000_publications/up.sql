-- How far a run's rows were sent to a topic: the key of the newest row that the broker took, of each
-- kind of rows; done when all are. A row that a later run changed is that run's to send.
CREATE TABLE publications (
    topic TEXT NOT NULL,
    run_id INTEGER NOT NULL,
    what TEXT NOT NULL,
    done BOOLEAN NOT NULL,
    asset_id INTEGER NOT NULL,
    vs_currency TEXT NOT NULL,
    timeframe TEXT NOT NULL,
    moment TEXT,
    rows_sent INTEGER NOT NULL,
    PRIMARY KEY (topic, run_id, what),
    CONSTRAINT publications_run FOREIGN KEY (run_id) REFERENCES runs (id)
) WITHOUT ROWID;
CREATE INDEX publications_by_run ON publications (run_id);
