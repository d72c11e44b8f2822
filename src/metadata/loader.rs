//! From the log to the image.

use super::image::{Delta, Image, ImageError};
use super::record::{Record, RecordError};
use crate::types::Offset;

/// Why a log can not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A value is no record that we know.
    #[error("the metadata log at offset {offset}: {source}")]
    Record {
        /// Where.
        offset: Offset,
        /// Why.
        source: RecordError,
    },
    /// The record does not fit what came before it.
    #[error("the metadata log at offset {offset}: {source}")]
    Image {
        /// Where.
        offset: Offset,
        /// Why.
        source: ImageError,
    },
}

/// Replays records in their order. What stands in a transaction counts only once it ended (KIP-868).
#[derive(Clone, Debug)]
pub struct Loader {
    image: Image,
    /// What the records since the last [`Loader::take_delta`] touched, as far as they count.
    delta: Delta,
    open: Option<Transaction>,
    /// The last record that was taken in, whether or not it counts yet.
    offset: Offset,
}

/// A transaction that has begun: the image with its records, and what they touched.
#[derive(Clone, Debug)]
struct Transaction {
    image: Image,
    delta: Delta,
}

impl Loader {
    /// Begins with an empty log.
    pub fn new() -> Self {
        Self::from(Image::empty())
    }

    /// Takes in the value of the next record.
    ///
    /// # Errors
    /// Where it is no record, or does not fit.
    pub fn replay(&mut self, offset: Offset, epoch: i32, value: bytes::Bytes) -> Result<(), LoadError> {
        let (record, _) = Record::decode(value).map_err(|source| LoadError::Record { offset, source })?;
        self.offset = offset;
        if matches!(record, Record::BeginTransaction(_)) {
            self.open = Some(Transaction { image: self.image.clone(), delta: Delta::default() });
        } else if matches!(record, Record::AbortTransaction(_)) {
            self.open = None;
        } else if matches!(record, Record::EndTransaction(_)) {
            if let Some(Transaction { image, delta }) = self.open.take() {
                self.image = image;
                self.delta.merge(delta);
            }
        } else {
            let open = self.open.as_mut().map(|open| (&mut open.image, &mut open.delta));
            let (image, delta) = open.unwrap_or((&mut self.image, &mut self.delta));
            image.apply(&record).map_err(|source| LoadError::Image { offset, source })?;
            delta.note(&record);
        }
        if self.open.is_none() {
            self.image.offset = offset;
            self.image.epoch = epoch;
        }
        Ok(())
    }

    /// Takes in that everything up to this offset was given: what is behind the last record is the quorum's own.
    pub fn reached(&mut self, offset: Offset, epoch: i32) {
        self.offset = offset;
        if self.open.is_none() {
            self.image.offset = offset;
            self.image.epoch = epoch;
        }
    }

    /// The image without the transaction that is open, if one is. Its offset is that of the last record that counts.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The offset of the last record that was taken in; -1 before the first.
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Whether a transaction has begun and not ended.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// What changed in the image since this was asked before.
    pub fn take_delta(&mut self) -> Delta {
        std::mem::take(&mut self.delta)
    }

    /// Goes on from the image of a snapshot.
    pub fn reset(&mut self, image: Image) {
        let mut delta = self.take_delta();
        delta.merge(Delta::between(&self.image, &image));
        *self = Self { delta, ..Self::from(image) };
    }
}

impl From<Image> for Loader {
    fn from(image: Image) -> Self {
        Self { offset: image.offset, image, delta: Delta::default(), open: None }
    }
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test")]

    use super::super::image::PartitionImage;
    use super::super::record::{
        AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord, FeatureLevelRecord,
        RemoveTopicRecord,
    };
    use super::*;

    fn load(records: &[Record]) -> Loader {
        let mut loader = Loader::new();
        for (offset, record) in (0..).zip(records) {
            loader.replay(offset, 1, record.encode(0).unwrap()).unwrap();
        }
        loader
    }

    fn level(name: &str) -> Record {
        FeatureLevelRecord { name: name.into(), feature_level: 1, ..FeatureLevelRecord::default() }.into()
    }

    fn features(loader: &Loader) -> (Vec<String>, bool) {
        (loader.image().features().map(|(name, _)| name.to_owned()).collect(), loader.in_transaction())
    }

    #[test]
    fn a_transaction_counts_when_it_ends_and_not_when_it_is_aborted_or_open() {
        let begin = Record::from(BeginTransactionRecord::default());
        let end = Record::from(EndTransactionRecord::default());
        let abort = Record::from(AbortTransactionRecord::default());
        let ended = load(&[level("a"), begin.clone(), level("b"), end]);
        assert_eq!(features(&ended), (vec!["a".to_owned(), "b".to_owned()], false));
        let aborted = load(&[level("a"), begin.clone(), level("b"), abort, level("c")]);
        assert_eq!(features(&aborted), (vec!["a".to_owned(), "c".to_owned()], false));
        let open = load(&[level("a"), begin, level("b")]);
        assert_eq!((open.image().offset, open.offset()), (0, 2));
        assert_eq!(features(&open), (vec!["a".to_owned()], true));
    }

    #[test]
    fn what_does_not_fit_is_said_with_its_offset() {
        let mut loader = load(&[level("a")]);
        let remove = Record::from(RemoveTopicRecord::default());
        let error = loader.replay(1, 1, remove.encode(0).unwrap()).unwrap_err();
        assert!(matches!(error, LoadError::Image { offset: 1, .. }));
        let error = loader.replay(2, 1, bytes::Bytes::from_static(b"\x07")).unwrap_err();
        assert!(matches!(error, LoadError::Record { offset: 2, source: RecordError::Frame(7) }));
    }

    /// The records of an Apache Kafka 4.3.1 with one node, without those that say nothing: it made a topic, took a
    /// configuration, gave out producer ids, was stopped and started, was killed and started, and was stopped.
    const KAFKA_LOG: &str = include_str!("kafka_log.txt");

    /// The bytes that these hexadecimal digits are.
    pub(in crate::metadata) fn bytes(digits: &str) -> bytes::Bytes {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    pub(in crate::metadata) fn kafka_image() -> Image {
        let mut loader = Loader::new();
        for line in KAFKA_LOG.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            loader.replay(fields[0].parse().unwrap(), fields[1].parse().unwrap(), bytes(fields[2])).unwrap();
        }
        assert!(!loader.in_transaction());
        loader.image().clone()
    }

    #[test]
    fn a_log_of_kafka_gives_what_kafka_described() {
        let image = kafka_image();
        assert_eq!((image.offset, image.epoch, image.metadata_version()), (466, 3, Some(30)));
        assert_eq!(image.feature("group.version"), 1);
        let broker = &image.brokers[&1];
        assert!(broker.fenced && broker.in_controlled_shutdown, "it was stopped in the end");
        assert_eq!(image.next_producer_id, 1_000);
        let topic = image.topics.get("alpha").unwrap();
        assert_eq!(crate::types::kafka_id(topic.id), "uyC9qHbpTOqG5OJP84pE0w");
        for (_, partition) in topic.partitions() {
            let PartitionImage { leader, leader_epoch, elr, last_known_elr, .. } = partition;
            assert_eq!((*leader, *leader_epoch), (-1, 5));
            assert_eq!((elr.as_slice(), last_known_elr.as_slice()), (&[1][..], &[1][..]));
        }
        let config = image.config(&crate::metadata::ConfigResource::topic("alpha")).unwrap();
        assert_eq!(config["retention.ms"], "1000");
    }
}
