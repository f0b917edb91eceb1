//! Reads a topic as a member of a group, and hands batches to the writer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;

use super::Args;
use super::figures::Figures;
use super::progress::Progress;
use super::writer::{Writer, Written};
use crate::config::Settings;
use crate::db::{DbError, migrate};
use crate::events;
use crate::kafka::config::BrokerSettings;
use crate::kafka::consumer::{Member, Record};
use crate::kafka::{BrokerError, LostOffsets};
use crate::sinks::stream::{Message, StreamSink, fault};

/// Messages written in one transaction, and how long the first of them waits for more.
const BATCH: usize = 20_000;
/// Two of these are held at most: one that is read and one that is written.
const BATCH_BYTES: usize = 8 << 20;
const LINGER: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(100);
/// While a batch is written, its end is looked for this often.
const GLANCE: Duration = Duration::from_millis(5);
/// Between two tries to reach a database or a broker that went away.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the broker may take to tell a topic's id: before anything is read, and before a batch is written.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE_AT_TOPIC: Duration = Duration::from_secs(1);
/// While nothing comes, the topic is looked at this often.
const IDLE: Duration = Duration::from_secs(5);

pub struct Reader<'a> {
    args: &'a Args,
    settings: &'a Settings,
    broker: &'a BrokerSettings,
    stop: &'a AtomicBool,
    writer: Writer,
    /// Not here while the writer has it.
    sink: Option<StreamSink>,
    events: events::Reader,
    batch: Vec<Message>,
    bytes: usize,
    /// When the first message of the batch came.
    since: Instant,
    /// The change of assignment that was taken in.
    seen: u64,
    /// With `--until-end`: where each partition ended when we first looked.
    wanted: Option<HashMap<i32, i64>>,
    /// When the topic was last looked at.
    looked: Instant,
    progress: Progress,
}

impl<'a> Reader<'a> {
    pub fn new(
        args: &'a Args,
        settings: &'a Settings,
        broker: &'a BrokerSettings,
        stop: &'a AtomicBool,
        figures: Arc<Figures>,
        sink: StreamSink,
    ) -> Self {
        Reader {
            args,
            settings,
            broker,
            stop,
            writer: Writer::start(),
            sink: Some(sink),
            events: events::Reader::default(),
            batch: Vec::new(),
            bytes: 0,
            since: Instant::now(),
            seen: 0,
            wanted: None,
            looked: Instant::now(),
            progress: Progress::new(figures),
        }
    }

    /// Reads until it is told to stop; the sink, and how it ended.
    pub fn run(mut self) -> (StreamSink, anyhow::Result<()>) {
        let result = self.read();
        let sink = match self.sink.take() {
            Some(sink) => sink,
            None => self.writer.wait().sink,
        };
        (sink, result)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let member = Member::join(self.broker, &self.broker.group)?;
        loop {
            let stopping = self.stop.load(Ordering::Relaxed);
            if !stopping {
                self.poll(&member)?;
            }
            if let Some(written) = self.writer.look() {
                self.take(&member, written)?;
            }
            if member.changes() != self.seen {
                // What was read for partitions that may be somebody else's now is read again.
                self.seen = member.changes();
                self.go_on(&member)?;
                continue;
            }
            let full = self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES;
            let due = full || stopping || (!self.batch.is_empty() && self.since.elapsed() >= LINGER);
            if due {
                if self.sink.is_none() && (full || stopping) {
                    let written = self.writer.wait();
                    self.take(&member, written)?;
                }
                if !self.batch.is_empty() && self.sink.is_some() {
                    if self.is_made_anew(&member) {
                        self.go_on(&member)?;
                        continue;
                    }
                    let Some(sink) = self.sink.take() else { continue };
                    let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
                    self.bytes = 0;
                    self.writer.write(sink, batch);
                }
            }
            let Some(sink) = &self.sink else { continue };
            if self.batch.is_empty() && (stopping || self.is_at_the_end(&member, sink)) {
                tell(&member, sink, CommitMode::Sync);
                return Ok(());
            }
            if self.batch.is_empty()
                && self.looked.elapsed() >= IDLE
                && (self.is_made_anew(&member) || self.is_stuck(&member))
            {
                self.go_on(&member)?;
                continue;
            }
            let Some(sink) = &self.sink else { continue };
            self.progress.show(&member, sink);
        }
    }

