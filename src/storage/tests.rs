//! Tests of the store as a whole.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::types::TimestampMs;

fn options() -> StoreOptions {
    StoreOptions { node_id: 1, cluster_id: None }
}

fn open(directory: &Path) -> Result<Store, StorageError> {
    Store::open(directory, &options())
}

/// Every file below a directory, with its size.
fn files(directory: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            found.extend(
                files(&entry.path()).into_iter().map(|(file, size)| (format!("{name}/{file}"), size)),
            );
        } else {
            found.push((name, entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

fn error(result: Result<Store, StorageError>) -> StorageError {
    result.map(|_| ()).expect_err("it is refused")
}

#[test]
fn a_new_directory_gets_ids_that_stay() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("not/there/yet");
    let first = open(&directory).unwrap().properties().clone();
    let again = open(&directory).unwrap().properties().clone();
    assert_eq!(first, again);
    let text = fs::read_to_string(directory.join("meta.properties")).unwrap();
    assert!(text.contains(&format!("cluster.id={}\n", first.cluster_id)), "{text}");
    assert!(text.contains("node.id=1\n") && text.contains("version=1\n"), "{text}");
    let asked = StoreOptions { cluster_id: Some(first.cluster_id.clone()), ..options() };
    assert!(Store::open(&directory, &asked).is_ok());
}

#[test]
fn a_second_opening_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    assert!(matches!(error(open(directory.path())), StorageError::Locked { .. }));
    drop(store);
    assert!(open(directory.path()).is_ok());
}

#[test]
fn directories_that_are_not_ours_are_left_alone() {
    let table: [(&str, &str, &str); 4] = [
        ("thesis.txt", "years of work", "thesis.txt"),
        ("meta.properties", "version=1\ncluster.id=abc\nnode.id=1\n", "another broker"),
        ("CURRENT", "MANIFEST-000001", "CURRENT"),
        ("store", "a file", "store"),
    ];
    for (name, text, found) in table {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(name), text).unwrap();
        let before = files(directory.path());
        let error = error(open(directory.path()));
        assert!(matches!(error, StorageError::Foreign { .. }), "{name}: {error}");
        assert!(error.to_string().contains(found), "{error}");
        assert_eq!(files(directory.path()), before, "{name}");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("lost+found")).unwrap();
    assert!(open(directory.path()).is_ok(), "a fresh file system is empty");
}

#[test]
fn another_owner_is_a_mismatch() {
    let directory = tempfile::tempdir().unwrap();
    let cluster_id = open(directory.path()).unwrap().properties().cluster_id.clone();
    let other = StoreOptions { cluster_id: Some("other".into()), node_id: 1 };
    let refused = error(Store::open(directory.path(), &other)).to_string();
    assert!(refused.contains(&format!("belongs to cluster {cluster_id}, not to other")), "{refused}");
    let other = StoreOptions { cluster_id: None, node_id: 2 };
    let refused = error(Store::open(directory.path(), &other)).to_string();
    assert!(refused.contains("belongs to node 1, not to 2"), "{refused}");
}

#[test]
fn edited_newer_and_broken_properties_are_refused() {
    let table = [
        ("klamm.format=1", "klamm.format=2", "newer"),
        ("klamm.format=1", "klamm.format=one", "klamm.format"),
        ("node.id=1", "node.id=", "node.id"),
        ("directory.id=", "directory.id=!", "directory.id"),
        ("cluster.id=", "cluster.id=X", "not its own"),
    ];
    for (from, to, expected) in table {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        let path = directory.path().join("meta.properties");
        let text = fs::read_to_string(&path).unwrap().replace(from, to);
        fs::write(&path, text).unwrap();
        let refused = error(open(directory.path())).to_string();
        assert!(refused.contains(expected), "{to}: {refused}");
    }
}

#[test]
fn a_damaged_store_is_refused_and_kept() {
    for victim in ["CURRENT", "MANIFEST"] {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path()).unwrap());
        let store = directory.path().join("store");
        let names = fs::read_dir(&store).unwrap().map(|file| file.unwrap().file_name());
        let name =
            names.map(|name| name.to_string_lossy().into_owned()).find(|name| name.starts_with(victim));
        fs::remove_file(store.join(name.unwrap())).unwrap();
        let logs = |directory: &Path| {
            let all = files(directory).into_iter().map(|(name, _)| name);
            all.filter(|name| name.ends_with(".log") || name.ends_with(".sst")).collect::<Vec<_>>()
        };
        let before = logs(directory.path());
        assert!(!before.is_empty());
        let error = error(open(directory.path()));
        assert!(matches!(error, StorageError::Damaged(_)), "{victim}: {error}");
        assert_eq!(logs(directory.path()), before, "{victim}");
    }
}

