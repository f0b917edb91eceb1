//! A member of a consumer group that goes on where the database says, not where Kafka thinks.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::BrokerError;
use super::config::BrokerSettings;
use super::topic_id::{Looker, Untold};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the callbacks leave for the reading thread.
#[derive(Default)]
struct Shared {
    /// Counts the changes of the assignment.
    changes: AtomicU64,
    assigned: Mutex<Vec<i32>>,
    /// The broker is away, and it was told.
    told_down: AtomicBool,
    /// Where each partition ended, when a broker last said so.
    ends: Mutex<HashMap<i32, i64>>,
    /// Partitions of which everything was handed out, at some time since they were put somewhere.
    at_end: Mutex<HashSet<i32>>,
}

struct Context(Arc<Shared>);

impl ClientContext for Context {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        log::debug!("librdkafka: {facility}: {message}");
    }

    fn stats(&self, statistics: rdkafka::Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| &topic.partitions);
        // Of a partition that is not fetched nothing is known.
        let known = partitions.filter(|(partition, of)| **partition >= 0 && of.hi_offset >= 0);
        *lock(&self.0.ends) = known.map(|(partition, of)| (*partition, of.hi_offset)).collect();
    }

    fn error(&self, err: KafkaError, reason: &str) {
        let down = err.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if down && !self.0.told_down.swap(true, Ordering::Relaxed) {
            log::warn!("no broker answers; waiting for one ({reason})");
        } else {
            log::debug!("librdkafka: {err}: {reason}");
        }
    }
}

impl ConsumerContext for Context {
    /// Nothing is fetched of new partitions before the database has said where to go on: for now they are none.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let (partitions, done) = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let ours = list.elements().iter().map(|element| element.partition()).collect();
                (ours, consumer.assign(&TopicPartitionList::new()))
            }
            _ => (Vec::new(), consumer.unassign()),
        };
        if let Err(err) = done {
            log::debug!("librdkafka: a change of assignment: {err}");
        }
        self.changed(partitions);
    }
}

impl Context {
    fn changed(&self, partitions: Vec<i32>) {
        *lock(&self.0.assigned) = partitions;
        self.0.changes.fetch_add(1, Ordering::SeqCst);
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Member {
    consumer: BaseConsumer<Context>,
    looker: Looker,
    shared: Arc<Shared>,
    servers: String,
    topic: String,
}

/// A record of the topic.
pub struct Record<'a> {
    pub partition: i32,
    pub offset: i64,
    /// Its own time, in milliseconds since 1970.
    pub time_ms: Option<i64>,
    pub payload: &'a [u8],
}

impl Member {
    pub fn join(broker: &BrokerSettings, group: &str) -> Result<Member, BrokerError> {
        let needed = [
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Where to go on is always said; an offset that is not there is an error to tell.
            ("auto.offset.reset", "error"),
            // The end is not always behind a message: a transaction's marks take offsets, too.
            ("enable.partition.eof", "true"),
            // Partitions come and go all at once.
            ("group.protocol", "classic"),
        ];
        let ours = [
            // Memory: what waits to be read, and how much more one answer may bring, which is compressed still.
            // librdkafka asks for more by itself where a single message is larger.
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.message.max.bytes", "262144"),
            ("queued.min.messages", "50000"),
            // How long a full queue stops the fetching: it is empty again long before the default of 1 s.
            ("fetch.queue.backoff.ms", "10"),
            ("statistics.interval.ms", "5000"),
        ];
        let config = broker.client(&ours, &needed)?;
        let shared = Arc::new(Shared::default());
        let consumer = BaseConsumer::from_config_and_context(&config, Context(shared.clone()))
            .map_err(|err| BrokerError::of_reading(&broker.servers, &err))?;
        consumer.subscribe(&[&broker.topic]).map_err(|err| BrokerError::of_reading(&broker.servers, &err))?;
        let looker = Looker::new(broker)?;
        Ok(Member { consumer, looker, shared, servers: broker.servers.clone(), topic: broker.topic.clone() })
    }

