//! A data directory is free again when its broker has stopped, also within one process.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::cluster_tests::settings;
use super::*;

/// How long the last task of a stopped broker may take to end.
const END: Duration = Duration::from_secs(300);

/// Starts a broker as soon as the one before has ended.
async fn start_after(directory: &Path) -> Broker {
    let began = Instant::now();
    loop {
        let mut settings = settings(1, 0, directory.to_owned(), &[], &[]);
        settings.topics = vec![NewTopic::with_defaults("t".to_owned())];
        match Broker::start(settings, Clock::system()).await {
            Err(StartError::Storage(StorageError::Locked { .. })) if began.elapsed() < END => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            started => return started.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_broker_leaves_its_directory_to_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let broker = start_after(directory.path()).await;
        assert!(broker.handles.metadata.image().topics.get("t").is_some());
        broker.shutdown().await;
    }
}