fn extent_ops(partition: PartitionId, base_offset: i64, byte: u8, grown_to: Option<TimestampMs>) -> Ops {
    let mut ops = Ops::new();
    ops.extent(partition, base_offset, Bytes::from(vec![byte; 10]), grown_to);
    ops
}

fn extents(store: &Store, partition: PartitionId, offset: i64) -> Vec<(i64, Vec<u8>)> {
    let mut extents = store.extents(partition, offset);
    let mut found = Vec::new();
    while let Some((base_offset, batches)) = extents.next_extent().unwrap() {
        found.push((base_offset, batches.to_vec()));
    }
    found
}

/// Keeps the writer from going on until what is returned is dropped.
fn hold_up(store: &Store) -> std::sync::mpsc::Sender<()> {
    let (held, gate) = std::sync::mpsc::channel();
    store.commit_then(Ops::new(), Durability::Process, move |_| {
        // An error: the other end was dropped, as it should be.
        let _: Result<(), _> = gate.recv();
    });
    held
}

/// Makes the commits of one round: the writer is held up until all are queued.
fn in_one_round(store: &Store, rounds: Vec<Ops>) {
    let held = hold_up(store);
    // The writer takes the first commit alone only if it is quick; either way the rest is joined.
    for ops in rounds {
        store.commit_then(ops, Durability::Process, |result| result.unwrap());
    }
    drop(held);
    store.commit_blocking(Ops::new(), Durability::Process).unwrap();
}

#[test]
fn neighbours_are_joined_and_of_equal_keys_the_last_counts() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let (one, two) = (PartitionId(1), PartitionId(2));
    let mut rounds = Vec::new();
    for index in 0..3_u8 {
        let mut ops = extent_ops(one, i64::from(index), index, Some(100 + i64::from(index)));
        ops.put(&Key::QuorumState, vec![index]);
        ops.extend(extent_ops(two, i64::from(index), index, None));
        rounds.push(ops);
    }
    in_one_round(&store, rounds);
    assert_eq!(store.get(&Key::QuorumState).unwrap().unwrap(), [2][..]);
    for partition in [one, two] {
        let joined = [[0; 10], [1; 10], [2; 10]].concat();
        let all = extents(&store, partition, 0).into_iter().flat_map(|(_, bytes)| bytes);
        assert_eq!(all.collect::<Vec<_>>(), joined);
    }
    assert_eq!(extents(&store, one, 0).len(), 1, "they are one extent");
    let index: Vec<_> =
        store.scan(&KeyPrefix::TimeIndexOf { partition: one }).map(|entry| entry.unwrap().0).collect();
    assert_eq!(index, [Key::TimeIndex { partition: one, timestamp: 102 }]);
}

#[test]
fn a_range_delete_stands_where_it_was_put() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let partition = PartitionId(1);
    let mut delete = Ops::new();
    delete.delete_prefix(&KeyPrefix::ExtentsOf { partition });
    let rounds = vec![extent_ops(partition, 0, 1, None), delete, extent_ops(partition, 5, 2, None)];
    in_one_round(&store, rounds);
    assert_eq!(extents(&store, partition, 0), [(5, vec![2; 10])]);
}

#[test]
fn extents_are_found_by_the_offset_within_and_end_with_their_partition() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for (partition, base_offset) in [(1, 10), (1, 20), (2, 5)] {
        let ops = extent_ops(PartitionId(partition), base_offset, 1, None);
        store.commit_blocking(ops, Durability::Disk).unwrap();
    }
    let offsets = |partition, offset| {
        let found = extents(&store, PartitionId(partition), offset).into_iter();
        found.map(|(base_offset, _)| base_offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(1, 15), [10, 20]);
    assert_eq!(offsets(1, 20), [20]);
    assert_eq!(offsets(1, 3), [10, 20], "before the first");
    assert_eq!(offsets(0, 3), Vec::<i64>::new());
    assert_eq!(offsets(2, i64::MAX), [5]);
}

#[tokio::test]
async fn completions_come_in_order_and_after_the_last_handle_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 0..100 {
        let order = Arc::clone(&order);
        let ops = extent_ops(PartitionId(1), index, 1, None);
        store.commit_then(ops, Durability::Process, move |result| {
            result.unwrap();
            order.lock().push(index);
        });
    }
    drop(store.commit(extent_ops(PartitionId(1), 100, 1, None), Durability::Process));
    drop(store);
    assert_eq!(*order.lock(), (0..100).collect::<Vec<_>>());
    let store = open(directory.path()).unwrap();
    let bytes: usize = extents(&store, PartitionId(1), 0).iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(bytes, 101 * 10);
}

