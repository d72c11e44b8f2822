//! Both brokers under the same loads, in turn, and a report of what came of it.

pub mod figure;
mod life;
pub mod report;
pub mod run;
mod warm;
pub mod workloads;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::server::{Registry, Setup};
use report::{Circumstances, Report};
use run::{Runner, Scale};
use workloads::{WORKLOADS, Workload};

/// What is compared, and where the report goes.
#[derive(Debug, Args)]
pub struct Options {
    /// klamm's release binary
    #[arg(long, env = "KLAMM_BIN", value_name = "FILE")]
    klamm: PathBuf,
    /// The root of the clone
    #[arg(long, default_value = ".", value_name = "DIR")]
    root: PathBuf,
    /// Where data directories are made: on the disk that is measured
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    scratch: PathBuf,
    /// Where the report is written; what stands between its marks by hand is kept
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// Only these workloads; what is no name stands for all names that begin so
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Fewer workloads, bytes and rounds: about five minutes
    #[arg(long)]
    quick: bool,
    /// Also what takes Apache Kafka minutes
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// How often everything is measured
    #[arg(long, value_name = "COUNT")]
    rounds: Option<usize>,
}

impl Options {
    fn scale(&self) -> Scale {
        let (rounds, size) = if self.quick { (2, 0.4) } else { (3, 1.0) };
        Scale { rounds: self.rounds.unwrap_or(rounds).max(1), size, full: self.full }
    }

    fn selected(&self) -> io::Result<Vec<&'static Workload>> {
        let is_whole_name = |name: &String| WORKLOADS.iter().any(|workload| workload.name == name.as_str());
        let wanted = |workload: &&Workload| match &self.only[..] {
            [] => workload.quick || !self.quick,
            only => only.iter().any(|name| {
                workload.name == name.as_str()
                    || !is_whole_name(name) && workload.name.starts_with(name.as_str())
            }),
        };
        let selected: Vec<_> = WORKLOADS.iter().filter(wanted).collect();
        if selected.is_empty() {
            let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
            return Err(io::Error::other(format!("no such workload; there are: {}", names.join(" "))));
        }
        Ok(selected)
    }
}

/// Runs the comparison and writes the report; answers it as it is printed.
///
/// # Errors
/// When nothing can be started at all, or the report cannot be written. A workload that fails is told in the report.
pub fn compare(options: &Options, registry: &Registry) -> io::Result<String> {
    let selected = options.selected()?;
    fs::create_dir_all(&options.scratch)?;
    let setup = Setup {
        klamm: options.klamm.canonicalize()?,
        peer: options.root.join("integration/peer").canonicalize()?,
        scratch: options.scratch.canonicalize()?,
        registry: registry.clone(),
    };
    let mut circumstances = Circumstances::at_start(&setup, &options.root);
    let mut runner = Runner::new(setup, options.scale());
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for (at, workload) in selected.iter().enumerate() {
        eprintln!("[{}/{}] {}: {}", at + 1, selected.len(), workload.name, workload.what);
        let outcome = runner.run(workload);
        eprint!("{}", report::progress(&outcome));
        outcomes.push(outcome);
    }
    circumstances.at_end(start.elapsed(), runner.notes);
    let report = Report { outcomes: &outcomes, circumstances: &circumstances };
    report.write(&options.report, &options.scratch.join("rounds.tsv"))?;
    Ok(report.text())
}
