//! What may be wrong with brokers or their controller, to see that it is noticed.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Mutant {
    /// The leader does not wait for followers in sync.
    CommitsAlone,
    /// A follower that has left comes back into the ISR before it has what is committed.
    JoinsTooEarly,
    /// The leader forgets whom it asked the controller to take in.
    ForgetsJoining,
    /// A follower keeps what its leader has not.
    NoTruncation,
    /// A follower does not compare the epoch of its last record with the leader's.
    NoComparison,
    /// The leader takes a smaller ISR for granted before the controller has agreed.
    ShrinksBeforeAnswer,
    /// A leader goes on when it is told of another.
    IgnoresDemotion,
    /// Producers are answered when the leader has the record.
    AnswersBeforeCommit,
    /// Consumers read what is not committed.
    ReadsUncommitted,
    /// A broker takes up what an older life of it led and followed.
    ActsBeforeRegistration,
}

impl Mutant {
    pub(in crate::sim) const ALL: [Self; 10] = [
        Self::CommitsAlone,
        Self::JoinsTooEarly,
        Self::ForgetsJoining,
        Self::NoTruncation,
        Self::NoComparison,
        Self::ShrinksBeforeAnswer,
        Self::IgnoresDemotion,
        Self::AnswersBeforeCommit,
        Self::ReadsUncommitted,
        Self::ActsBeforeRegistration,
    ];
}
