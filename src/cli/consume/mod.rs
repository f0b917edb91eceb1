//! `consume`: the topic's events into the tables, exactly once there, until it is told to stop.

mod figures;
mod leave;
mod progress;
mod reader;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::output::{Outcome, Report};
use super::{Context, heartbeat, stop};
use crate::cli::ending::{self, Ended};
use crate::config::Settings;
use crate::db::runs::{self};
use crate::db::{DbError, Session, migrate};
use crate::exit::Exit;
use crate::kafka::BrokerError;
use crate::kafka::config::BrokerSettings;
use crate::sinks::stream::StreamSink;
use figures::Figures;
use reader::Reader;

pub const NAME: &str = "consume";
/// What a run is recorded under: its rows have sources of their own.
const SOURCE: &str = "kafka";
/// How long an export has to come to its end after the second signal.
const HURRY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Stop when everything that was in the topic at the start is stored
    #[arg(long)]
    until_end: bool,
    /// Go on behind messages that the broker has not any more, and record which they were
    #[arg(long)]
    skip_lost: bool,
    /// Serve lag, rates and batch sizes for Prometheus, as /metrics on this address, such as 127.0.0.1:9187
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<std::net::SocketAddr>,
    /// At the end, leave daily candles as CSV and the minutes as Parquet in this folder
    #[arg(long, value_name = "DIR")]
    export_on_exit: Option<PathBuf>,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let settings = &context.settings;
    let broker = settings.broker.clone().ok_or(BrokerError::NotSet)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let asked_to_stop = Arc::new(AtomicBool::new(false));
    let asked_again = Arc::new(AtomicBool::new(false));
    let (entered, flag, second) = (runtime.enter(), asked_to_stop.clone(), asked_again.clone());
    let asked = stop::asked();
    drop(entered);
    runtime.spawn(async move {
        asked.await;
        let again = stop::asked();
        flag.store(true, Ordering::Relaxed);
        again.await;
        second.store(true, Ordering::Relaxed);
        tokio::time::sleep(HURRY).await;
        // Everything that was stored is stored, and files without their names are the next one's to remove.
        std::process::exit(Exit::No as i32);
    });
    let figures = Figures::new(&broker.topic, &broker.group);
    if let Some(address) = args.metrics {
        runtime.block_on(figures::serve(figures.clone(), address))?;
    }
    if let Some(folder) = &args.export_on_exit {
        leave::check(folder)?;
    }
    let sink = open(settings, &broker)?;
    let run_id = sink.session.run_id();
    let beating = heartbeat::start(&settings.database_url, sink.session.lease().clone());
    let (mut sink, result) = Reader::new(args, settings, &broker, &asked_to_stop, figures, sink).run();
    let mut files = Vec::new();
    let result = match (result, &args.export_on_exit) {
        (Ok(()), Some(folder)) => leave::export(&settings.database_url, folder, &asked_again)
            .map(|written| files = written)
            .map_err(|err| err.context("everything is stored, and not exported")),
        (result, _) => result,
    };
    drop(beating);
    let tally = sink.session.tally();
    let mut report = Report::new(NAME, SOURCE);
    report.run_id = Some(run_id);
    let ended = Ended::of(&result, &sink.session);
    let exit = ending::record(&mut sink.session, ended, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    report.more.insert("topic".into(), json!(broker.topic));
    report.more.insert("group".into(), json!(broker.group));
    if args.export_on_exit.is_some() {
        report.more.insert("files".into(), json!(files));
    }
    let text = match report.error {
        Some(_) => String::new(),
        None => format!(
            "{}: {} events: {} stored, {} known already, {} dead letters ({:.1} s)",
            broker.topic, tally.read, tally.written, tally.unchanged, tally.rejected, report.seconds
        ),
    };
    Ok(Outcome::new(exit, report, text))
}

fn open(settings: &Settings, broker: &BrokerSettings) -> Result<StreamSink, DbError> {
    let opened = migrate::open_current(&settings.database_url)?;
    // Members of a group run side by side: each has a lease of its own, which only says that it lives.
    let own = format!("{SOURCE}:{:016x}", rand::random::<u64>());
    let mut session = Session::begin(opened, NAME, &own, Duration::ZERO)?;
    let run_id = session.run_id();
    session.batch(|batch| {
        runs::relabel(batch.conn, run_id, SOURCE)?;
        runs::bury_unowned(batch.conn, NAME)
    })?;
    StreamSink::new(session, &broker.group, &broker.topic)
}