    fn poll(&mut self, member: &Member) -> anyhow::Result<()> {
        let patience = match (self.sink.is_none(), self.batch.is_empty()) {
            (true, _) => GLANCE,
            (false, true) => POLL,
            (false, false) => LINGER / 10,
        };
        let events = &mut self.events;
        let read = |record: Record<'_>| {
            let Record { partition, offset, time_ms, payload } = record;
            (payload.len(), Message::read(events, partition, offset, time_ms, payload))
        };
        if let Some((bytes, message)) = member.poll(patience, read)? {
            if self.batch.is_empty() {
                self.since = Instant::now();
            }
            self.bytes += bytes;
            self.batch.push(message);
            fault("after-poll");
        }
        Ok(())
    }

    /// Takes the sink back from the writer, and sees how the batch went.
    fn take(&mut self, member: &Member, written: Written) -> anyhow::Result<()> {
        let Written { sink, batch, result } = written;
        let sink = self.sink.insert(sink);
        match result {
            Ok(()) => {
                self.progress.count(&batch, sink);
                tell(member, sink, CommitMode::Async);
                fault("after-kafka-commit");
                Ok(())
            }
            Err(DbError::Overtaken { partition }) => {
                log::info!("partition {partition} was read on by another member; going on where it is");
                self.go_on(member)
            }
            // Somebody else stored one of these quotes meanwhile: what is stored is looked at again.
            Err(DbError::Duplicate(why)) => {
                log::info!("{why}; going on with what is stored");
                self.go_on(member)
            }
            Err(err) if is_away(&err) => {
                self.wait_for_database(member, err)?;
                self.go_on(member)
            }
            Err(err) => Err(err.into()),
        }
    }

    /// Whether another topic has the name by now. What was read before we looked is the old one's if it
    /// has not: an id never comes again. Where nobody tells, the next look will.
    fn is_made_anew(&mut self, member: &Member) -> bool {
        self.looked = Instant::now();
        let Some(known) = self.sink.as_ref().and_then(StreamSink::topic_id) else { return false };
        matches!(member.topic_id(GLANCE_AT_TOPIC), Ok(Some(told)) if told != known)
    }

    /// Whether nothing came for a while of a partition that holds more: a fetch that was begun in the midst of a
    /// change of assignment may never be answered, and to begin it anew costs nothing.
    fn is_stuck(&self, member: &Member) -> bool {
        let Some(sink) = &self.sink else { return false };
        if self.since.elapsed() < IDLE {
            return false;
        }
        let waits = |partition: &i32| {
            let next = sink.next_offset(*partition);
            !member.was_at_end(*partition)
                && member.ends(*partition).is_ok_and(|(low, high)| next.unwrap_or(low).max(low) < high)
        };
        let stuck = member.assigned().iter().find(|partition| waits(partition)).copied();
        if let Some(partition) = stuck {
            log::info!("nothing comes of partition {partition}, which holds more; beginning to read it anew");
        }
        stuck.is_some()
    }

    /// Drops what was read and not written, and puts every partition that is ours where the database
    /// says; again whenever the database or the broker was away.
    fn go_on(&mut self, member: &Member) -> anyhow::Result<()> {
        self.batch.clear();
        self.bytes = 0;
        if self.sink.is_none() {
            // However it went: everything is looked up anew.
            self.sink = Some(self.writer.wait().sink);
        }
        let mut told = false;
        loop {
            let err = match self.seek(member) {
                Ok(()) => return Ok(()),
                Err(err) => err,
            };
            if let Some(BrokerError::Unread { passes: true, servers, why }) = err.downcast_ref() {
                if !std::mem::replace(&mut told, true) {
                    log::warn!("the broker {servers} can't be read from ({why}); the stream waits for it");
                }
                member.rest();
                self.wait_a_little(member)?;
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                continue;
            }
            match err.downcast::<DbError>() {
                Ok(err) if is_away(&err) => self.wait_for_database(member, err)?,
                Ok(DbError::Overtaken { .. }) => {}
                Ok(err) => return Err(err.into()),
                Err(err) => return Err(err),
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    fn seek(&mut self, member: &Member) -> anyhow::Result<()> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let assigned = member.assigned();
        sink.reload()?;
        if assigned.is_empty() {
            return Ok(());
        }
        let topic_id = member.topic_id(PATIENCE).unwrap_or_default();
        sink.reads(topic_id.clone());
        self.looked = Instant::now();
        let mut offsets = Vec::new();
        for partition in &assigned {
            let (low, high) = member.ends(*partition)?;
            let at = match sink.next_offset(*partition) {
                None => low,
                Some(from) if sink.is_of_another(*partition, topic_id.as_deref()) && from <= high => {
                    let (topic, partition, last) = (self.broker.topic.clone(), *partition, high - 1);
                    if !self.args.skip_lost {
                        return Err(LostOffsets::Anew { topic, partition, from, low, last }.into());
                    }
                    log::warn!("the topic {topic} was made anew; reading partition {partition} from {low} on");
                    let why = format!(
                        "the topic was made anew: offsets {from} and up of the old one are lost; went on at {low}"
                    );
                    sink.skip_to(partition, low, &why)?;
                    self.wanted.as_mut().map(|wanted| wanted.insert(partition, high));
                    low
                }
                Some(at) if (low..=high).contains(&at) => at,
                Some(at) => {
                    // Behind the end there can only be another topic of that name.
                    let (from, to) = if at < low { (at, low - 1) } else { (high, at - 1) };
                    let lost = LostOffsets::Gone { topic: self.broker.topic.clone(), partition: *partition, from, to };
                    if !self.args.skip_lost {
                        return Err(lost.into());
                    }
                    log::warn!("offsets {from} to {to} of partition {partition} are lost; going on at {low}");
                    sink.skip_to(*partition, low, &format!("offsets {from} to {to} are lost; went on at {low}"))?;
                    self.wanted.as_mut().map(|wanted| wanted.insert(*partition, high));
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

    /// Stays in the group, reading nothing, until the database answers again.
    fn wait_for_database(&mut self, member: &Member, err: DbError) -> anyhow::Result<()> {
        log::warn!("{err}; the stream waits for it");
        member.rest();
        while !self.stop.load(Ordering::Relaxed) {
            self.wait_a_little(member)?;
            match migrate::open_current(&self.settings.database_url) {
                Ok(opened) => {
                    if let Some(sink) = &mut self.sink {
                        sink.session.reopen(opened);
                    }
                    log::warn!("the database answers again; the stream goes on");
                    return Ok(());
                }
                Err(err) if is_away(&err) => log::debug!("{err}"),
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    /// Stays in the group meanwhile.
    fn wait_a_little(&self, member: &Member) -> anyhow::Result<()> {
        let waited = Instant::now();
        while waited.elapsed() < PAUSE && !self.stop.load(Ordering::Relaxed) {
            // What comes all the same is read again afterwards.
            member.poll(POLL, |_| ())?;
        }
        Ok(())
    }

    fn is_at_the_end(&self, member: &Member, sink: &StreamSink) -> bool {
        let Some(wanted) = &self.wanted else { return false };
        let assigned = member.assigned();
        !assigned.is_empty()
            && assigned.iter().all(|partition| match (wanted.get(partition), sink.next_offset(*partition)) {
                // Nothing waits to be stored when this is asked. The last offsets may be no messages.
                (Some(_), _) if member.was_at_end(*partition) => true,
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

/// Tells Kafka how far we are, for whoever looks at the lag.
fn tell(member: &Member, sink: &StreamSink, mode: CommitMode) {
    let offsets: Vec<(i32, i64)> =
        member.assigned().into_iter().filter_map(|partition| Some((partition, sink.next_offset(partition)?))).collect();
    if !offsets.is_empty() {
        member.tell(&offsets, mode);
    }
}
