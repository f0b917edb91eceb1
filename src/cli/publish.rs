//! `publish`: what earlier runs stored goes to Kafka, run by run, without a second call to a vendor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;

use super::output::{Outcome, Report};
use super::{Context, heartbeat, stop};
use crate::cli::ending::{self, Ended};
use crate::db::publications::{self, Position, What};
use crate::db::{Connection, Session, migrate};
use crate::exit::Exit;
use crate::kafka::BrokerError;
use crate::kafka::config::BrokerSettings;
use crate::kafka::producer::{Event, EventProducer};
use crate::kafka::topic;

pub const NAME: &str = "publish";
/// It sends the rows of all sources.
const ALL: &str = "all";
/// Rows sent between two marks of how far it came: some 4 MB.
const CHUNK: i64 = 10_000;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which rows
    #[arg(long, value_name = "WHAT,…", value_enum, value_delimiter = ',', default_value = "prices,candles")]
    what: Vec<Kind>,
    /// Only tell how much there is to send
    #[arg(long)]
    dry_run: bool,
    /// Partitions of the topic, if it has to be made [default: the broker's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: Option<i32>,
    /// Copies that the broker keeps of it, if it has to be made [default: the broker's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100))]
    replication: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Prices,
    Candles,
}

impl Args {
    fn what(&self) -> Vec<What> {
        let mut what: Vec<What> = Vec::new();
        for kind in &self.what {
            let kind = match kind {
                Kind::Prices => What::Prices,
                Kind::Candles => What::Candles,
            };
            if !what.contains(&kind) {
                what.push(kind);
            }
        }
        what
    }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let broker = context.settings.broker.clone().ok_or(BrokerError::NotSet)?;
    let mut opened = migrate::open_current(&context.settings.database_url)?;
    if args.dry_run {
        return dry_run(args, &broker, &mut opened.conn);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let asked_to_stop = Arc::new(AtomicBool::new(false));
    let (entered, flag) = (runtime.enter(), asked_to_stop.clone());
    let asked = stop::asked();
    drop(entered);
    runtime.spawn(async move {
        asked.await;
        flag.store(true, Ordering::Relaxed);
    });
    let shape = topic::Shape { partitions: args.partitions, replication: args.replication };
    runtime.block_on(topic::ensure(&broker, shape))?;

    let mut session = Session::begin(opened, NAME, ALL, context.wait)?;
    let mut report = Report::new(NAME, ALL);
    report.run_id = Some(session.run_id());
    let mut sending = Sending { session: &mut session, broker: &broker, stop: &asked_to_stop, runs: 0 };
    let beating = heartbeat::start(&context.settings.database_url, sending.session.lease().clone());
    let result = args.what().into_iter().try_for_each(|what| sending.all(what));
    let runs = sending.runs;
    drop(beating);
    let tally = session.tally();
    let ended = Ended::of(&result, &session);
    let exit = ending::record(&mut session, ended, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    report.more.insert("topic".into(), json!(broker.topic));
    report.more.insert("runs_published".into(), json!(runs));
    let text = match report.error {
        Some(_) => String::new(),
        None => format!("{}: {} events of {runs} run(s) sent ({:.1} s)", broker.topic, tally.written, report.seconds),
    };
    Ok(Outcome::new(exit, report, text))
}

fn dry_run(args: &Args, broker: &BrokerSettings, conn: &mut Connection) -> anyhow::Result<Outcome> {
    let mut report = Report::new(NAME, ALL);
    let mut due = Vec::new();
    for what in args.what() {
        for run_id in publications::due(conn, &broker.topic, what)? {
            let after = publications::position(conn, &broker.topic, run_id, what)?;
            let rows = publications::count(conn, run_id, what, after.as_ref())?;
            due.push(json!({ "run_id": run_id, "what": what.name(), "rows": rows }));
        }
    }
    let rows: i64 = due.iter().filter_map(|due| due["rows"].as_i64()).sum();
    let text = format!("{}: {rows} events of {} run(s) are due", broker.topic, due.len());
    report.more.insert("topic".into(), json!(broker.topic));
    report.more.insert("due".into(), json!(due));
    report.more.insert("rows_due".into(), json!(rows));
    Ok(Outcome::new(Exit::Ok, report, text))
}

#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal; the rest stays due")]
struct Interrupted;

struct Sending<'a> {
    session: &'a mut Session,
    broker: &'a BrokerSettings,
    stop: &'a AtomicBool,
    runs: usize,
}

impl Sending<'_> {
    fn all(&mut self, what: What) -> anyhow::Result<()> {
        let producer = EventProducer::new(self.broker)?;
        loop {
            let due = publications::due(self.session.conn(), &self.broker.topic, what)?;
            if due.is_empty() {
                return Ok(());
            }
            for run_id in due {
                if publications::is_running(self.session.conn(), run_id)?
                    && !self.session.batch(|batch| publications::bury_silent(batch, run_id))?
                {
                    // It woke up meanwhile, and is due when it is over.
                    continue;
                }
                self.one(&producer, what, run_id)?;
                self.runs += 1;
            }
        }
    }

    /// The rest of a run.
    fn one(&mut self, producer: &EventProducer, what: What, run_id: i64) -> anyhow::Result<()> {
        let topic = &self.broker.topic;
        let mut after = publications::position(self.session.conn(), topic, run_id, what)?;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Interrupted.into());
            }
            let rows = publications::rows(self.session.conn(), run_id, what, after.as_ref(), CHUNK)?;
            let last = (rows.len() as i64) < CHUNK;
            let mut events = Vec::with_capacity(rows.len());
            let mut position: Option<Position> = None;
            for row in rows {
                events.push(Event { key: row.key, payload: row.payload });
                position = Some(row.position);
            }
            producer.send(&events)?;
            let sent = events.len() as i64;
            self.session.batch(|batch| {
                publications::save(batch, topic, run_id, what, position.as_ref(), sent, last)?;
                batch.tally.read += sent;
                batch.tally.written += sent;
                Ok(())
            })?;
            if last {
                return Ok(());
            }
            after = position;
        }
    }
}
