//! The `klamm` binary: arguments and configuration, logging, the broker, signals.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use klamm::broker::{AdminListen, Broker, DataDirectory, Settings, StartError};
use klamm::cli::{self, Command, LogFormat, Options};
use klamm::clock::Clock;
use klamm::metadata::command::NewTopic;
use klamm::quorum::export::export_directory;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What is logged where `RUST_LOG` says nothing: our own notable events, and warnings of libraries.
const DEFAULT_FILTER: &str = "warn,klamm=info";

fn main() -> ExitCode {
    let options = Options::parse();
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let settings = match options.settings(&environment) {
        Ok(settings) => settings,
        Err(error) => return fail(&error),
    };
    start_logging(settings.log_format);
    if let Some(Command::ExportMetadata { to }) = &options.command {
        return export_metadata(&settings, to);
    }
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(run(broker_settings(settings))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "klamm: {error}");
    ExitCode::FAILURE
}

fn export_metadata(settings: &cli::Settings, to: &Path) -> ExitCode {
    match export_directory(&settings.data_dir, settings.broker.node_id, to) {
        Ok(path) => {
            // Where standard output is closed, nobody waits for the line.
            let _ = writeln!(io::stdout(), "{}", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let ansi = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().init(),
    }
}

fn broker_settings(settings: cli::Settings) -> Settings {
    let topic = |topic: cli::SeedTopic| NewTopic {
        partitions: topic.partitions,
        configs: topic.configs.into_iter().map(|(key, value)| (key, Some(value))).collect(),
        ..NewTopic::with_defaults(topic.name)
    };
    Settings {
        config: settings.broker,
        listeners: settings.listeners,
        controllers: settings.controllers,
        data: if settings.ephemeral {
            DataDirectory::Temporary(settings.data_dir)
        } else {
            DataDirectory::Kept(settings.data_dir)
        },
        cluster_id: settings.cluster_id,
        topics: settings.topics.into_iter().map(topic).collect(),
        admin: match settings.admin_listen {
            Some((host, port)) => AdminListen::At(host, port),
            None => AdminListen::Default,
        },
    }
}

/// Why the broker ended with an error.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("signals can not be received: {0}")]
    Signals(io::Error),
}

/// Serves until SIGTERM or SIGINT.
async fn run(settings: Settings) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let broker = Broker::start(settings, Clock::system()).await?;
    // Where standard output is closed, nobody waits for the line.
    let _ = writeln!(io::stdout(), "{}", broker.ready_line());
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM received, stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT received, stopping"),
    }
    broker.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}
