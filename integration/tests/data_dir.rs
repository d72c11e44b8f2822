//! What klamm must not start with: one clear sentence, an exit code, and nothing destroyed. And a disk that is full.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use integration::load::{Identity, Shape, fetch, produce};
use integration::wire::Connection;
use integration::{Klamm, binary};
use tempfile::TempDir;

/// Refusing needs no time; a busy machine does.
const PATIENCE: Duration = Duration::from_secs(120);
const TOPIC: &str = "kept";

/// Says a line past the test runner, which swallows what a passing test prints.
fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Every file below a directory with its bytes, but for RocksDB's own diary, and the lock that says nothing.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = fs::read_dir(directory) else { return found };
    for entry in entries {
        let path = entry.expect("an entry of the directory").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !name.starts_with("LOG") && name != "LOCK" {
            let bytes = fs::read(&path).expect("a file of the directory");
            found.insert(path, bytes);
        }
    }
    found
}

/// Starts klamm, which must refuse: with exit code 1 and one sentence, in which each of these words is.
fn refuses(arguments: &[&str], environment: &[(&str, &str)], words: &[&str]) {
    let mut output = tempfile::tempfile().expect("a temporary file");
    let mut child = Command::new(binary())
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(arguments)
        .envs(environment.iter().copied())
        .env("RUST_LOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output.try_clone().expect("a second handle"))
        .spawn()
        .expect("the klamm binary can be started");
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the state of a child") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("klamm {arguments:?} serves, and should refuse");
        }
        std::thread::yield_now();
    };
    let mut text = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut text)).expect("klamm writes text");
    assert_eq!(status.code(), Some(1), "klamm {arguments:?}:\n{text}");
    assert!(text.starts_with("klamm: ") && text.lines().count() == 1, "not one sentence: {text}");
    for word in words {
        assert!(text.contains(word), "klamm {arguments:?} does not say {word}: {text}");
    }
}

/// The same for a data directory, in which nothing may change.
fn refuses_directory(directory: &Path, more: &[&str], environment: &[(&str, &str)], words: &[&str]) {
    let before = files(directory);
    let shown = directory.to_str().expect("a temporary path is text");
    let arguments = [&["--data-dir", shown], more].concat();
    refuses(&arguments, environment, words);
    let after = files(directory);
    for (path, bytes) in &before {
        assert!(after.get(path) == Some(bytes), "{} was changed", path.display());
    }
    assert_eq!(before.len(), after.len(), "files were created: {:?}", after.keys());
}

fn shape(batch_records: i32, value_bytes: usize) -> Shape {
    Shape { topic: TOPIC.into(), partitions: 1, batch_records, value_bytes }
}

/// The identities of all records of the topic.
fn read_all(bootstrap: &str) -> Vec<Identity> {
    let mut connection = Connection::open(bootstrap).expect("the broker serves");
    let mut records = Vec::new();
    loop {
        let offset = i64::try_from(records.len()).expect("an offset");
        let found = fetch(&mut connection, TOPIC, 0, offset).expect("the broker serves");
        if found.records.is_empty() {
            assert_eq!(found.high_watermark, offset);
            return records;
        }
        records.extend(found.records.into_iter().map(|(_, identity)| identity));
    }
}

/// A data directory with records in every kind of file, after a clean stop.
fn filled() -> (TempDir, PathBuf) {
    let scratch = TempDir::new().expect("a temporary directory");
    let directory = scratch.path().join("data");
    let mut broker = Klamm::spawn_in(&directory, &["--topic", TOPIC]).expect("klamm serves");
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    for batch in 0..50 {
        let first = Identity { producer: 0, count: batch * 10 };
        let (code, _) = produce(&mut connection, &shape(10, 1000), 0, first).expect("the broker serves");
        assert_eq!(code, 0, "Produce");
    }
    assert!(broker.terminate().success());
    (scratch, directory)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the directory") {
        let path = entry.expect("an entry of the directory").path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// The files of the store whose names begin or end so.
fn of_store(directory: &Path, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("store")).expect("the store");
    entries
        .map(|entry| entry.expect("an entry of the store").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(part) || name.ends_with(part)
        })
        .collect()
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let first = Klamm::spawn(&["--topic", TOPIC]);
    let directory = first.data_dir().to_str().expect("a temporary path is text");
    refuses(&["--data-dir", directory], &[], &["in use by another process", directory]);
    let mut connection = Connection::open(first.bootstrap()).expect("the first one goes on");
    let first = Identity { producer: 0, count: 0 };
    assert_eq!(produce(&mut connection, &shape(1, 10), 0, first).expect("an answer"), (0, 0));
}

