//! A producer that says when events are safe: idempotent, acknowledged by all replicas, in order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::BrokerError;
use super::config::BrokerSettings;

/// Longest that an event may take to be acknowledged, retries included.
const MESSAGE_TIMEOUT_MS: &str = "20000";
const POLL: Duration = Duration::from_millis(100);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub key: String,
    pub payload: Vec<u8>,
}

#[derive(Default)]
struct Context {
    /// The first event that was not taken, and why.
    failed: Arc<Mutex<Option<(String, KafkaError)>>>,
}

impl ClientContext for Context {
    // librdkafka tells every try; the one error that ends a run is told by the run.
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        log::debug!("librdkafka: {facility}: {message}");
    }

    fn error(&self, err: KafkaError, reason: &str) {
        log::debug!("librdkafka: {err}: {reason}");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((err, message)) = result {
            let key = message.key().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert((key, err.clone()));
        }
    }
}

pub struct EventProducer {
    producer: BaseProducer<Context>,
    failed: Arc<Mutex<Option<(String, KafkaError)>>>,
    servers: String,
    topic: String,
}

impl EventProducer {
    pub fn new(broker: &BrokerSettings) -> Result<Self, BrokerError> {
        let ours = [
            ("compression.type", "lz4"),
            ("linger.ms", "20"),
            ("batch.size", "262144"),
            ("message.timeout.ms", MESSAGE_TIMEOUT_MS),
            // A transaction's worth of events is bounded by the caller; this bounds their bytes.
            ("queue.buffering.max.kbytes", "32768"),
        ];
        let config = broker.client(&ours, &[("enable.idempotence", "true"), ("acks", "all")])?;
        let context = Context::default();
        let failed = context.failed.clone();
        let producer = BaseProducer::from_config_and_context(&config, context)
            .map_err(|err| BrokerError::of(&broker.servers, &err))?;
        Ok(EventProducer { producer, failed, servers: broker.servers.clone(), topic: broker.topic.clone() })
    }

    /// Sends all of these, and returns when the broker has taken every one. After an error some of them
    /// may be there: they are sent again by the next try, and who reads them knows an event by its key.
    pub fn send(&self, events: &[Event]) -> Result<(), BrokerError> {
        for event in events {
            let mut record = BaseRecord::to(&self.topic).key(&event.key).payload(&event.payload);
            let started = Instant::now();
            while let Err((err, back)) = self.producer.send(record) {
                let full = err.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !full || started.elapsed() > Duration::from_secs(60) {
                    return Err(BrokerError::NotTaken { key: event.key.clone(), why: err.to_string() });
                }
                self.producer.poll(POLL);
                record = back;
            }
        }
        // A flush waits for nothing to be added to what goes out, as a poll would.
        while self.producer.in_flight_count() > 0 {
            let _ = self.producer.flush(POLL);
            self.check()?;
        }
        self.check()
    }

    fn check(&self) -> Result<(), BrokerError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((key, err)) = failed else { return Ok(()) };
        Err(match err.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::AllBrokersDown) => {
                let why = "it takes no events".to_owned();
                BrokerError::Unreachable { servers: self.servers.clone(), why }
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => BrokerError::of(&self.servers, &err),
            _ => BrokerError::NotTaken { key, why: err.to_string() },
        })
    }
}

impl Drop for EventProducer {
    fn drop(&mut self) {
        // Nothing that is still in the queue is counted as sent: it must not hold up the end.
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}
