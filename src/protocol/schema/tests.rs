#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::super::wire::{DecodeError, EncodeError};
use super::Schema;

schema! {
    /// Everything that a schema can say.
    struct Sample, versions 0..=3, flexible 2.. {
        /// A number.
        id: i32 = -1,
        flag: bool,
        small: i8,
        port: u16,
        ratio: f64,
        name: String,
        note: Option<String> = None,
        payload: Option<Bytes> = None,
        topic_id: Uuid [1..],
        old: i16 [0..=1] = 7,
        hint: i32 [3.., ignorable] = -1,
        late_null: Option<String> [nullable 2..],
        parts: Vec<Part>,
        leader: Option<Part> [2.., tag 4] = None,
        elr: Option<Vec<i32>> [2.., tag 1] = None,
        label: String [3.., tag 0],
    }
    #[derive(Eq)]
    struct Part {
        index: i32,
        replicas: Vec<i32>,
        directories: Vec<Uuid> [1..],
    }
    struct Nothing, versions 0..=0, flexible 0.. {}
}

fn sample() -> Sample {
    Sample {
        id: 5,
        name: "n".into(),
        note: Some("é".into()),
        payload: Some(Bytes::from_static(b"xyz")),
        parts: vec![Part { index: 1, replicas: vec![1, 2], ..Default::default() }],
        ..Default::default()
    }
}

fn encoded(sample: &Sample, version: i16) -> Bytes {
    let mut buf = BytesMut::new();
    sample.encode(&mut buf, version).unwrap();
    assert_eq!(sample.size(version).unwrap(), buf.len());
    buf.freeze()
}

#[test]
fn every_version_comes_back() {
    for version in 0..=3 {
        let mut sample = sample();
        if version >= 1 {
            sample.topic_id = Uuid::from_u128(9);
            sample.parts[0].directories.push(Uuid::from_u128(1));
        }
        if version >= 2 {
            sample.late_null = None;
            sample.leader = Some(Part::default());
            sample.elr = Some(vec![3]);
            sample.unknown_tagged_fields = vec![(2, Bytes::from_static(b"u")), (9, Bytes::new())];
        }
        if version >= 3 {
            (sample.hint, sample.label) = (4, "l".into());
        }
        let mut bytes = encoded(&sample, version);
        assert_eq!(Sample::decode(&mut bytes, version).unwrap(), sample);
        assert!(bytes.is_empty());
    }
}

#[test]
fn the_flexible_form_is_byte_exact() {
    let mut sample = Sample { name: "ab".into(), late_null: None, elr: Some(vec![3]), ..Default::default() };
    sample.unknown_tagged_fields = vec![(2, Bytes::from_static(b"u"))];
    let mut want = vec![0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    want.extend([0; 8]);
    want.extend(*b"\x03ab\x00\x00");
    want.extend([0; 16]);
    want.extend(*b"\x00\x01");
    want.extend(*b"\x02\x01\x05\x02\x00\x00\x00\x03\x02\x01u");
    assert_eq!(encoded(&sample, 2)[..], want[..]);
}

#[test]
fn a_value_without_a_place_is_refused_unless_it_may_be_dropped() {
    let mut buf = BytesMut::new();
    let set = Sample { topic_id: Uuid::from_u128(1), ..sample() };
    let refused = EncodeError::UnsupportedField { message: "Sample", field: "topic_id", version: 0 };
    assert_eq!(set.encode(&mut buf, 0), Err(refused));
    let set = Sample { elr: Some(Vec::new()), ..sample() };
    assert!(set.encode(&mut buf, 1).is_err());
    let dropped = Sample { hint: 3, ..sample() };
    assert_eq!(Sample::decode(&mut encoded(&dropped, 2), 2).unwrap().hint, -1);
}

#[test]
fn null_is_legal_only_where_the_version_says_so() {
    let null = Sample { late_null: None, ..sample() };
    let refused = EncodeError::NullField { message: "Sample", field: "late_null", version: 1 };
    assert_eq!(null.encode(&mut BytesMut::new(), 1), Err(refused));
    assert_eq!(Sample::decode(&mut encoded(&null, 2), 2).unwrap().late_null, None);
    let mut bytes = Bytes::from_static(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(Sample::decode(&mut bytes, 0), Err(DecodeError::Null));
}

#[test]
fn a_count_beyond_the_bytes_is_refused_before_anything_is_reserved() {
    let whole = encoded(&Sample::default(), 0);
    let mut bytes = BytesMut::from(&whole[..]);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&i32::MAX.to_be_bytes());
    let refused = DecodeError::Count { count: 0x7fff_ffff, remaining: 0 };
    assert_eq!(Sample::decode(&mut bytes.freeze(), 0), Err(refused));
}

#[test]
fn every_truncation_is_an_error() {
    for version in 0..=3 {
        let whole = encoded(&sample(), version);
        for end in 0..whole.len() {
            assert!(
                Sample::decode(&mut whole.slice(..end), version).is_err(),
                "version {version}, {end} bytes"
            );
        }
    }
}

#[test]
fn a_version_that_is_not_there_is_refused() {
    assert!(Sample::decode(&mut Bytes::from_static(&[0; 64]), 4).is_err());
    assert!(sample().encode(&mut BytesMut::new(), -1).is_err());
}

#[test]
fn a_record_without_fields_is_an_empty_tag_list() {
    let mut buf = BytesMut::new();
    Nothing::default().encode(&mut buf, 0).unwrap();
    assert_eq!(buf[..], [0]);
    assert_eq!(Nothing::decode(&mut buf.freeze(), 0).unwrap(), Nothing::default());
}
