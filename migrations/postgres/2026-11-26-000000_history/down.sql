DROP INDEX candles_by_run;
ALTER TABLE stream_offsets DROP COLUMN topic_id;
DROP TABLE import_positions;
DROP TABLE pruned;
DROP TABLE rollup_open;
DROP TABLE rollup_timeframes;
DROP TABLE rollup_pending;
DROP TABLE coverage;
DROP TABLE fx_rates;
