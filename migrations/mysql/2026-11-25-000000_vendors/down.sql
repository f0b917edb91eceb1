DROP VIEW quotes_coins;
DROP TABLE quote_windows;
DROP TABLE crypto_metrics;
DROP TABLE candles;
DROP TABLE accounts;
