use super::*;

fn problem(api_key: i16, api_version: i16, body: &'static [u8]) -> Problem {
    check(api_key, api_version, &Bytes::from_static(body))
        .err()
        .map_or(Problem::TagSize, |error| error.problem)
}

#[test]
fn a_count_that_the_frame_can_not_hold_is_refused() {
    assert_eq!(problem(3, 1, &[0x7f, 0xff, 0xff, 0xff]), Problem::TooShort);
    assert_eq!(problem(3, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f]), Problem::TooShort);
    assert_eq!(problem(3, 1, &[0xff, 0xff, 0xff, 0xfe]), Problem::Negative);
}

#[test]
fn bytes_after_the_body_are_ignored() {
    assert_eq!(length(3, 1, &[0, 0, 0, 1, 0, 1, b't', 9, 9, 9]), Ok(7));
}

#[test]
fn null_is_told_from_empty() {
    assert_eq!(length(3, 9, &[0, 1, 1, 1, 0]), Ok(5));
    assert_eq!(problem(12, 0, &[0xff, 0xff]), Problem::Null);
    assert_eq!(problem(69, 0, &[0]), Problem::Null);
}

#[test]
fn a_tag_fills_its_length() {
    // Fetch 12 with the cluster id "a" in tag 0; then the same with a length that is one too long.
    let mut body = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    body.extend([1, 1, 1, 1, 0, 2, 2, b'a']);
    assert_eq!(length(1, 12, &body), Ok(body.len()));
    let size_at = body.len() - 3;
    body[size_at] = 3;
    body.push(0);
    assert_eq!(length(1, 12, &body).map_err(|error| error.problem), Err(Problem::TagSize));
}

#[test]
fn elements_and_unknown_tags_are_bounded() {
    // 1,000,001 empty group ids.
    let mut groups = vec![0xc2, 0x84, 0x3d];
    groups.resize(3 + 1_000_001 + 2, 1);
    assert_eq!(length(69, 0, &groups).map_err(|error| error.problem), Err(Problem::TooManyElements));
    let mut tags = vec![0, 0, 0, 1, 0x80, 0x80, 0x04];
    for tag in 0..0x1_0000_u32 {
        tags.extend([tag.to_le_bytes()[0] | 0x80, tag.to_le_bytes()[1] | 0x80, 0, 0]);
    }
    assert_eq!(length(94, 0, &tags).map_err(|error| error.problem), Err(Problem::TooManyTags));
}

#[test]
fn what_is_not_served_by_kafka_has_no_shape() {
    assert_eq!(problem(4, 0, &[]), Problem::Unsupported);
    assert_eq!(problem(0, 2, &[]), Problem::Unsupported);
    assert_eq!(problem(200, 0, &[]), Problem::Unsupported);
    assert_eq!(API_KEYS.len(), 91);
    assert_eq!(api_name(18), Some("ApiVersions"));
}

#[test]
fn a_struct_that_may_be_null_is_there_or_not() {
    // DescribeTopicPartitions 0: no topics, a limit, and the cursor.
    assert_eq!(length(75, 0, &[1, 0, 0, 0, 9, 0xff, 0]), Ok(7));
    assert_eq!(length(75, 0, &[1, 0, 0, 0, 9, 1, 1, 0, 0, 0, 0, 0, 0]), Ok(13));
    assert_eq!(problem(75, 0, &[1, 0, 0, 0, 9, 2, 1, 0, 0, 0, 0, 0, 0]), Problem::Presence);
}

#[test]
fn a_tag_has_31_bits() {
    assert_eq!(problem(94, 0, &[0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x08, 0]), Problem::Tag);
}
