//! `consume`: the topic's events into the tables, exactly once there, until it is told to stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use serde_json::json;

use super::output::{Outcome, Report, sentence};
use super::{Context, heartbeat, stop};
use crate::config::Settings;
use crate::db::runs::{self, Status};
use crate::db::{DbError, Session, migrate};
use crate::domain::Cost;
use crate::exit::{self, Exit};
use crate::kafka::config::BrokerSettings;
use crate::kafka::consumer::{Member, Polled};
use crate::kafka::{BrokerError, LostOffsets};
use crate::sinks::stream::{Message, StreamSink};

pub const NAME: &str = "consume";
/// What a run is recorded under: its rows have sources of their own.
const SOURCE: &str = "kafka";
/// Messages written in one transaction, and how long the first of them waits for more.
const BATCH: usize = 20_000;
const BATCH_BYTES: usize = 16 << 20;
const LINGER: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(100);
/// Between two tries to reach a database that went away.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
const PROGRESS: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Stop when everything that was in the topic at the start is stored
    #[arg(long)]
    until_end: bool,
    /// Go on behind messages that the broker has not any more, and record which they were
    #[arg(long)]
    skip_lost: bool,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let settings = &context.settings;
    let broker = settings.broker.clone().ok_or(BrokerError::NotSet)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let asked_to_stop = Arc::new(AtomicBool::new(false));
    let (entered, flag) = (runtime.enter(), asked_to_stop.clone());
    let asked = stop::asked();
    drop(entered);
    runtime.spawn(async move {
        asked.await;
        flag.store(true, Ordering::Relaxed);
    });
    let mut sink = open(settings, &broker)?;
    let run_id = sink.session.run_id();
    let beating = heartbeat::start(&settings.database_url, sink.session.lease().clone());
    let mut reader = Reader {
        args,
        settings,
        broker: &broker,
        stop: &asked_to_stop,
        seen: 0,
        wanted: None,
        progress: Progress::new(),
    };
    let result = reader.read(&mut sink);
    drop(beating);
    let tally = sink.session.tally();
    let mut report = Report::new(NAME, SOURCE);
    report.run_id = Some(run_id);
    let exit = end(&mut sink.session, result, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    report.more.insert("topic".into(), json!(broker.topic));
    report.more.insert("group".into(), json!(broker.group));
    let text = match report.error {
        Some(_) => String::new(),
        None => format!(
            "{}: {} events: {} stored, {} known already, {} dead letters ({:.1} s)",
            broker.topic, tally.read, tally.written, tally.unchanged, tally.rejected, report.seconds
        ),
    };
    Ok(Outcome::new(exit, report, text))
}

/// Ends the run of something that writes streams, and puts into its report how it ended.
pub fn end(session: &mut Session, result: anyhow::Result<()>, report: &mut Report) -> Exit {
    let tally = session.tally();
    let (mut status, mut exit, mut error) = match result {
        Ok(()) => (Status::Ok, Exit::Ok, None),
        Err(err) => {
            let status = if tally.written > 0 { Status::Partial } else { Status::Failed };
            (status, exit::of(&err), Some(sentence(&err)))
        }
    };
    if let Err(err) = session.finish(status, error.as_deref(), Cost::default())
        && error.is_none()
    {
        let err = anyhow::Error::from(err);
        (status, exit, error) = (Status::Failed, exit::of(&err), Some(sentence(&err)));
    }
    report.set_tally(&tally);
    report.status = status.name();
    report.error = error;
    exit
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

struct Reader<'a> {
    args: &'a Args,
    settings: &'a Settings,
    broker: &'a BrokerSettings,
    stop: &'a AtomicBool,
    /// The change of assignment that was taken in.
    seen: u64,
    /// With `--until-end`: where each partition ended when we first looked.
    wanted: Option<HashMap<i32, i64>>,
    progress: Progress,
}

