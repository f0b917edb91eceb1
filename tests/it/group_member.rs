//! A member of a consumer group by itself, on a real Kafka.

use std::time::{Duration, Instant};

use coinetl::kafka::config::BrokerSettings;
use coinetl::kafka::consumer::Member;

use crate::support::kafka::Topic;

const PARTITIONS: i32 = 60;

/// librdkafka ends the whole process when a partition that is being stopped is stopped once more
/// (its issue 5573): a member that was put somewhere else and asked to go in the same moment died of it.
#[test]
fn a_member_may_be_put_elsewhere_and_go_at_any_moment() {
    let Some(topic) = Topic::new() else { return };
    topic.make(PARTITIONS, &[]);
    let messages: Vec<_> = (0..PARTITIONS).map(|partition| (partition, Some(b"one".to_vec()))).collect();
    topic.send_raw(&messages);
    let settings = [("KAFKA_BOOTSTRAP_SERVERS", &topic.servers), ("KAFKA_TOPIC", &topic.name)];
    let broker = BrokerSettings::read(&settings.map(|(name, value)| (name.to_owned(), value.clone()))).unwrap();
    let places: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    for times in 1..=3 {
        let member = Member::join(&broker, &topic.name).unwrap();
        let begun = Instant::now();
        while member.assigned().len() < places.len() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it became a member");
            member.poll(Duration::from_millis(50), |_| ()).unwrap();
        }
        for _ in 0..times * 100 {
            member.go_on_at(&places).unwrap();
        }
        // It hands out all there is, from where it was put last.
        let (mut read, begun) = (Vec::new(), Instant::now());
        while read.len() < places.len() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{read:?}");
            read.extend(member.poll(Duration::from_millis(50), |record| (record.partition, record.offset)).unwrap());
        }
        read.sort_unstable();
        assert_eq!(read, places);
        member.go_on_at(&places).unwrap();
        drop(member);
    }
}