#[test]
fn the_metadata_log_is_exported_from_a_directory_of_ours_that_is_not_in_use() {
    let scratch = TempDir::new().expect("a temporary directory");
    let out = scratch.path().join("out");
    let export = ["export-metadata", "--to", out.to_str().expect("a temporary path is text")];
    refuses_directory(&scratch.path().join("missing"), &export, &[], &["holds no metadata log"]);
    let broker = Klamm::spawn(&[]);
    let used = broker.data_dir().to_str().expect("a temporary path is text");
    refuses(&[&["--data-dir", used], &export[..]].concat(), &[], &["in use by another process"]);
    assert!(!scratch.path().join("missing").exists() && !out.exists());
}

#[test]
fn a_foreign_directory_is_left_alone() {
    let scratch = TempDir::new().expect("a temporary directory");
    fs::write(scratch.path().join("thesis.txt"), "years of work").expect("a file");
    fs::create_dir(scratch.path().join("store")).expect("a directory");
    fs::write(scratch.path().join("store/CURRENT"), "something").expect("a file");
    refuses_directory(scratch.path(), &[], &[], &["not klamm's", "empty or missing"]);
    fs::write(scratch.path().join("meta.properties"), "version=1\ncluster.id=abc\nnode.id=1\n")
        .expect("a file");
    refuses_directory(scratch.path(), &[], &[], &["meta.properties of another broker"]);
}

#[test]
fn a_directory_of_another_cluster_or_node_is_refused() {
    let (_scratch, directory) = filled();
    let other = [("CLUSTER_ID", "AAAAAAAAAAAAAAAAAAAAAA")];
    refuses_directory(&directory, &[], &other, &["belongs to cluster", "AAAAAAAAAAAAAAAAAAAAAA"]);
    refuses_directory(&directory, &["--override", "node.id=7"], &[], &["belongs to node 1, not to 7"]);
    let file = directory.join("meta.properties");
    let text = fs::read_to_string(&file).expect("meta.properties");
    let edited: String =
        text.lines()
            .map(|line| {
                if line.starts_with("cluster.id") {
                    "cluster.id=edited\n".into()
                } else {
                    format!("{line}\n")
                }
            })
            .collect();
    fs::write(&file, edited).expect("a changed file");
    // The store itself must be opened to see that, and replays its log as at every start.
    refuses(&["--data-dir", directory.to_str().expect("text")], &[], &["meta.properties"]);
    fs::write(&file, "klamm.format=1\n").expect("a changed file");
    refuses_directory(&directory, &[], &[], &["meta.properties has no valid"]);
    fs::write(&file, text.replace("klamm.format=1", "klamm.format=99")).expect("a changed file");
    refuses_directory(&directory, &[], &[], &["newer klamm"]);
    fs::write(&file, text).expect("the file as it was");
    let broker = Klamm::spawn_in(&directory, &[]).expect("klamm serves again");
    assert_eq!(read_all(broker.bootstrap()).len(), 500);
}

#[test]
fn a_damaged_store_is_refused_as_it_is() {
    let (scratch, whole) = filled();
    let mut tried = 0;
    for part in ["CURRENT", "MANIFEST", ".sst", ".blob"] {
        assert!(!of_store(&whole, part).is_empty(), "there is no file {part}");
        for damage in ["missing", "empty", "short", "other bytes"] {
            // A MANIFEST that is cut behind an entry looks like one whose last write a crash has cut.
            if (part, damage) == ("MANIFEST", "short") {
                continue;
            }
            tried += 1;
            let directory = scratch.path().join(format!("damaged-{tried}"));
            copy(&whole, &directory);
            for file in of_store(&directory, part) {
                let mut bytes = fs::read(&file).expect("a file of the store");
                match damage {
                    "missing" => fs::remove_file(&file).expect("a file of the store"),
                    "empty" => fs::write(&file, "").expect("a file of the store"),
                    "short" => fs::write(&file, &bytes[..bytes.len() / 2]).expect("a file of the store"),
                    _ => {
                        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
                        fs::write(&file, bytes).expect("a file of the store");
                    }
                }
            }
            if part == ".blob" {
                // Read behind the replay of the log: the first value that is needed is in it.
                let shown = directory.to_str().expect("a temporary path is text");
                refuses(&["--data-dir", shown], &[], &["store is damaged"]);
            } else {
                refuses_directory(&directory, &[], &[], &["store is damaged", "nothing was changed"]);
            }
        }
    }
}

/// A write-ahead log that is damaged in the middle is like one that ends there: what comes before it is served, whole.
#[test]
fn a_damaged_write_ahead_log_counts_up_to_the_damage() {
    let mut broker = Klamm::spawn(&["--topic", TOPIC]);
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    for count in 0..100 {
        let first = Identity { producer: 0, count };
        assert_eq!(
            produce(&mut connection, &shape(1, 1000), 0, first).expect("an answer"),
            (0, i64::from(count))
        );
    }
    broker.kill9();
    let logs = of_store(broker.data_dir(), ".log");
    let log = logs.iter().max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len()));
    let log = log.expect("a write-ahead log");
    let mut bytes = fs::read(log).expect("the write-ahead log");
    let wanted = b"count=50 ";
    let at = bytes.windows(wanted.len()).position(|window| window == wanted).expect("the record");
    bytes[at] ^= 0x55;
    fs::write(log, bytes).expect("the damaged log");
    broker.restart();
    let found = read_all(broker.bootstrap());
    assert_eq!(found.len(), 50);
    assert!(found.iter().zip(0..).all(|(identity, count)| identity.count == count), "{found:?}");
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    let next = Identity { producer: 0, count: 100 };
    assert_eq!(produce(&mut connection, &shape(1, 10), 0, next).expect("an answer"), (0, 50));
}

