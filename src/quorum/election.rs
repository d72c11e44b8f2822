//! What a voter must never forget: the epoch, who leads it, whom it voted for.

use uuid::Uuid;

use crate::types::{NodeId, kafka_id, parse_kafka_id};

/// A replica of the metadata log: a node with a certain directory. With another directory it is another voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaKey {
    /// Its `node.id`.
    pub id: NodeId,
    /// The directory that holds its log; nil where it is not known.
    pub directory_id: Uuid,
}

impl ReplicaKey {
    /// Whether `other` is this replica, as far as is known: an unknown directory matches any.
    pub fn accepts(self, other: Self) -> bool {
        self.id == other.id && (self.directory_id.is_nil() || self.directory_id == other.directory_id)
    }
}

/// The durable state of a voter (Kafka's `quorum-state` file).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ElectionState {
    /// The newest epoch that is known.
    pub epoch: i32,
    /// Who leads it, if that is known.
    pub leader: Option<NodeId>,
    /// Whom this voter voted for in it.
    pub voted: Option<ReplicaKey>,
}

impl ElectionState {
    /// The text of Kafka's file, version 1 of its schema (`QuorumStateData`).
    pub fn to_json(&self) -> String {
        let leader = self.leader.unwrap_or(-1);
        let voted = self.voted.unwrap_or(ReplicaKey { id: -1, directory_id: Uuid::nil() });
        format!(
            r#"{{"leaderId":{leader},"leaderEpoch":{},"votedId":{},"votedDirectoryId":"{}","data_version":1}}"#,
            self.epoch,
            voted.id,
            kafka_id(voted.directory_id)
        )
    }

    /// Reads that text; `None` where it is not one.
    pub fn from_json(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let mut fields = inner.split(',').filter_map(|field| field.split_once(':'));
        let mut number = |name: &str| -> Option<i32> {
            let quoted = format!("\"{name}\"");
            fields.by_ref().find(|(key, _)| key.trim() == quoted)?.1.trim().parse().ok()
        };
        let (leader, epoch, voted) = (number("leaderId")?, number("leaderEpoch")?, number("votedId")?);
        let directory = inner.split_once("\"votedDirectoryId\":\"")?.1.split('"').next()?;
        let directory_id = parse_kafka_id(directory)?;
        Some(Self {
            epoch,
            leader: (leader >= 0).then_some(leader),
            voted: (voted >= 0).then_some(ReplicaKey { id: voted, directory_id }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_kafkas_file() {
        let led = ElectionState { epoch: 3, leader: Some(1), voted: None };
        let kafkas = r#"{"leaderId":1,"leaderEpoch":3,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#;
        assert_eq!(led.to_json(), kafkas);
        assert_eq!(ElectionState::from_json(kafkas), Some(led));
        let voted = Some(ReplicaKey { id: 2, directory_id: Uuid::from_u128(77) });
        let state = ElectionState { epoch: 9, leader: None, voted };
        assert_eq!(ElectionState::from_json(&state.to_json()), Some(state));
        assert_eq!(ElectionState::from_json("{}"), None);
        assert_eq!(ElectionState::from_json("no json"), None);
    }
}
