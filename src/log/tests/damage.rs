//! Bytes that are not what they should be: an error, never a panic and never wrong records.

use super::*;
use crate::error::ErrorCode;
use crate::log::OffsetQuery;
use crate::log::batch::{BatchError, batch_length};
use crate::log::compression::{Compression, decompress};
use crate::storage::{Durability, Key};
use crate::testing::properties;
use proptest::prelude::*;

#[tokio::test]
async fn a_damaged_extent_is_an_error_and_the_rest_is_readable() {
    let world = World::new();
    let partition = world.partition();
    for _ in 0..3 {
        append(&partition, batch(2)).await;
    }
    let good = batch(2);
    let table: [(&str, Bytes); 4] = [
        ("cut", good.slice(..good.len() - 1)),
        ("no batch", Bytes::from_static(b"something else altogether")),
        ("less than a header", Bytes::from_static(b"x")),
        ("a length of 0", Bytes::from(vec![0; 100])),
    ];
    for (name, bytes) in table {
        let mut ops = Ops::new();
        ops.put(&Key::Extent { partition: partition.id(), base_offset: 2 }, bytes);
        world.logs().store().commit(ops, Durability::Process).await.unwrap();
        partition.tail.clear();
        let error = partition.read(2, usize::MAX, true, ReadUpTo::HighWatermark).unwrap_err();
        assert_eq!(error.code, ErrorCode::KafkaStorageError, "{name}");
        let error = partition.offset_for(OffsetQuery::Timestamp(NOW_MS + 1)).map(|_| ());
        assert!(error.is_ok(), "{name}: segments are known without it");
        assert_eq!(read_all(&partition, 4)[0].base_offset(), 4, "{name}");
        let first = partition.read(0, 1, true, ReadUpTo::HighWatermark).unwrap();
        assert_eq!(first.len(), good.len(), "{name}");
    }
}

/// A byte that changed on the disk, where no start looks: the checksum of the record batches finds it when they are
/// read, and they alone can not be read.
#[tokio::test]
async fn a_flipped_byte_is_an_error_for_its_batches_and_no_others() {
    let mut world = World::new();
    let partition = world.partition();
    for mark in [b'a', b'b', b'c'] {
        let batch = BatchBuilder::new().record(NOW_MS, None, Some(&[mark; 2_000])).build();
        append(&partition, batch).await;
    }
    drop(partition);
    world.logs().store().close().unwrap();
    world.logs = None;
    let mut flipped = 0;
    for file in std::fs::read_dir(world.directory.path().join("store")).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(1_000).position(|bytes| bytes == [b'b'; 1_000]) {
            bytes[at + 500] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            flipped += usize::from(path.extension().is_some_and(|extension| extension == "blob"));
        }
    }
    assert_eq!(flipped, 1);
    world.open();
    let partition = world.partition();
    let read = |offset| partition.read(offset, usize::MAX, true, ReadUpTo::HighWatermark);
    for _ in 0..2 {
        assert_eq!(read(1).unwrap_err().code, ErrorCode::KafkaStorageError);
        let before = read(0).unwrap().batches;
        assert_eq!(before.iter().flat_map(BatchView::all).count(), 1, "what comes before it");
        assert_eq!(read(2).unwrap().batches.len(), 1);
    }
    assert_eq!(append(&partition, batch(1)).await.base_offset, 3, "and the log goes on");
    assert_eq!(read_all(&partition, 2).len(), 2);
}

proptest! {
    #![proptest_config(properties(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        look(&bytes.into());
    }

    /// Bytes that come further: a good batch with some of them overwritten.
    #[test]
    fn changed_batches_never_panic(
        changes in prop::collection::vec((0..150_usize, any::<u8>()), 0..6),
        kind in 0..5_usize,
        cut in 0..150_usize,
    ) {
        let mut bytes = BatchBuilder::new()
            .compression(Compression::ALL[kind])
            .record_with_headers(NOW_MS, Some(b"key"), Some(b"value"), &[("name", Some(b"v"))])
            .record(NOW_MS, None, None)
            .build()
            .to_vec();
        for (at, byte) in changes {
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        bytes.truncate(bytes.len().saturating_sub(cut / 10));
        look(&bytes.into());
    }
}

/// Does everything with bytes that may be batches.
fn look(bytes: &Bytes) {
    let _ = batch_length(bytes);
    for batch in BatchView::all(bytes) {
        let Ok(batch) = batch else { break };
        let _ = (batch.crc_matches(), batch.last_offset(), batch.last_sequence());
        let records: Result<Vec<_>, BatchError> = batch.records().and_then(Iterator::collect);
        if let Ok(records) = records {
            assert!(records.iter().all(|record| record.headers().count() < 300));
        }
    }
    for compression in Compression::ALL {
        let _ = decompress(compression, bytes, 1 << 20);
    }
    let config = crate::log::settings::LogConfig::from(&TopicConfig::default());
    let _ = crate::log::validate::validate(bytes.clone(), Origin::Client, &config, "t-0", NOW_MS);
    let mut fixed = bytes.to_vec();
    if fixed.len() > 61 {
        crate::log::batch::set_crc(&mut fixed);
        let _ = crate::log::validate::validate(fixed.into(), Origin::Client, &config, "t-0", NOW_MS);
    }
}
