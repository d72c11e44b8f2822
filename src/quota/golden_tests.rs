//! The throttle times of Apache Kafka's own quota managers: `golden/throttle_times.txt`, written by
//! `golden/ThrottleTimes.java`.

use super::clients::ClientQuotas;
use super::limits::{Client, Entity, Limits, Name, QuotaKind};
use super::rate::Windows;

const GOLDEN: &str = include_str!("golden/throttle_times.txt");
const CLIENT: Client<'static> = Client { user: "ANONYMOUS", client_id: "c" };

/// What one table of the file is about.
struct Table {
    kind: QuotaKind,
    /// Whether mutations are refused, where there is a quota for them.
    strict: bool,
    quotas: ClientQuotas,
}

impl Table {
    fn new(kind: &str, count: &str, seconds: &str) -> Self {
        let number = |text: &str| text.parse().expect("a number");
        let windows = Windows::new(number(count), number(seconds));
        let kind_of = match kind {
            "Produce" => QuotaKind::Produce,
            "Request" => QuotaKind::Request,
            _ => QuotaKind::ControllerMutation,
        };
        Self { kind: kind_of, strict: kind == "Strict", quotas: ClientQuotas::new(windows, windows) }
    }

    fn limit(&self, quota: f64) {
        let mut limits = Limits::default();
        limits.insert(Entity { user: None, client_id: Some(Name::Is("c".to_owned())) }, quota);
        self.quotas.set_limits(self.kind, limits);
    }

    fn record(&self, value: f64, now_ms: i64) -> i32 {
        if self.kind != QuotaKind::ControllerMutation {
            return self.quotas.record(self.kind, CLIENT, value, now_ms);
        }
        let quota = self.quotas.mutations(CLIENT, self.strict, now_ms).expect("there is one");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of partitions")]
        let partitions = value as usize;
        quota.record(partitions, now_ms);
        quota.throttle_ms(now_ms)
    }
}

#[test]
fn clients_are_held_back_for_as_long_as_by_kafka() {
    let mut table = None;
    let (mut now_ms, mut compared) = (0, 0);
    for (number, line) in (1..).zip(GOLDEN.lines()) {
        let words: Vec<&str> = line.split(' ').collect();
        let float = |text: &str| text.parse::<f64>().expect("a number");
        match (words.as_slice(), &table) {
            (["table", kind, count, seconds], _) => table = Some(Table::new(kind, count, seconds)),
            (["quota", quota], Some(table)) => table.limit(float(quota)),
            (["back", value], Some(table)) => {
                table.quotas.take_back(table.kind, CLIENT, float(value), now_ms);
            }
            ([elapsed, value, throttle], Some(table)) => {
                now_ms = elapsed.parse().expect("milliseconds");
                let held_back = table.record(float(value), now_ms).to_string();
                assert_eq!(held_back, *throttle, "line {number}: {line}");
                compared += 1;
            }
            _ => panic!("line {number}: {line}"),
        }
    }
    assert_eq!(compared, 24 * 60);
}
