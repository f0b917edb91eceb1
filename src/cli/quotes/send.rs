//! Events on their way to the broker, in batches, by a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::kafka::BrokerError;
use crate::kafka::config::BrokerSettings;
use crate::kafka::producer::{Event, EventProducer};

/// Nobody waits longer for an event.
const LONGEST: Duration = Duration::from_millis(100);
/// Events sent at a time, each time waiting for the broker to have all of them: many, for a market in
/// uproar must not wait for round trips.
const BATCH: usize = 10_000;

/// What is to be sent.
pub struct Item {
    pub event: Event,
    /// One of those that are counted.
    pub counts: bool,
}

pub struct Sending {
    sent: Arc<AtomicU64>,
    task: JoinHandle<Result<(), BrokerError>>,
}

/// Sends what `make` makes of everything that comes, until nothing comes any more or the broker fails.
pub fn start<T: Send + 'static>(
    broker: &BrokerSettings,
    mut items: mpsc::Receiver<T>,
    make: impl Fn(T) -> Item + Send + 'static,
) -> Result<Sending, BrokerError> {
    let producer = Arc::new(EventProducer::new(broker)?);
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let task = tokio::spawn(async move {
        loop {
            let Some(first) = items.recv().await else { return Ok(()) };
            let first = make(first);
            let (mut counted, mut events) = (u64::from(first.counts), vec![first.event]);
            let until = Instant::now() + LONGEST;
            while events.len() < BATCH
                && let Ok(Some(item)) = timeout_at(until, items.recv()).await
            {
                let item = make(item);
                counted += u64::from(item.counts);
                events.push(item.event);
            }
            let producer = producer.clone();
            let taken = tokio::task::spawn_blocking(move || producer.send(&events)).await;
            match taken {
                Ok(Ok(())) => counter.fetch_add(counted, Ordering::Relaxed),
                Ok(Err(err)) => return Err(err),
                Err(err) => std::panic::resume_unwind(err.into_panic()),
            };
        }
    });
    Ok(Sending { sent, task })
}

impl Sending {
    /// How many counted events the broker has, once it has the last one; the channel has to be closed before.
    pub async fn finish(self) -> (u64, Result<(), BrokerError>) {
        let result = match self.task.await {
            Ok(result) => result,
            Err(err) => std::panic::resume_unwind(err.into_panic()),
        };
        (self.sent.load(Ordering::Relaxed), result)
    }
}

/// What a stream has to say about its broker: what was not sent is not kept anywhere.
pub fn words(err: &BrokerError) -> String {
    match err {
        BrokerError::Unreachable { servers, why } => {
            format!(
                "the broker {servers} can't be reached ({why}); check that it runs and KAFKA_BOOTSTRAP_SERVERS, and run again"
            )
        }
        BrokerError::NotTaken { key, why } => format!("the broker did not take an event of {key} ({why})"),
        other => other.to_string(),
    }
}
