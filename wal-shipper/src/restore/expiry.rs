//! How long the target keeps messages: set last, and only of topics that are whole, so that nothing goes before it was
//! compared.

use std::collections::BTreeSet;

use kennel_protocol::ids::PartitionKey;

use super::plan::TopicPlan;
use super::target::{TargetError, Topics};

/// Gives the topics whose chosen partitions are all `whole` the expiry that they had at the source; what became of each.
///
/// # Cancel safety
/// Safe to repeat: an expiry that is set is set again.
pub(super) async fn set_expiries<'a>(
    target: &mut dyn Topics,
    topics: &'a [TopicPlan],
    whole: &BTreeSet<PartitionKey>,
) -> Vec<(&'a TopicPlan, Result<(), TargetError>)> {
    let mut done = Vec::new();
    for topic in topics.iter().filter(|topic| topic.partitions.iter().all(|partition| whole.contains(partition))) {
        let Some(micros) = topic.message_expiry_micros else { continue };
        done.push((topic, target.set_expiry(topic, micros).await));
    }
    done
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;

    /// Remembers what it was told. It refuses the topic `closed`.
    #[derive(Default)]
    struct Told(Vec<(String, u64)>);

    #[async_trait]
    impl Topics for Told {
        async fn prepare(&mut self, _topic: &TopicPlan) -> Result<(), TargetError> {
            Ok(())
        }

        async fn set_expiry(&mut self, topic: &TopicPlan, micros: u64) -> Result<(), TargetError> {
            if topic.topic == "closed" {
                return Err(TargetError::Refused { what: "to set an expiry", reason: "no permission".to_owned() });
            }
            self.0.push((topic.topic.clone(), micros));
            Ok(())
        }
    }

    fn topic(name: &str, expiry: Option<u64>, partitions: &[&str]) -> TopicPlan {
        TopicPlan {
            stream: "s".to_owned(),
            topic: name.to_owned(),
            partitions_count: 2,
            message_expiry_micros: expiry,
            partitions: partitions.iter().map(|key| key.parse().expect("a partition")).collect(),
        }
    }

    #[tokio::test]
    async fn whole_topics_alone_get_their_expiry_back() {
        let topics = [
            topic("whole", Some(60), &["0/0/0", "0/0/1"]),
            topic("half", Some(60), &["0/1/0", "0/1/1"]),
            topic("kept for ever", None, &["0/2/0"]),
            topic("closed", Some(60), &["0/3/0"]),
            topic("another", Some(70), &["0/4/0"]),
        ];
        let whole = ["0/0/0", "0/0/1", "0/1/1", "0/2/0", "0/3/0", "0/4/0"].map(|key| key.parse().expect("a partition"));
        let mut target = Told::default();
        let done = set_expiries(&mut target, &topics, &whole.into()).await;
        let done: Vec<_> = done.iter().map(|(topic, set)| (topic.topic.as_str(), set.is_ok())).collect();
        assert_eq!(done, [("whole", true), ("closed", false), ("another", true)]);
        assert_eq!(target.0, [("whole".to_owned(), 60), ("another".to_owned(), 70)]);
    }
}