    /// Grows whenever partitions come or go.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::SeqCst)
    }

    pub fn assigned(&self) -> Vec<i32> {
        lock(&self.shared.assigned).clone()
    }

    /// Where a partition ended a few seconds ago, without asking anybody.
    pub fn known_end(&self, partition: i32) -> Option<i64> {
        lock(&self.shared.ends).get(&partition).copied()
    }

    /// Takes the next record, waiting for one a while.
    pub fn poll<T>(&self, patience: Duration, take: impl FnOnce(Record<'_>) -> T) -> Result<Option<T>, BrokerError> {
        match self.consumer.poll(patience) {
            None => Ok(None),
            Some(Ok(message)) => {
                self.shared.told_down.store(false, Ordering::Relaxed);
                Ok(Some(take(Record {
                    partition: message.partition(),
                    offset: message.offset(),
                    time_ms: message.timestamp().to_millis(),
                    payload: message.payload().unwrap_or_default(),
                })))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                lock(&self.shared.at_end).insert(partition);
                Ok(None)
            }
            Some(Err(err)) => match err.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::SaslAuthenticationFailed,
                ) => Err(self.unread(&err)),
                // Its remedy is the look at the log's ends that follows a change.
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                    self.shared.changes.fetch_add(1, Ordering::SeqCst);
                    Ok(None)
                }
                _ => {
                    log::debug!("librdkafka: {err}");
                    Ok(None)
                }
            },
        }
    }

    /// Whether all that was in a partition when `go_on_at` was called was handed out since.
    pub fn was_at_end(&self, partition: i32) -> bool {
        lock(&self.shared.at_end).contains(&partition)
    }

    /// First and last offset (exclusive) that a partition holds.
    pub fn ends(&self, partition: i32) -> Result<(i64, i64), BrokerError> {
        self.consumer.fetch_watermarks(&self.topic, partition, PATIENCE).map_err(|err| self.unread(&err))
    }

    /// The id of the topic of that name that is there now; `None` from a broker that gives none.
    pub fn topic_id(&self, patience: Duration) -> Result<Option<String>, Untold> {
        self.looker.topic_id(&self.topic, patience)
    }

    /// Reads these partitions from these offsets on.
    pub fn go_on_at(&self, offsets: &[(i32, i64)]) -> Result<(), BrokerError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))
                .map_err(|err| self.unread(&err))?;
        }
        lock(&self.shared.at_end).clear();
        self.stop_fetching().and_then(|()| self.consumer.assign(&list)).map_err(|err| self.unread(&err))
    }

    /// Puts down what is fetched, and waits until that is done: librdkafka up to 2.15 aborts the process when a
    /// partition that it is stopping is begun and stopped anew (its issue 5573).
    fn stop_fetching(&self) -> KafkaResult<()> {
        if self.consumer.assignment()?.count() == 0 {
            return Ok(());
        }
        self.consumer.unassign()?;
        // Its main thread takes what is asked of it in turn: the stops of `unassign`, then the first question,
        // then that the stops were made; the answer to the second question comes after all of these.
        self.consumer.assignment()?;
        self.consumer.assignment()?;
        Ok(())
    }

    fn unread(&self, err: &KafkaError) -> BrokerError {
        BrokerError::of_reading(&self.servers, err)
    }

    /// Nothing is handed out until the next `go_on_at`.
    pub fn rest(&self) {
        if let Err(err) = self.stop_fetching() {
            log::debug!("putting partitions down: {err}");
        }
    }

    /// Tells Kafka how far we are: for people and tools that look at the lag, not for us.
    pub fn tell(&self, offsets: &[(i32, i64)], mode: CommitMode) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            if list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).is_err() {
                return;
            }
        }
        if let Err(err) = self.consumer.commit(&list, mode) {
            log::debug!("telling Kafka how far we are: {err}");
        }
    }
}