#[tokio::test]
async fn a_closed_store_refuses_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    store.close().unwrap();
    let refused = store.commit(Ops::new(), Durability::Process).await.unwrap_err();
    assert_eq!(refused.to_string(), "the store can not be written: it is closed");
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_panicked() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let held = hold_up(&store);
    store.commit_then(Ops::new(), Durability::Process, |_| panic!("a completion fails (this is a test)"));
    let behind = store.commit(Ops::new(), Durability::Process);
    drop(held);
    assert!(behind.await.is_err());
    assert!(store.commit(Ops::new(), Durability::Process).await.is_err());
    assert!(store.failure().is_some());
    store.admit().await;
}

#[tokio::test]
async fn a_full_queue_holds_back_who_asks_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    store.admit().await;
    let held = hold_up(&store);
    let large = Bytes::from(vec![1; QUEUE_BYTES / 2]);
    for offset in 0..2 {
        let mut ops = Ops::new();
        ops.extent(PartitionId(1), offset, large.clone(), None);
        store.commit_then(ops, Durability::Process, |result| result.unwrap());
    }
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.admit().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(held);
    waiting.await.unwrap();
}

/// The name of the thread that writes what is committed in a gathering, by what `commit` commits and how it ends.
async fn who_writes(commit: impl FnOnce(&Store), is_dropped: bool) -> String {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    // What the opening wrote: until that is over, the thread writes what comes next as well.
    while store.shared.writer.is_writing() {
        std::thread::yield_now();
    }
    let (sender, receiver) = oneshot::channel();
    let mut gathering = store.gather();
    store.commit_then(Ops::new(), Durability::Process, move |result| {
        result.unwrap();
        sender.send(std::thread::current().name().unwrap_or_default().to_owned()).unwrap();
    });
    commit(&store);
    if is_dropped {
        drop(gathering);
    } else {
        std::future::poll_fn(|task| gathering.poll_write(task)).await;
    }
    receiver.await.unwrap()
}

#[tokio::test]
async fn what_is_gathered_is_written_where_it_was_gathered() {
    let here = std::thread::current().name().unwrap_or_default().to_owned();
    assert_eq!(who_writes(|_| {}, false).await, here);
    assert_eq!(who_writes(|_| {}, true).await, "klamm-writer");
}

#[tokio::test]
async fn much_and_what_must_be_synced_is_left_to_the_writer_thread() {
    let large = |store: &Store| {
        let mut ops = Ops::new();
        ops.extent(PartitionId(1), 0, Bytes::from(vec![1; 100_000]), None);
        store.commit_then(ops, Durability::Process, |result| result.unwrap());
        assert!(store.gather().has_much());
    };
    let synced = |store: &Store| store.commit_then(Ops::new(), Durability::Disk, |result| result.unwrap());
    assert_eq!(who_writes(large, false).await, "klamm-writer");
    assert_eq!(who_writes(synced, false).await, "klamm-writer");
}

#[tokio::test]
async fn several_gatherings_write_everything_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let tasks = (0..50).map(|number| {
        let (store, order) = (store.clone(), Arc::clone(&order));
        async move {
            let mut gathering = store.gather();
            let mut ops = Ops::new();
            ops.extent(PartitionId(1), number, Bytes::from_static(b"batch"), None);
            store.commit_then(ops, Durability::Process, move |_| order.lock().push(number));
            std::future::poll_fn(|task| gathering.poll_write(task)).await;
        }
    });
    futures_util::future::join_all(tasks).await;
    store.commit(Ops::new(), Durability::Process).await.unwrap();
    assert_eq!(*order.lock(), (0..50).collect::<Vec<_>>());
}

/// RocksDB takes its CRC32C from the compiler's flags (see `.cargo/config.toml`): without them
/// every byte that is written costs fifteen times as much.
#[test]
fn checksums_are_computed_by_the_processor() {
    assert!(std::hint::black_box(rocks::HAS_FAST_CHECKSUMS));
}

#[test]
fn a_formatted_directory_keeps_what_it_was_formatted_with() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("new");
    assert_eq!(Store::owner(&directory).unwrap(), None);
    let text = "1@h:1:AAAAAAAAAAAAAAAAAAAAZQ";
    let initial_controllers = Some(crate::config::cluster::initial_controllers(text).unwrap());
    let directory_id = uuid::Uuid::from_u128(0x65);
    let features =
        Some(BTreeMap::from([("group.version".to_owned(), 0), ("metadata.version".to_owned(), 25)]));
    let properties =
        MetaProperties { cluster_id: "x".into(), node_id: 1, directory_id, initial_controllers, features };
    Store::format(&directory, &properties).unwrap();
    assert_eq!(Store::owner(&directory).unwrap().as_ref(), Some(&properties));
    let again = Store::format(&directory, &properties).unwrap_err().to_string();
    assert!(again.contains("meta.properties"), "{again}");
    for _ in 0..2 {
        let store = Store::open(&directory, &options()).unwrap();
        assert_eq!(store.properties(), &properties);
        store.close().unwrap();
    }
}
