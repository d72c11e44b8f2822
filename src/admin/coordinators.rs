//! What the coordinators of transactions and groups tell a scrape about themselves.

use std::collections::BTreeMap;

use super::Admin;
use crate::metrics::{Metric, Sheet, table};
use crate::transaction::command::TransactionFilter;

/// Every state of a transaction, so that none is missing from a graph where nothing is in it.
const STATES: [&str; 7] =
    ["Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead"];

pub(super) async fn put_coordinators(sheet: &Sheet, admin: &Admin) {
    let transactions = &admin.transactions;
    let led = i64::try_from(transactions.led_partitions()).unwrap_or(i64::MAX);
    sheet.put(&table::TRANSACTION_PARTITIONS, &["active"], led);
    let now_ms = admin.clock.steady_ms();
    let put_times = |average: &Metric, max: &Metric, times: Option<(f64, f64)>| {
        if let Some((average_ms, max_ms)) = times {
            sheet.put_f64(average, &[], average_ms);
            sheet.put_f64(max, &[], max_ms);
        }
    };
    put_times(
        &table::TRANSACTION_LOAD_TIME_AVG,
        &table::TRANSACTION_LOAD_TIME_MAX,
        transactions.load_times().recent(now_ms),
    );
    put_times(
        &table::GROUP_LOAD_TIME_AVG,
        &table::GROUP_LOAD_TIME_MAX,
        admin.groups.load_times().recent(now_ms),
    );
    // A coordinator that is still loading is asked again at the next scrape.
    let Ok(listed) =
        transactions.list(TransactionFilter { duration_ms: -1, ..TransactionFilter::default() }).await
    else {
        return;
    };
    let mut by_state: BTreeMap<&str, i64> = STATES.map(|state| (state, 0)).into();
    for transaction in listed {
        *by_state.entry(transaction.state).or_default() += 1;
    }
    for (state, count) in by_state {
        sheet.put(&table::TRANSACTIONAL_IDS, &[state], count);
    }
}
