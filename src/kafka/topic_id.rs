//! A topic's id, which a broker gives it when it is made: a topic that was deleted and made again under
//! its old name has another.
//!
//! The `rdkafka` crate has no call for it, librdkafka has (`DescribeTopics`), so this goes down to it.

use std::ffi::{CStr, CString};
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::bindings::{self as ffi, rd_kafka_admin_op_t, rd_kafka_resp_err_t};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafka;

use super::BrokerError;
use super::config::BrokerSettings;

/// Why no id was told: the broker does not answer, or has no such topic now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untold;

/// A client for nothing but this. A consumer's own connection is no place to ask: the broker answers there
/// only when the fetch before it is over, which waits half a second for messages where there are none.
pub struct Looker(AdminClient<Quiet>);

struct Quiet;

impl ClientContext for Quiet {
    // What a broker that is away means is told by those who need it.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        log::debug!("librdkafka: {facility}: {message}");
    }

    fn error(&self, err: KafkaError, reason: &str) {
        log::debug!("librdkafka: {err}: {reason}");
    }
}

impl Looker {
    pub fn new(broker: &BrokerSettings) -> Result<Looker, BrokerError> {
        let client = AdminClient::from_config_and_context(&broker.client(&[], &[])?, Quiet);
        client.map(Looker).map_err(|err| BrokerError::of(&broker.servers, &err))
    }

    /// The topic's id; `None` from a broker that gives none (Kafka before 2.8, some that speak its protocol).
    pub fn topic_id(&self, topic: &str, patience: Duration) -> Result<Option<String>, Untold> {
        // The client lives as long as we do.
        unsafe { read(self.0.inner().native_ptr(), topic, patience) }
    }
}

/// # Safety
///
/// `client` is a living client of librdkafka.
unsafe fn read(client: *mut RDKafka, topic: &str, patience: Duration) -> Result<Option<String>, Untold> {
    let name = CString::new(topic).map_err(|_| Untold)?;
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    unsafe {
        let queue = Owned::new(ffi::rd_kafka_queue_new(client), ffi::rd_kafka_queue_destroy)?;
        let mut names = [name.as_ptr()];
        let topics = ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let topics = Owned::new(topics, ffi::rd_kafka_TopicCollection_destroy)?;
        let operation = rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options =
            Owned::new(ffi::rd_kafka_AdminOptions_new(client, operation), ffi::rd_kafka_AdminOptions_destroy)?;
        let mut why = [0; 128];
        ffi::rd_kafka_AdminOptions_set_request_timeout(options.get(), millis, why.as_mut_ptr(), why.len());
        ffi::rd_kafka_DescribeTopics(client, topics.get(), options.get(), queue.get());
        // The request's own time limit ends it first.
        let event = ffi::rd_kafka_queue_poll(queue.get(), millis.saturating_add(1_000));
        let event = Owned::new(event, ffi::rd_kafka_event_destroy)?;
        if ffi::rd_kafka_event_error(event.get()) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Untold);
        }
        let result = NonNull::new(ffi::rd_kafka_event_DescribeTopics_result(event.get()).cast_mut()).ok_or(Untold)?;
        let mut count = 0;
        let described = ffi::rd_kafka_DescribeTopics_result_topics(result.as_ptr(), &mut count);
        if described.is_null() || count != 1 {
            return Err(Untold);
        }
        let described = *described;
        let error = ffi::rd_kafka_TopicDescription_error(described);
        if !error.is_null() && ffi::rd_kafka_error_code(error) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(Untold);
        }
        // All of this belongs to the event.
        let id = ffi::rd_kafka_TopicDescription_topic_id(described);
        if id.is_null() {
            return Ok(None);
        }
        let halves = (ffi::rd_kafka_Uuid_most_significant_bits(id), ffi::rd_kafka_Uuid_least_significant_bits(id));
        let text = ffi::rd_kafka_Uuid_base64str(id);
        Ok((halves != (0, 0) && !text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

/// Something of librdkafka's that is ours to give back.
struct Owned<T> {
    it: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(it: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, Untold> {
        NonNull::new(it).map(|it| Owned { it, destroy }).ok_or(Untold)
    }

    fn get(&self) -> *mut T {
        self.it.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        unsafe { (self.destroy)(self.get()) }
    }
}
