//! The golden corpus: messages and log records in the bytes of Kafka's own classes. `golden/Golden.java` writes it and
//! says what stands in it.
#![expect(clippy::unwrap_used, reason = "a test fails where its corpus is broken")]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use klamm::protocol::schema::Schema;

/// What a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The body of a request; the number is the version of its header.
    Request,
    /// The body of a response; the number is the version of its header.
    Response,
    /// The body of a log record; the number is its type.
    Record,
}

/// One message.
#[derive(Debug, Clone)]
pub struct Sample {
    pub kind: Kind,
    pub version: i16,
    pub number: i16,
    pub bytes: Bytes,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// The names of the files in `messages`, `metadata` or `group`, in order.
pub fn names(folder_name: &str) -> Vec<String> {
    let files = fs::read_dir(folder(folder_name)).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// The samples in a file, such as `load("messages", "Fetch")`.
pub fn load(folder_name: &str, name: &str) -> Vec<Sample> {
    let path = folder(folder_name).join(name).with_extension("txt");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Sample {
    let mut words = line.split(' ');
    let kind = match words.next().unwrap() {
        "request" => Kind::Request,
        "response" => Kind::Response,
        "record" => Kind::Record,
        other => panic!("a sample of the kind {other}"),
    };
    let (version, number) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
    let hex = words.next().unwrap().trim_matches('-');
    let digits = hex.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).unwrap());
    let bytes = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
    Sample { kind, version, number, bytes }
}

/// Reads every sample of a log record with a schema of ours and writes it again: the same bytes, all of them consumed,
/// and no version left out. Returns how many there were.
pub fn check_record<T: Schema>(folder_name: &str) -> usize {
    let samples = load(folder_name, T::NAME);
    for sample in &samples {
        let mut buf = sample.bytes.clone();
        let record = T::decode(&mut buf, sample.version)
            .unwrap_or_else(|error| panic!("{} {sample:?}: {error}", T::NAME));
        assert!(buf.is_empty(), "{} {sample:?}: {} bytes left", T::NAME, buf.len());
        let mut again = BytesMut::new();
        record.encode(&mut again, sample.version).unwrap();
        assert_eq!(again, sample.bytes, "{} version {}", T::NAME, sample.version);
    }
    let versions = |samples: &[Sample]| {
        let versions = samples.iter().map(|sample| sample.version);
        (versions.clone().min().unwrap(), versions.max().unwrap())
    };
    assert_eq!(versions(&samples), (*T::VERSIONS.start(), *T::VERSIONS.end()), "{}", T::NAME);
    samples.len()
}
