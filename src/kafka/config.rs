//! Settings for librdkafka: any property of it as `KAFKA_<PROPERTY_WITH_UNDERSCORES>`.

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret, SecretString};

use super::BrokerError;

const PREFIX: &str = "KAFKA_";
/// Not librdkafka's.
const OURS: [&str; 3] = ["KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPIC", "KAFKA_GROUP"];

/// How to reach the broker. Values may be passwords, so none is printed.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    pub servers: String,
    pub topic: String,
    pub group: String,
    properties: Vec<Property>,
}

#[derive(Debug, Clone)]
struct Property {
    /// The setting's name, for messages.
    setting: String,
    name: String,
    value: SecretString,
}

impl BrokerSettings {
    /// `None` where no broker is set. `variables` are all settings, ours and others'.
    pub fn read(variables: &[(String, String)]) -> Option<BrokerSettings> {
        let get = |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let servers = get("KAFKA_BOOTSTRAP_SERVERS")?;
        let properties = variables
            .iter()
            .filter(|(key, _)| key.starts_with(PREFIX) && !OURS.contains(&key.as_str()))
            .map(|(key, value)| Property {
                setting: key.clone(),
                name: key[PREFIX.len()..].to_ascii_lowercase().replace('_', "."),
                value: SecretString::from(value.clone()),
            })
            .collect();
        let topic = get("KAFKA_TOPIC").unwrap_or_else(|| "crypto_prices".to_owned());
        let group = get("KAFKA_GROUP").unwrap_or_else(|| "coinetl".to_owned());
        Some(BrokerSettings { servers, topic, group, properties })
    }

    /// What every client of ours has in common; the user's properties go before ours, but for those that
    /// are needed for nothing to be lost or doubled.
    pub fn client(&self, ours: &[(&str, &str)], needed: &[(&str, &str)]) -> Result<ClientConfig, BrokerError> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config.set("client.id", "coinetl");
        for (name, value) in ours.iter().chain(needed) {
            config.set(*name, *value);
        }
        for Property { setting, name, value } in &self.properties {
            // The other name of it.
            let name = if name == "request.required.acks" { "acks" } else { name };
            if let Some((_, needed)) = needed.iter().find(|(needed, _)| *needed == name) {
                if value.expose_secret() != *needed {
                    log::warn!("{setting} is left out: {name} has to be {needed} for nothing to be lost or doubled");
                }
                continue;
            }
            if name == "partition.assignment.strategy" && value.expose_secret().contains("cooperative") {
                // Once, by the client that it matters to.
                if !needed.is_empty() {
                    log::warn!("{setting} is left out: partitions change hands all at once here, not cooperatively");
                }
                continue;
            }
            let mut tried = config.clone();
            tried.set(name, value.expose_secret());
            match tried.create_native_config() {
                Ok(_) => config = tried,
                Err(err) if err.to_string().contains("No such configuration property") => {
                    // Kafka's own tools have settings that begin like ours.
                    log::warn!("{setting} is no property of librdkafka ({name}), so it is left out");
                }
                Err(err) => {
                    let why = without(&err.to_string(), value.expose_secret());
                    return Err(BrokerError::Setting { name: setting.clone(), property: name.to_owned(), why });
                }
            }
        }
        Ok(config)
    }
}

fn without(text: &str, secret: &str) -> String {
    if secret.is_empty() { text.to_owned() } else { text.replace(secret, "***") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Option<BrokerSettings> {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        BrokerSettings::read(&pairs)
    }

    #[test]
    fn any_property_can_be_set() {
        assert!(settings(&[("KAFKA_TOPIC", "t")]).is_none());
        let broker = settings(&[
            ("KAFKA_BOOTSTRAP_SERVERS", "h:1"),
            ("KAFKA_MESSAGE_TIMEOUT_MS", "1234"),
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
        ])
        .unwrap();
        assert_eq!(broker.topic, "crypto_prices");
        let config = broker.client(&[("message.timeout.ms", "9"), ("acks", "all")], &[]).unwrap();
        assert_eq!((config.get("message.timeout.ms"), config.get("acks")), (Some("1234"), Some("all")));
        assert_eq!(config.get("heap.opts"), None);
    }

    #[test]
    fn what_is_needed_can_t_be_set() {
        let broker = settings(&[
            ("KAFKA_BOOTSTRAP_SERVERS", "h:1"),
            ("KAFKA_REQUEST_REQUIRED_ACKS", "0"),
            ("KAFKA_ENABLE_IDEMPOTENCE", "false"),
            ("KAFKA_PARTITION_ASSIGNMENT_STRATEGY", "cooperative-sticky"),
        ]);
        let config = broker.unwrap().client(&[], &[("acks", "all"), ("enable.idempotence", "true")]).unwrap();
        let set = ["acks", "request.required.acks", "enable.idempotence", "partition.assignment.strategy"];
        assert_eq!(set.map(|name| config.get(name)), [Some("all"), None, Some("true"), None]);
    }

    #[test]
    fn a_bad_value_names_its_setting_and_not_itself() {
        let broker =
            settings(&[("KAFKA_BOOTSTRAP_SERVERS", "h:1"), ("KAFKA_SASL_MECHANISM", "hush"), ("KAFKA_ACKS", "hush")]);
        let err = broker.unwrap().client(&[], &[]).unwrap_err().to_string();
        assert!(err.contains("KAFKA_ACKS") && !err.contains("hush"), "{err}");
    }
}
