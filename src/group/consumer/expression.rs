//! Subscriptions by regular expression. The syntax is RE2's, and a topic's whole name has to match.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;
use tracing::{debug, error};

use super::draft::Draft;
use super::group::ConsumerChange;
use super::heartbeat::SubscriptionChange;
use super::record::{Body, Own, ResolvedExpression};
use crate::error::{ApiError, ErrorCode};
use crate::group::core::Timer;
use crate::group::modern::draft::refused;

/// How long after a resolution there is no other one (`REGEX_BATCH_REFRESH_MIN_INTERVAL_MS`).
const RESOLUTION_INTERVAL_MS: i64 = 10_000;

/// Compiles an expression that has to match the whole of a name.
///
/// # Errors
/// What is wrong with it.
fn compile(expression: &str) -> Result<Regex, String> {
    let expression = unquote(expression);
    Regex::new(&expression).map_err(|error| describe(&error))?;
    // A comment at the end, which the flag x allows, ends with the line.
    Regex::new(&format!("\\A(?:{expression})\\z"))
        .or_else(|_| Regex::new(&format!("\\A(?:{expression}\n)\\z")))
        .map_err(|error| describe(&error))
}

fn describe(error: &regex::Error) -> String {
    // The first lines show the expression and where it is wrong, the last one says what is.
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned()
}

/// RE2 takes what stands between `\Q` and `\E` as it is.
fn unquote(expression: &str) -> String {
    let mut plain = String::with_capacity(expression.len());
    let mut letters = expression.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('Q') => {
                let rest = letters.as_str();
                let (quoted, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                plain.push_str(&regex::escape(quoted));
                letters = after.chars();
            }
            Some(escaped) => plain.extend(['\\', escaped]),
            None => plain.push('\\'),
        }
    }
    plain
}

impl Draft<'_> {
    /// Takes in a member's regular expression, after the member was written (`maybeUpdateRegularExpressions`).
    pub(super) fn subscribe_to_expression(
        &mut self,
        old: Option<Arc<str>>,
        new: Option<Arc<str>>,
    ) -> Result<SubscriptionChange, ApiError> {
        let mut subscription = SubscriptionChange { changed: old != new, new_epoch: false };
        let mut is_new = false;
        if subscription.changed {
            let (old, new) = (old.filter(|text| !text.is_empty()), new.filter(|text| !text.is_empty()));
            if let Some(old) = old.as_ref().filter(|old| self.group.subscribers_of(old) == 0) {
                self.record(Body::Own(Own::Expression { expression: old.clone(), value: None }));
            }
            match &new {
                Some(new) if self.group.subscribers_of(new) == 1 => {
                    check(new)?;
                    is_new = true;
                }
                Some(new) => subscription.new_epoch = self.group.expressions.contains_key(new),
                None => subscription.new_epoch = old.is_some(),
            }
        }
        self.plan_resolution(is_new);
        Ok(subscription)
    }

    /// Has the regular expressions resolved soon, where one is new, topics were created, or the last time is long ago.
    fn plan_resolution(&mut self, is_new: bool) {
        let subscribed = self.group.subscribed_expressions().count();
        if subscribed == 0 || self.group.resolution_planned {
            return;
        }
        let last = self.group.expressions.values().next().map(|last| (last.resolved_at_ms, last.version));
        let is_due = last.is_none_or(|(at_ms, version)| {
            let age_ms = self.now_ms - at_ms;
            age_ms > RESOLUTION_INTERVAL_MS
                && (is_new
                    || version < self.cluster.new_topics_version
                    || age_ms > self.settings.expression_refresh_interval_ms
                    || subscribed != self.group.expressions.len())
        });
        if is_due {
            self.change(ConsumerChange::ResolutionPlanned);
            self.arm(Timer::Expressions { group_id: self.group.group_id.clone() }, 0);
        }
    }

    /// Finds the topics that the regular expressions match.
    pub(in crate::group) fn resolve_expressions(&mut self) {
        self.change(ConsumerChange::ResolutionDone);
        let mut changed = false;
        let expressions: Vec<Arc<str>> = self.group.subscribed_expressions().cloned().collect();
        if expressions.is_empty() {
            return;
        }
        for expression in expressions {
            let topics = self.matching_topics(&expression);
            let before = self.group.expressions.get(&expression);
            // One that matches nothing is no news where nothing was known.
            changed |= before.map_or(!topics.is_empty(), |before| *before.topics != topics);
            debug!(group = %self.group.group_id, expression = &*expression, topics = topics.len(), "resolved");
            let value = ResolvedExpression {
                topics: Arc::new(topics),
                version: self.cluster.version,
                resolved_at_ms: self.now_ms,
            };
            self.record(Body::Own(Own::Expression { expression, value: Some(value) }));
        }
        let metadata_hash = self.cluster.hash_of(self.group.subscribed_topics());
        if changed || metadata_hash != self.group.metadata_hash {
            self.refresh_topics(true);
        }
    }

    fn matching_topics(&self, expression: &str) -> BTreeSet<Arc<str>> {
        match compile(expression) {
            Ok(regex) => {
                let names = self.cluster.topics().map(|topic| &topic.name);
                names.filter(|name| regex.is_match(name)).cloned().collect()
            }
            Err(reason) => {
                // It was checked when it came; another broker may have been less strict.
                error!(group = %self.group.group_id, expression, reason, "a regular expression is left out");
                BTreeSet::new()
            }
        }
    }
}

fn check(expression: &str) -> Result<(), ApiError> {
    compile(expression).map(drop).or_else(|reason| {
        let text =
            format!("SubscribedTopicRegex `{expression}` is not a valid regular expression: {reason}.");
        refused(ErrorCode::InvalidRegularExpression, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, name: &str) -> bool {
        compile(expression).is_ok_and(|regex| regex.is_match(name))
    }

    #[test]
    fn the_whole_name_has_to_match() {
        assert!(matches("orders.*", "orders-eu"));
        assert!(!matches("orders", "orders-eu"));
        assert!(!matches("orders", "my-orders"));
        assert!(matches("^orders$", "orders"));
        assert!(matches("a|ab", "ab"));
        assert!(matches("(?i)ORDERS", "orders"));
        assert!(matches("(?x)orders # all of them", "orders"));
        assert!(!matches("(?x)orders # all of them", "orders-eu"));
    }

    #[test]
    fn the_syntax_is_that_of_re2() {
        assert!(matches(r"\Qa.b\E.*", "a.b-c"));
        assert!(!matches(r"\Qa.b\E.*", "aXb-c"));
        assert!(matches(r"\Qa.b", "a.b"));
        assert!(matches(r"\d+\.[[:alpha:]]+\pL", "12.abc"));
        for wrong in ["[", "(", "a)(b", "*", "(?=a)", r"(a)\1", "a{2,1}"] {
            assert!(compile(wrong).is_err(), "{wrong}");
            let error = check(wrong).expect_err("it is wrong");
            assert_eq!(error.code, ErrorCode::InvalidRegularExpression);
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
