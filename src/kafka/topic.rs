//! Makes sure that a topic is there.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::RDKafkaErrorCode;

use super::BrokerError;
use super::config::BrokerSettings;

const PATIENCE: Duration = Duration::from_secs(10);

/// How a topic is made that is not there yet; `None` = as the broker has it by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    pub partitions: Option<i32>,
    pub replication: Option<i32>,
}

/// Looks for the topic and makes it where it may. The number of its partitions.
pub async fn ensure(broker: &BrokerSettings, shape: Shape) -> Result<usize, BrokerError> {
    let admin: AdminClient<DefaultClientContext> =
        AdminClient::from_config(&broker.client(&[], &[])?).map_err(|err| BrokerError::of(&broker.servers, &err))?;
    if let Some(partitions) = partitions(&admin, broker)? {
        return Ok(partitions);
    }
    let new = NewTopic::new(
        &broker.topic,
        shape.partitions.unwrap_or(-1),
        TopicReplication::Fixed(shape.replication.unwrap_or(-1)),
    );
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let made = admin.create_topics([&new], &options).await.map_err(|err| BrokerError::of(&broker.servers, &err))?;
    for result in made {
        match result {
            // Somebody was faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(BrokerError::NoTopic { topic, why: code.to_string() }),
        }
    }
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(partitions) = partitions(&admin, broker)? {
            return Ok(partitions);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let why = "it was made and did not appear".to_owned();
    Err(BrokerError::NoTopic { topic: broker.topic.clone(), why })
}

/// Whether the broker answers, and the number of the topic's partitions if it is there.
pub fn look(broker: &BrokerSettings) -> Result<Option<usize>, BrokerError> {
    let admin =
        AdminClient::from_config(&broker.client(&[], &[])?).map_err(|err| BrokerError::of(&broker.servers, &err))?;
    partitions(&admin, broker)
}

fn partitions(
    admin: &AdminClient<DefaultClientContext>,
    broker: &BrokerSettings,
) -> Result<Option<usize>, BrokerError> {
    let metadata = admin
        .inner()
        .fetch_metadata(Some(&broker.topic), PATIENCE)
        .map_err(|err| BrokerError::of(&broker.servers, &err))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == broker.topic);
    Ok(topic
        .filter(|topic| topic.error().is_none() && !topic.partitions().is_empty())
        .map(|topic| topic.partitions().len()))
}
