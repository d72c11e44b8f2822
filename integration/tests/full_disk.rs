//! A disk that fills up under load, and has room again: klamm serves on, without a restart.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration::load::{Identity, Shape, fetch, produce};
use integration::wire::Connection;
use integration::{Klamm, until};

const TOPIC: &str = "full";
const PARTITIONS: i32 = 3;
const DISK_BYTES: u64 = 320 << 20;
/// Below this klamm refuses records.
const RESERVE_BYTES: u64 = DISK_BYTES / 20;
const STORAGE_ERROR: i16 = 56;
/// RocksDB looks for room every 5 seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A small file system that only a process of this test sees by its name, and everybody through that process.
struct Disk {
    holder: Child,
    path: PathBuf,
}

impl Disk {
    /// Mounts one, if the system lets anybody do that.
    fn mount() -> Option<Self> {
        let script =
            format!("mount -t tmpfs -o size={DISK_BYTES} none /mnt && echo mounted && exec sleep 600");
        for flags in [&["-m"][..], &["-U", "-r", "-m"]] {
            let spawned = Command::new("unshare")
                .args(flags)
                .args(["sh", "-c", &script])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            let Ok(mut holder) = spawned else { continue };
            let output = holder.stdout.take().map(BufReader::new);
            let said = output.and_then(|output| output.lines().next()?.ok());
            let path = PathBuf::from(format!("/proc/{}/root/mnt", holder.id()));
            if said.as_deref() == Some("mounted") && fs::write(path.join("probe"), "").is_ok() {
                return Some(Self { holder, path });
            }
            // It has ended, or is of no use.
            let _ = holder.kill();
            let _ = holder.wait();
        }
        None
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Takes every byte that is free: the last ones at once, before klamm looks at the disk again.
    fn fill(&self) {
        let mut file = fs::File::create(self.ballast()).expect("a file on the disk");
        let block = vec![1; 1 << 20];
        while free_bytes(&self.path) > RESERVE_BYTES + (4 << 20) && file.write_all(&block).is_ok() {}
        while file.write_all(&block).is_ok() {}
        let block = vec![1; 4096];
        while file.write_all(&block).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What was sent and what was answered.
struct Journal {
    sent: i32,
    /// By partition: the base offset and the first record of each batch.
    acknowledged: Vec<Vec<(i64, Identity)>>,
    refused: usize,
}

fn shape() -> Shape {
    Shape { topic: TOPIC.into(), partitions: PARTITIONS, batch_records: 4, value_bytes: 50_000 }
}

impl Journal {
    /// Produces one batch; whether it was taken.
    fn produce(&mut self, connection: &mut Connection) -> bool {
        let shape = shape();
        let first = Identity { producer: 0, count: self.sent };
        let partition = self.sent / shape.batch_records % PARTITIONS;
        self.sent += shape.batch_records;
        match produce(connection, &shape, partition, first).expect("the broker serves") {
            (0, base_offset) => {
                self.acknowledged[usize::try_from(partition).unwrap_or(0)].push((base_offset, first));
                true
            }
            (STORAGE_ERROR, _) => {
                self.refused += 1;
                false
            }
            (code, _) => panic!("Produce answers {code}"),
        }
    }

    /// Reads everything: each offset has one record, no record is there twice or out of order, and what was
    /// acknowledged stands where it was said to.
    fn check(&self, connection: &mut Connection) -> usize {
        let mut count = 0;
        for partition in 0..PARTITIONS {
            let mut seen: Vec<Identity> = Vec::new();
            loop {
                let offset = i64::try_from(seen.len()).expect("an offset");
                let found = fetch(connection, TOPIC, partition, offset).expect("the broker serves");
                for (at, identity) in found.records {
                    assert_eq!(Ok(seen.len()), usize::try_from(at), "an offset is left out in {partition}");
                    assert!(seen.last().is_none_or(|last| last.count < identity.count), "out of order");
                    seen.push(identity);
                }
                if found.high_watermark <= i64::try_from(seen.len()).expect("an offset") {
                    break;
                }
            }
            for (base_offset, first) in &self.acknowledged[usize::try_from(partition).unwrap_or(0)] {
                let at = usize::try_from(*base_offset).expect("an offset");
                for index in 0..4 {
                    let expected = Identity { count: first.count + index, ..*first };
                    let found = seen.get(at + usize::try_from(index).unwrap_or(0));
                    assert_eq!(found, Some(&expected), "acknowledged at {base_offset} of {partition}");
                }
            }
            assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len());
            count += seen.len();
        }
        count
    }
}

/// What `df` says is free.
fn free_bytes(path: &Path) -> u64 {
    let output = Command::new("df").arg("-Pk").arg(path).output().expect("df runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let free = text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    free.expect("df says what is free") * 1024
}

#[test]
fn a_full_disk_is_survived_and_nothing_acknowledged_is_lost() {
    let Some(disk) = Disk::mount() else {
        // Past the test runner, which swallows what a passing test prints. The tests of the log play it by a hook.
        let _ = writeln!(std::io::stderr(), "full_disk: NOT RUN, no file system can be mounted here");
        return;
    };
    let data = disk.path.join("data");
    let arguments = ["--topic", &format!("{TOPIC}:{PARTITIONS}")];
    let mut broker = Klamm::spawn_in(&data, &arguments).expect("klamm serves");
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    let mut journal = Journal {
        sent: 0,
        acknowledged: vec![Vec::new(); usize::try_from(PARTITIONS).unwrap_or(0)],
        refused: 0,
    };
    let mut records = 0;
    let failures = |broker: &Klamm| broker.stderr().matches("a write failed").count();
    // Klamm mostly sees it coming; some round of several hits it in the middle of a write.
    for round in 0..6 {
        if round > 1 && failures(&broker) > 0 {
            break;
        }
        for _ in 0..60 {
            assert!(
                journal.produce(&mut connection),
                "in round {round}: {} bytes are free",
                free_bytes(&disk.path)
            );
        }
        std::thread::scope(|scope| {
            scope.spawn(|| disk.fill());
            until("a refusal", PATIENCE, || (!journal.produce(&mut connection)).then_some(()));
        });
        for _ in 0..20 {
            assert!(!journal.produce(&mut connection), "the disk is full");
        }
        records = journal.check(&mut connection);
        disk.make_room();
        until("writing after there is room", PATIENCE, || journal.produce(&mut connection).then_some(()));
        journal.check(&mut connection);
    }
    let failures = failures(&broker);
    broker.kill9();
    broker.restart();
    connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    assert!(journal.check(&mut connection) >= records);
    let acknowledged: usize = journal.acknowledged.iter().map(Vec::len).sum();
    let refused = journal.refused;
    let line =
        format!("full_disk: {acknowledged} batches taken, {refused} refused, {failures} writes failed");
    let _ = writeln!(std::io::stderr(), "{line}");
}
