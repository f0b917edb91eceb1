-- How far a run's rows were sent to a topic: the key of the newest row that the broker took, of each
-- kind of rows; done when all are. A row that a later run changed is that run's to send.
CREATE TABLE IF NOT EXISTS publications (
    topic VARCHAR(249) NOT NULL,
    run_id BIGINT NOT NULL,
    what VARCHAR(64) NOT NULL,
    done BOOLEAN NOT NULL,
    asset_id BIGINT NOT NULL,
    vs_currency VARCHAR(64) NOT NULL,
    timeframe VARCHAR(64) NOT NULL,
    moment DATETIME(3),
    rows_sent BIGINT NOT NULL,
    PRIMARY KEY (topic, run_id, what),
    CONSTRAINT publications_run FOREIGN KEY (run_id) REFERENCES runs (id),
    INDEX publications_by_run (run_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100202 COLLATE=utf8mb4_nopad_bin */;
