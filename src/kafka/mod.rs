//! The only user of librdkafka: settings, topics, and a producer that loses nothing.

pub mod config;
pub mod consumer;
pub mod producer;
pub mod topic;
mod topic_id;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What can go wrong with a broker, in the words of somebody who can act on it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("no broker is set; set KAFKA_BOOTSTRAP_SERVERS=host:port, and run again")]
    NotSet,
    #[error(
        "the broker {servers} can't be reached ({why}); check that it runs and KAFKA_BOOTSTRAP_SERVERS, and run again: what was not sent stays due"
    )]
    Unreachable { servers: String, why: String },
    #[error(
        "the broker {servers} can't be read from ({why}); check that it runs and KAFKA_BOOTSTRAP_SERVERS, and run again: what is stored is stored, and the next run goes on behind it"
    )]
    Unread { servers: String, why: String, passes: bool },
    #[error(
        "the broker {servers} refuses us ({why}); check KAFKA_SECURITY_PROTOCOL and the other KAFKA_… settings, and our rights there"
    )]
    Refused { servers: String, why: String },
    #[error(
        "the topic {topic} is not there and we may not make it ({why}); ask for it: kafka-topics.sh --create --topic {topic}, or rpk topic create {topic}"
    )]
    NoTopic { topic: String, why: String },
    #[error("the setting {name} is not usable: {why}; see librdkafka's CONFIGURATION.md for the property {property}")]
    Setting { name: String, property: String, why: String },
    #[error("the broker did not take an event of {key} ({why}); it and all behind it stay due")]
    NotTaken { key: String, why: String },
}

impl BrokerError {
    /// The same, of somebody who reads.
    fn of_reading(servers: &str, err: &KafkaError) -> BrokerError {
        let passes = matches!(
            err.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::BrokerNotAvailable
                    | RDKafkaErrorCode::ReplicaNotAvailable
            )
        );
        match BrokerError::of(servers, err) {
            BrokerError::Unreachable { servers, why } => BrokerError::Unread { servers, why, passes },
            other => other,
        }
    }

    /// Sorts what librdkafka says.
    fn of(servers: &str, err: &KafkaError) -> BrokerError {
        let (servers, why) = (servers.to_owned(), err.to_string());
        match err.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::SSL,
            ) => BrokerError::Refused { servers, why },
            _ => BrokerError::Unreachable { servers, why },
        }
    }
}

/// Messages that were to be read next and are not there.
#[derive(Debug, thiserror::Error)]
pub enum LostOffsets {
    #[error(
        "offsets {from} to {to} of partition {partition} are not in the topic {topic} any more: retention deleted them, or the \
         topic was made anew; go on behind them with --skip-lost, which records it, or restore the topic"
    )]
    Gone { topic: String, partition: i32, from: i64, to: i64 },
    #[error(
        "the topic {topic} was deleted and made anew, so that offsets {from} and up of the old one's partition {partition} are \
         lost, and offsets {low} to {last} of the new one were never read: read all of the new one with --skip-lost, which \
         records what is lost, or restore the topic"
    )]
    Anew { topic: String, partition: i32, from: i64, low: i64, last: i64 },
}
