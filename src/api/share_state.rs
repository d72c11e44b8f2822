//! What the APIs of the share coordinator have in common: a group, and topics with partitions, each of which is asked for
//! by itself.

use std::sync::Arc;

use futures_util::future::join_all;
use uuid::Uuid;

use super::text;
use crate::error::ApiError;
use crate::share::types::SharePartition;

/// One topic of a request, and one of its response.
pub(super) type OfTopic<T> = (Uuid, Vec<T>);

/// Asks for every partition, and gives the results in the order of the request. Where there is no group, or where what
/// is asked for is incomplete, Apache Kafka answers nothing at all.
pub(super) async fn ask_each<P, R, F: Future<Output = R>>(
    group_id: &str,
    topics: Vec<OfTopic<P>>,
    partition: impl Fn(&P) -> i32,
    ask: impl Fn(SharePartition, P) -> F,
) -> Vec<OfTopic<R>> {
    if group_id.is_empty() || topics.iter().any(|(_, partitions)| partitions.is_empty()) {
        return Vec::new();
    }
    let group_id: Arc<str> = text::shared(group_id);
    let asked = topics.into_iter().map(|(topic_id, partitions)| {
        let each = partitions.into_iter().map(|one| {
            let of = SharePartition { group_id: Arc::clone(&group_id), topic_id, partition: partition(&one) };
            ask(of, one)
        });
        let each = join_all(each);
        async move { (topic_id, each.await) }
    });
    join_all(asked).await
}

/// Code and message of a result: nothing where it is well.
pub(super) fn outcome<T>(result: &Result<T, ApiError>) -> (i16, Option<String>) {
    match result {
        Ok(_) => (0, None),
        Err(error) => (error.code.code(), Some(error.to_string())),
    }
}
