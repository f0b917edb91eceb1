//! A topic of its own for a test, on the real broker, and what is in it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use super::test_db::loud;
use super::workdir::Cmd;

const PATIENCE: Duration = Duration::from_secs(20);

/// A name for a topic that is not there yet, on a broker that is.
pub struct Topic {
    pub servers: String,
    pub name: String,
    producer: OnceLock<BaseProducer>,
}

/// One message of a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub partition: i32,
    pub key: String,
    pub event: Value,
}

impl Topic {
    /// `None` when the tests were told of no broker.
    pub fn new() -> Option<Topic> {
        let servers = std::env::var("COINETL_TEST_KAFKA_SERVERS").unwrap_or_default();
        if servers.is_empty() {
            let why = "SKIPPED kafka: COINETL_TEST_KAFKA_SERVERS is not set";
            loud(why);
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}, and CI must not skip");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Topic::at(servers, name))
    }

    /// One on a broker that the test has for itself.
    pub fn at(servers: String, name: String) -> Topic {
        Topic { servers, name, producer: OnceLock::new() }
    }

    /// Lets a command use this topic.
    pub fn on(&self, cmd: Cmd) -> Cmd {
        cmd.env("KAFKA_BOOTSTRAP_SERVERS", &self.servers).env("KAFKA_TOPIC", &self.name)
    }

    /// Makes it, with so many partitions and these properties.
    pub fn make(&self, partitions: i32, properties: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.servers).create().expect("an admin client");
        let mut new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        for (name, value) in properties {
            new = new.set(name, value);
        }
        let made = block_on(admin.create_topics([&new], &AdminOptions::new())).expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        super::workdir::wait_until(|| self.partitions() == partitions);
    }

    pub fn delete(&self) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", &self.servers).create().expect("an admin client");
        block_on(admin.delete_topics(&[&self.name], &AdminOptions::new())).expect("an answer");
        super::workdir::wait_until(|| self.partitions() == 0);
    }

    fn producer(&self) -> &BaseProducer {
        self.producer.get_or_init(|| {
            ClientConfig::new()
                .set("bootstrap.servers", &self.servers)
                .set("enable.idempotence", "true")
                .set("message.max.bytes", "4000000")
                .create()
                .expect("a producer")
        })
    }

    /// Sends these bytes, or none, to partitions of the test's choice.
    pub fn send_raw(&self, messages: &[(i32, Option<Vec<u8>>)]) {
        let producer = self.producer();
        for (partition, payload) in messages {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.name).key(b"k".as_slice());
            record = record.partition(*partition);
            if let Some(payload) = payload {
                record = record.payload(payload);
            }
            while let Err((_, back)) = producer.send(record) {
                producer.poll(Duration::from_millis(20));
                record = back;
            }
        }
        producer.flush(PATIENCE).expect("all are taken");
    }

    /// Sends these, key and payload, in their order.
    pub fn send(&self, messages: &[(String, String)]) {
        let producer = self.producer();
        for (key, payload) in messages {
            let mut record = BaseRecord::to(&self.name).key(key).payload(payload);
            while let Err((_, back)) = producer.send(record) {
                producer.poll(Duration::from_millis(20));
                record = back;
            }
        }
        producer.flush(PATIENCE).expect("all are taken");
    }

    /// Sends these in a transaction, which ends well or not.
    pub fn send_in_transaction(&self, messages: &[(String, String)], well: bool) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("transactional.id", format!("of-{}", self.name))
            .create()
            .expect("a producer");
        producer.init_transactions(PATIENCE).expect("transactions");
        producer.begin_transaction().expect("a transaction");
        for (key, payload) in messages {
            producer.send(BaseRecord::to(&self.name).key(key).payload(payload)).map_err(|(err, _)| err).expect("room");
        }
        producer.flush(PATIENCE).expect("all are taken");
        match well {
            true => producer.commit_transaction(PATIENCE).expect("a commit"),
            false => producer.abort_transaction(PATIENCE).expect("an abort"),
        }
    }

    /// Where Kafka thinks that a group is, all partitions together.
    pub fn committed(&self, group: &str) -> i64 {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("group.id", group)
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.name, 0, self.partitions() - 1);
        let committed = consumer.committed_offsets(list, PATIENCE).expect("offsets");
        committed.elements().iter().filter_map(|element| element.offset().to_raw()).filter(|at| *at >= 0).sum()
    }

    fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.servers)
            .set("group.id", "reader-of-the-tests")
            .set("enable.auto.commit", "false")
            .create()
            .expect("a consumer")
    }

    /// How many partitions it has; 0 when it is not there.
    pub fn partitions(&self) -> i32 {
        let metadata = self.consumer().fetch_metadata(Some(&self.name), PATIENCE).expect("metadata of the topic");
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.name);
        topic.filter(|topic| topic.error().is_none()).map_or(0, |topic| topic.partitions().len() as i32)
    }

    /// Everything in it, partition by partition, in its order there.
    pub fn read(&self) -> Vec<Sent> {
        let sent = |(partition, _, key, payload): (i32, i64, Vec<u8>, Vec<u8>)| {
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
            Sent { partition, key: text(key), event: serde_json::from_str(&text(payload)).expect("JSON") }
        };
        self.read_raw().into_iter().map(sent).collect()
    }

    /// The same as it came: partition, offset, key and payload.
    pub fn read_raw(&self) -> Vec<(i32, i64, Vec<u8>, Vec<u8>)> {
        let consumer = self.consumer();
        let (mut from, mut left) = (TopicPartitionList::new(), 0);
        for partition in 0..self.partitions() {
            let (low, high) = consumer.fetch_watermarks(&self.name, partition, PATIENCE).expect("the ends of the log");
            left += high - low;
            from.add_partition_offset(&self.name, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&from).expect("an assignment");
        let (mut read, started) = (Vec::new(), Instant::now());
        while left > 0 {
            assert!(started.elapsed() < PATIENCE, "{left} messages did not come");
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            let message = message.expect("a message");
            let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
            read.push((message.partition(), message.offset(), bytes(message.key()), bytes(message.payload())));
            left -= 1;
        }
        read.sort_by_key(|(partition, offset, ..)| (*partition, *offset));
        read
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}
