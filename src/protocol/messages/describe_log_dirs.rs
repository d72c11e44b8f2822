//! DescribeLogDirs (35): version 5 tells cordoned directories (KIP-1066), which the crate's response can not.

use crate::protocol::schema::schema;

schema! {
    /// Asks what the log directories hold (DescribeLogDirsRequest).
    pub struct DescribeLogDirsRequest, versions 1..=5, flexible 2.. {
        /// The topics; null for all.
        topics: Option<Vec<DescribableLogDirTopic>>,
    }

    /// A topic in a DescribeLogDirsRequest.
    pub struct DescribableLogDirTopic {
        /// Its name.
        topic: String,
        /// The partitions.
        partitions: Vec<i32>,
    }

    /// The answer (DescribeLogDirsResponse).
    pub struct DescribeLogDirsResponse, versions 1..=5, flexible 2.. {
        /// How long the client is held back by a quota, in milliseconds.
        throttle_time_ms: i32,
        /// What is wrong with the request as a whole, or 0. A version before 3 shows it by having no results.
        error_code: i16 [3.., ignorable],
        /// The directories.
        results: Vec<DescribeLogDirsResult>,
    }

    /// A log directory.
    pub struct DescribeLogDirsResult {
        /// What is wrong with it, or 0.
        error_code: i16,
        /// Its absolute path.
        log_dir: String,
        /// The topics in it.
        topics: Vec<DescribeLogDirsTopic>,
        /// The size of its volume in bytes, or -1.
        total_bytes: i64 [4.., ignorable] = -1,
        /// How much of the volume is free in bytes, or -1.
        usable_bytes: i64 [4.., ignorable] = -1,
        /// No new replicas are put here.
        is_cordoned: bool [5.., ignorable],
    }

    /// A topic in a log directory.
    pub struct DescribeLogDirsTopic {
        /// Its name.
        name: String,
        /// The partitions.
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// A partition in a log directory.
    pub struct DescribeLogDirsPartition {
        /// Its index.
        partition_index: i32,
        /// The size of its log, in bytes.
        partition_size: i64,
        /// How many records the log lags behind the high watermark or the current replica.
        offset_lag: i64,
        /// The log is to replace the current one of the replica.
        is_future_key: bool,
    }
}
