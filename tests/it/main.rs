//! The behaviour of the real binary, from the outside: a command line, a vendor that a stub or the
//! sandbox plays, a database, and what is in it afterwards.
//!
//! Every behaviour that touches a database runs on all three. SQLite is always there; the servers
//! are used when `COINETL_TEST_MYSQL_URL` and `COINETL_TEST_POSTGRES_URL` name them.

#[macro_use]
mod support;

mod api;
mod api_requests;
mod assets;
mod backfill;
mod browser_itself;
mod budget;
mod candles;
mod coinbase;
mod coinmarketcap;
mod consume;
mod coverage;
mod day;
mod db_setup;
mod doctor;
mod export;
mod export_pipe;
mod faults;
mod frozen_broker;
mod gaps;
mod group_member;
mod import;
mod import_hostile;
mod import_own;
mod kill;
mod metrics;
mod migrations;
mod numbers;
mod overlap;
mod ping;
mod plan;
mod plot;
mod prices;
mod prune;
mod publish;
mod quotes;
mod rates;
mod recorded_feed;
mod recordings;
mod result;
mod rollup;
mod round_trip;
mod sandbox;
mod serve_faults;
mod serve_hostile;
mod stream_faults;
mod stream_figures;
mod support_itself;
mod text;
mod vendors;
mod views;
mod web;
mod web_browser;
