DROP TABLE quote_window_edges;
DROP TABLE quote_sessions;
DROP TABLE quote_outages;
DROP TABLE stream_offsets;