impl Reader<'_> {
    fn read(&mut self, sink: &mut StreamSink) -> anyhow::Result<()> {
        let member = Member::join(self.broker, &self.broker.group)?;
        let mut batch: Vec<Message> = Vec::new();
        let (mut bytes, mut since) = (0, Instant::now());
        loop {
            let stopping = self.stop.load(Ordering::Relaxed);
            if !stopping
                && let Polled::Message(message) = member.poll(if batch.is_empty() { POLL } else { LINGER / 10 })?
            {
                if batch.is_empty() {
                    since = Instant::now();
                }
                bytes += message.payload.len();
                batch.push(message);
            }
            if member.changes() != self.seen {
                // What was read for partitions that may be somebody else's now is read again.
                batch.clear();
                bytes = 0;
                self.seen = member.changes();
                self.with_database(&member, sink, |reader, sink| reader.go_on(&member, sink))?;
                continue;
            }
            let full = batch.len() >= BATCH || bytes >= BATCH_BYTES;
            if !batch.is_empty() && (full || stopping || since.elapsed() >= LINGER) {
                self.write(&member, sink, &batch)?;
                batch.clear();
                bytes = 0;
            }
            if stopping {
                self.tell(&member, sink, CommitMode::Sync);
                return Ok(());
            }
            self.progress.show(sink);
            if batch.is_empty() && self.is_at_the_end(&member, sink) {
                self.tell(&member, sink, CommitMode::Sync);
                return Ok(());
            }
        }
    }

    fn write(&mut self, member: &Member, sink: &mut StreamSink, batch: &[Message]) -> anyhow::Result<()> {
        fault("before-transaction");
        match sink.write(batch) {
            Ok(()) => {
                fault("after-transaction");
                self.progress.count(batch);
                self.tell(member, sink, CommitMode::Async);
                fault("after-kafka-commit");
                Ok(())
            }
            Err(DbError::Overtaken { partition }) => {
                log::info!("partition {partition} was read on by another member; going on where it is");
                self.with_database(member, sink, |reader, sink| reader.go_on(member, sink))
            }
            Err(err) if is_away(&err) => {
                self.wait_for_database(member, sink, err)?;
                self.with_database(member, sink, |reader, sink| reader.go_on(member, sink))
            }
            Err(err) => Err(err.into()),
        }
    }

    /// Puts every partition that is ours where the database says.
    fn go_on(&mut self, member: &Member, sink: &mut StreamSink) -> anyhow::Result<()> {
        let assigned = member.assigned();
        sink.reload()?;
        if assigned.is_empty() {
            return Ok(());
        }
        let mut offsets = Vec::new();
        for partition in &assigned {
            let (low, high) = member.ends(*partition)?;
            let at = match sink.next_offset(*partition) {
                None => low,
                Some(at) if (low..=high).contains(&at) => at,
                Some(at) => {
                    // Behind the end there can only be another topic of that name.
                    let (from, to) = if at < low { (at, low - 1) } else { (high, at - 1) };
                    let lost = LostOffsets { topic: self.broker.topic.clone(), partition: *partition, from, to };
                    if !self.args.skip_lost {
                        return Err(lost.into());
                    }
                    log::warn!("offsets {from} to {to} of partition {partition} are lost; going on at {low}");
                    sink.skip_to(*partition, low, &format!("offsets {from} to {to} are lost; went on at {low}"))?;
                    low
                }
            };
            if self.args.until_end {
                self.wanted.get_or_insert_default().entry(*partition).or_insert(high);
            }
            offsets.push((*partition, at));
        }
        member.go_on_at(&offsets)?;
        Ok(())
    }

    /// Runs work on the database, again whenever it was away.
    fn with_database(
        &mut self,
        member: &Member,
        sink: &mut StreamSink,
        mut work: impl FnMut(&mut Self, &mut StreamSink) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        loop {
            let err = match work(self, sink) {
                Ok(()) => return Ok(()),
                Err(err) => err,
            };
            match err.downcast::<DbError>() {
                Ok(err) if is_away(&err) => self.wait_for_database(member, sink, err)?,
                Ok(DbError::Overtaken { .. }) => {}
                Ok(err) => return Err(err.into()),
                Err(err) => return Err(err),
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Stays in the group, with its partitions paused, until the database answers again.
    fn wait_for_database(&mut self, member: &Member, sink: &mut StreamSink, err: DbError) -> anyhow::Result<()> {
        log::warn!("{err}; the stream waits for it");
        member.pause();
        while !self.stop.load(Ordering::Relaxed) {
            let waited = Instant::now();
            while waited.elapsed() < DATABASE_PAUSE && !self.stop.load(Ordering::Relaxed) {
                // What comes all the same is read again afterwards.
                member.poll(POLL)?;
            }
            match migrate::open_current(&self.settings.database_url) {
                Ok(opened) => {
                    sink.session.reopen(opened);
                    log::warn!("the database answers again; the stream goes on");
                    return Ok(());
                }
                Err(err) if is_away(&err) => log::debug!("{err}"),
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    fn tell(&self, member: &Member, sink: &StreamSink, mode: CommitMode) {
        let offsets: Vec<(i32, i64)> = member
            .assigned()
            .into_iter()
            .filter_map(|partition| Some((partition, sink.next_offset(partition)?)))
            .collect();
        if !offsets.is_empty() {
            member.tell(&offsets, mode);
        }
    }

    fn is_at_the_end(&self, member: &Member, sink: &StreamSink) -> bool {
        let Some(wanted) = &self.wanted else { return false };
        let assigned = member.assigned();
        !assigned.is_empty()
            && assigned.iter().all(|partition| match (wanted.get(partition), sink.next_offset(*partition)) {
                (Some(end), Some(at)) => at >= *end,
                // Nothing was ever in it that we could have read.
                (Some(end), None) => *end == 0 || member.ends(*partition).is_ok_and(|(low, _)| low >= *end),
                (None, _) => false,
            })
    }
}

fn is_away(err: &DbError) -> bool {
    matches!(err, DbError::Gone(_) | DbError::Unreachable { .. } | DbError::Locked(_) | DbError::Full(_))
}

/// For tests: ends the process at a named point, as `kill -9` would there.
fn fault(point: &str) {
    if std::env::var("COINETL_TEST_DIE_AT").is_ok_and(|at| at == point) {
        std::process::abort();
    }
}

/// A line now and then about how it goes.
struct Progress {
    since: Instant,
    messages: usize,
    batches: usize,
    newest_ms: Option<i64>,
}

impl Progress {
    fn new() -> Self {
        Progress { since: Instant::now(), messages: 0, batches: 0, newest_ms: None }
    }

    fn count(&mut self, batch: &[Message]) {
        self.messages += batch.len();
        self.batches += 1;
        self.newest_ms = self.newest_ms.max(batch.iter().filter_map(|message| message.time_ms).max());
    }

    fn show(&mut self, sink: &StreamSink) {
        let passed = self.since.elapsed();
        if passed < PROGRESS {
            return;
        }
        let rate = self.messages as f64 / passed.as_secs_f64();
        let size = self.messages / self.batches.max(1);
        let age = self.newest_ms.map_or("-".to_owned(), |at| {
            format!("{:.1} s", (chrono::Utc::now().timestamp_millis() - at).max(0) as f64 / 1000.0)
        });
        let stored = sink.session.tally().written;
        log::info!("{rate:.0} events/s, {size} a batch, newest {age} old, {stored} stored so far");
        *self = Progress::new();
    }
}
