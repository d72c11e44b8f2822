//! The HTTP side: metrics for Prometheus, and whether the broker lives and serves.

mod coordinators;
mod elections;
mod readiness;
mod scrape;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::group::coordinator::GroupCoordinator;
use crate::log::LogManager;
use crate::metadata::Metadata;
use crate::metrics::Metrics;
use crate::quota::Quotas;
use crate::replication::manager::ReplicaManager;
use crate::share::manager::SharePartitionManager;
use crate::share::state::coordinator::ShareCoordinator;
use crate::telemetry::Telemetry;
use crate::transaction::coordinator::TransactionCoordinator;

pub use elections::Elections;
pub use readiness::Progress;
use scrape::Idleness;

/// What Prometheus' text format calls itself.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The parts of the broker whose state is shown.
pub struct Admin {
    pub metrics: Arc<Metrics>,
    pub metadata: Arc<Metadata>,
    pub logs: Arc<LogManager>,
    /// How this broker's replicas follow their leaders.
    pub replicas: Arc<ReplicaManager>,
    pub elections: Arc<Elections>,
    pub groups: Arc<GroupCoordinator>,
    pub transactions: Arc<TransactionCoordinator>,
    /// What clients pushed.
    pub telemetry: Arc<Telemetry>,
    /// What clients have used of their quotas.
    pub quotas: Arc<Quotas>,
    pub clock: Clock,
    pub shares: Arc<SharePartitionManager>,
    pub share_state: Arc<ShareCoordinator>,
    /// How far the start has come.
    pub progress: Arc<Progress>,
    /// Cancelled when the broker stops: it is not ready from then on.
    pub stopping: CancellationToken,
}

struct Shared {
    admin: Admin,
    idleness: Mutex<Idleness>,
}

/// Serves until the broker stops, also before it is ready.
pub async fn run(listener: TcpListener, admin: Admin) {
    let stopped = admin.stopping.clone().cancelled_owned();
    let shared = Arc::new(Shared { admin, idleness: Mutex::new(Idleness::now()) });
    let router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shared);
    if let Err(error) = serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "metrics and health are no longer served");
    }
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><title>klamm</title><h1>klamm ",
        env!("CARGO_PKG_VERSION"),
        "</h1><p><a href=\"/metrics\">/metrics</a> for Prometheus, ",
        "<a href=\"/healthz\">/healthz</a>, <a href=\"/readyz\">/readyz</a>.\n"
    ))
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match shared.admin.why_not_ready() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let idle = shared.idleness.lock().since_last();
    let text = scrape::scrape(&shared.admin, idle).await;
    ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response()
}
