//! Topics to create at the start: `--topic`, `KLAMM_TOPICS`, `TOPICS`, and `KAFKA_CREATE_TOPICS`
//! of the wurstmeister image.

use std::collections::BTreeMap;

use crate::config::key::ConfigError;

/// A topic to create if it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedTopic {
    pub name: String,
    pub partitions: i32,
    pub configs: BTreeMap<String, String>,
}

/// Kafka's longest topic name.
const NAME_LENGTH_MAX: usize = 249;

/// Cuts a list of topics: at commas and at white space.
pub(super) fn split_list(text: &str) -> Vec<&str> {
    text.split(|letter: char| letter == ',' || letter.is_whitespace())
        .filter(|item| !item.is_empty())
        .collect()
}

/// Reads `name`, `name:partitions`, and after those any of `compact`, `delete`, `key=value`, and
/// a number, which is the replication factor in lists made for other images: a single node has
/// one replica whatever it says.
pub(super) fn parse(text: &str) -> Result<SeedTopic, ConfigError> {
    let problem = |what: String| ConfigError(format!("--topic {text}: {what}"));
    let mut parts = text.split(':').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if name.is_empty() || name == "." || name == ".." || !name.chars().all(plain) {
        return Err(problem(
            "a topic's name is made of letters, digits, dots, underscores and dashes".to_owned(),
        ));
    }
    if name.len() > NAME_LENGTH_MAX {
        return Err(problem(format!("a topic's name has at most {NAME_LENGTH_MAX} characters")));
    }
    let partitions = match parts.next() {
        None => 1,
        Some(count) => count.parse::<i32>().ok().filter(|count| *count > 0).ok_or_else(|| {
            problem(format!("\"{count}\" is not a number of partitions: write NAME:PARTITIONS"))
        })?,
    };
    let mut configs = BTreeMap::new();
    for part in parts {
        if let Some((key, value)) = part.split_once('=') {
            configs.insert(key.trim().to_owned(), value.trim().to_owned());
        } else if ["compact", "delete", "compact,delete", "delete,compact"].contains(&part) {
            configs.insert("cleanup.policy".to_owned(), part.to_owned());
        } else if part.parse::<u16>().is_err() {
            return Err(problem(format!("\"{part}\" is neither compact nor KEY=VALUE")));
        }
    }
    Ok(SeedTopic { name: name.to_owned(), partitions, configs })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn topics_are_read() {
        let cases: &[(&str, i32, Pairs<'_>)] = &[
            ("a", 1, &[]),
            ("a:3", 3, &[]),
            ("a:3:compact", 3, &[("cleanup.policy", "compact")]),
            ("a:1:compact,delete", 1, &[("cleanup.policy", "compact,delete")]),
            (
                "a:1:retention.ms=5:max.message.bytes=7",
                1,
                &[("max.message.bytes", "7"), ("retention.ms", "5")],
            ),
            ("a:2:3:compact", 2, &[("cleanup.policy", "compact")]),
        ];
        for (text, partitions, configs) in cases {
            let topic = parse(text).unwrap();
            let configs =
                configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(topic, SeedTopic { name: "a".to_owned(), partitions: *partitions, configs });
        }
        assert_eq!(split_list(" a:1,b:2:compact\n c "), ["a:1", "b:2:compact", "c"]);
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        let long = "a".repeat(250);
        for text in ["", ":3", "a b", "..", "a:0", "a:many", "a:1:fast", "a/b:1", long.as_str()] {
            let error = parse(text).unwrap_err();
            assert!(error.0.starts_with(&format!("--topic {text}: ")), "{error}");
        }
    }
}
