//! Crypto market data into your own database: complete, exact, at the smallest API bill.
//!
//! Data flows one way. A command picks a source and a window; the HTTP client fetches politely
//! and hands on whole answers; a vendor's parser turns records into domain values or into
//! rejects; the pipeline writes them batch by batch, each batch in one transaction with the
//! run's progress; a report ends on stdout, in the table `runs` and in the exit code.
//!
//! ```text
//! vendor HTTP ─ wire ─ parse ─► domain ─► pipeline ─► database
//!                                            └─► report: stdout, runs, exit code
//! ```
//!
//! Whoever looks goes the other way: `api` and `plot` read through `db` and change nothing.

pub mod api;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod events;
pub mod exit;
pub mod gate;
pub mod kafka;
pub mod pipeline;
pub mod plot;
pub mod rollup;
pub mod sandbox;
pub mod sinks;
pub mod sources;
pub mod web;
