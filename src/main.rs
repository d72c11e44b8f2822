//! The `klamm` binary: arguments and configuration, logging, the broker, signals.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use klamm::broker::{AdminListen, Broker, DataDirectory, Settings, StartError};
use klamm::cli::{self, Command, FormatOptions, Formatting, LogFormat, Options};
use klamm::clock::Clock;
use klamm::levels::Levels;
use klamm::metadata::command::NewTopic;
use klamm::quorum::export::export_directory;
use klamm::storage::{MetaProperties, Store, StoreOptions};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let options = Options::parse();
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let settings = match options.settings(&environment) {
        Ok(settings) => settings,
        Err(error) => return fail(&error),
    };
    let levels = start_logging(settings.log_format, environment.get("RUST_LOG"));
    let ended: Result<(), Box<dyn std::error::Error>> = match &options.command {
        Some(Command::ExportMetadata { to }) => return export_metadata(&settings, to),
        Some(Command::Format(how)) => return format(&settings, how),
        Some(Command::Cluster(cluster)) => on_runtime(options.run_cluster(cluster)),
        None => {
            for warning in &settings.warnings {
                tracing::warn!("{warning}");
            }
            on_runtime(run(broker_settings(settings, levels)))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn on_runtime<E: std::error::Error + 'static>(
    work: impl Future<Output = Result<(), E>>,
) -> Result<(), Box<dyn std::error::Error>> {
    tokio::runtime::Runtime::new()?.block_on(work).map_err(Into::into)
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

fn format(settings: &cli::Settings, how: &FormatOptions) -> ExitCode {
    let directory = &settings.data_dir;
    let formatted = || -> Result<(), Box<dyn std::error::Error>> {
        let Formatting { cluster_id, node_id, directory_id, initial_controllers, features } =
            settings.formatting(how)?;
        let shown = directory.display();
        if let Some(owner) = Store::owner(directory)? {
            owner.check(directory, &StoreOptions { node_id, cluster_id: how.cluster_id.clone() })?;
            if !how.ignore_formatted {
                return Err(
                    format!("{shown} was formatted before: --ignore-formatted leaves it as it is").into()
                );
            }
            // Where standard output is closed, nobody waits for the line.
            let _ = writeln!(io::stdout(), "{shown} was formatted before and is left as it is");
            return Ok(());
        }
        let levels: Vec<String> = features.iter().map(|(name, level)| format!("{name}={level}")).collect();
        let properties = MetaProperties {
            cluster_id,
            node_id,
            directory_id,
            initial_controllers: Some(initial_controllers),
            features: Some(features),
        };
        Store::format(directory, &properties)?;
        let (cluster_id, levels) = (properties.cluster_id, levels.join(", "));
        let _ =
            writeln!(io::stdout(), "{shown} is formatted for node {node_id} of {cluster_id}, with {levels}");
        Ok(())
    };
    match formatted() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

/// Starts to write events to standard error. What is written can be changed by what is returned.
fn start_logging(format: LogFormat, rust_log: Option<&String>) -> Levels {
    let levels = Levels::from_environment(rust_log.map(String::as_str));
    let lines = tracing_subscriber::fmt().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    // A filter can not be handed over only where the subscriber is gone, and then nothing is written any more.
    match format {
        LogFormat::Text => {
            let lines = lines.with_env_filter(levels.filter()).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            levels.followed_by(move |filter| drop(handle.reload(filter)))
        }
        LogFormat::Json => {
            let lines = lines.json().with_env_filter(levels.filter()).with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            levels.followed_by(move |filter| drop(handle.reload(filter)))
        }
    }
}

fn broker_settings(settings: cli::Settings, levels: Levels) -> Settings {
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
        levels,
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