#[test]
fn a_directory_that_can_not_be_written_is_named() {
    let scratch = TempDir::new().expect("a temporary directory");
    let file = scratch.path().join("file");
    fs::write(&file, "a file").expect("a file");
    refuses_directory(&file, &[], &[], &["Not a directory", "file"]);
    refuses_directory(&file.join("below"), &[], &[], &["Not a directory", "below"]);
    refuses_directory(Path::new("/dev/null/data"), &[], &[], &["/dev/null/data"]);
}

#[test]
fn a_port_in_use_and_a_bad_configuration_are_named_before_anything_is_made() {
    let scratch = TempDir::new().expect("a temporary directory");
    let data = scratch.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let config = scratch.path().join("server.properties");
    let shown = config.to_str().expect("a temporary path is text");
    refuses_directory(
        &data,
        &["--override", &format!("listeners=PLAINTEXT://{address}"), "--config", shown],
        &[],
        &[shown, "No such file"],
    );
    let cases: [(&str, &[&str]); 5] = [
        ("log.retention.ms=soon\n", &["log.retention.ms", "soon"]),
        ("listeners=SSL://127.0.0.1:0\n", &["SSL"]),
        ("listeners=FOO://127.0.0.1:0\nlistener.security.protocol.map=BAR:PLAINTEXT\n", &["FOO"]),
        ("listeners=FOO:127.0.0.1\n", &["FOO:127.0.0.1", "NAME://HOST:PORT"]),
        ("process.roles=oracle\n", &["process.roles", "oracle"]),
    ];
    for (text, words) in cases {
        fs::write(&config, text).expect("a file");
        // Listeners of the command line would hide those of the file.
        refuses_file(&data, shown, words);
    }
    fs::write(&config, format!("listeners=PLAINTEXT://{address}\n")).expect("a file");
    refuses_file(&data, shown, &[&address, "in use"]);
    fs::write(&config, "listeners=PLAINTEXT://127.0.0.1:0\n").expect("a file");
    assert!(!data.exists(), "the data directory was made for nothing");
}

/// A configuration file that says where to listen, or should.
fn refuses_file(data: &Path, config: &str, words: &[&str]) {
    let data = data.to_str().expect("a temporary path is text");
    let output = Command::new(binary())
        .args(["--admin-listen", "127.0.0.1:0", "--data-dir", data, "--config", config])
        .env("RUST_LOG", "off")
        .output()
        .expect("the klamm binary can be started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("klamm: ") && text.lines().count() == 1, "not one sentence: {text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text} does not say {words:?}");
}

/// A small file system of its own, gone with the value.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let directory = TempDir::new().expect("a temporary directory");
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(directory))
    }

    fn resize(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        let done = Command::new("mount").args(["-o", &size]).arg(self.0.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "the file system can not grow");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(48) else {
        return say("the full disk: skipped, only root can mount a small file system");
    };
    let directory = disk.0.path().join("data");
    let mut broker = Klamm::spawn_in(&directory, &["--topic", TOPIC]).expect("klamm serves");
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for count in 0..200 {
        let first = Identity { producer: 0, count };
        let answer = produce(&mut connection, &shape(1, 900_000), 0, first).expect("an answer, not an end");
        match answer {
            (0, offset) => {
                assert_eq!(refused, 0, "a write succeeded behind one that failed");
                acknowledged.push((offset, first));
            }
            (56, _) => refused += 1,
            (code, _) => panic!("Produce answers {code} on a full disk"),
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "the disk is not full after {} batches", acknowledged.len());
    assert!(acknowledged.len() > 10, "{} batches fill the disk", acknowledged.len());
    // What is stored can still be read.
    assert!(read_all(broker.bootstrap()).len() >= acknowledged.len());
    broker.kill9();
    disk.resize(400);
    broker.restart();
    let found = read_all(broker.bootstrap());
    for (offset, identity) in &acknowledged {
        let index = usize::try_from(*offset).expect("an offset");
        assert_eq!(found.get(index), Some(identity), "acknowledged at offset {offset}");
    }
    let mut connection = Connection::open(broker.bootstrap()).expect("the broker serves");
    let next = Identity { producer: 0, count: 1000 };
    let (code, offset) = produce(&mut connection, &shape(1, 10), 0, next).expect("an answer");
    assert_eq!((code, usize::try_from(offset).ok()), (0, Some(found.len())));
    say(&format!("a full disk: {} batches acknowledged, all there after the restart", acknowledged.len()));
}
