//! The two brokers: started in directories of their own, asked until they answer, stopped with a deadline, and gone with
//! whoever started them.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::Rng as _;

use crate::load::Broker;
use crate::process::{self, Usage};
use crate::topic;

/// How long a start may take: Apache Kafka with 10,000 partitions on a small machine takes minutes.
const START_PATIENCE: Duration = Duration::from_secs(600);
/// How long a broker may take to stop before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(120);
/// How long formatting may take: it starts two JVMs.
const FORMAT_PATIENCE: Duration = Duration::from_secs(60);
/// Where ports are looked for: below those that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// What kafka-run-class.sh and kafka-server-start.sh pass to the JVM.
const KAFKA_JVM: &str = "-Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
    -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true";

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The release build of this clone.
    Klamm,
    /// Apache Kafka from Maven Central.
    Kafka,
}

impl Kind {
    /// Both, in the order in which they stand in arrays.
    pub const BOTH: [Self; 2] = [Self::Klamm, Self::Kafka];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Klamm => "klamm",
            Self::Kafka => "Apache Kafka",
        }
    }
}

/// What has to go when the run is interrupted: processes and directories.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
struct Left {
    processes: Vec<u32>,
    directories: Vec<PathBuf>,
}

impl Registry {
    fn with<T>(&self, change: impl FnOnce(&mut Left) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Remembers a process that was started.
    pub fn started(&self, pid: u32) {
        self.with(|left| left.processes.push(pid));
    }

    /// Forgets a process that was waited for: its number may come again.
    pub fn ended(&self, pid: u32) {
        self.with(|left| left.processes.retain(|other| *other != pid));
    }

    /// Remembers a directory.
    pub fn directory(&self, path: &Path) {
        self.with(|left| left.directories.push(path.to_owned()));
    }

    /// Kills and removes everything.
    pub fn clean(&self) {
        self.with(|left| {
            left.processes.drain(..).for_each(|pid| signal(pid, "KILL"));
            for directory in left.directories.drain(..) {
                let _ = fs::remove_dir_all(directory);
            }
        });
    }
}

/// The shell's own `kill`: a small system has no program of that name.
fn signal(pid: u32, name: &str) {
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).stderr(Stdio::null()).status();
}

/// How brokers are started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// klamm's release binary.
    pub klamm: PathBuf,
    /// The folder `integration/peer`.
    pub peer: PathBuf,
    /// Where data directories are made: on the disk that is measured.
    pub scratch: PathBuf,
    /// What is cleaned when the run is interrupted.
    pub registry: Registry,
}

/// A broker on a port and in a directory of its own. Dropping it kills the process and removes the directory.
#[derive(Debug)]
pub struct Server {
    /// Which.
    pub kind: Kind,
    setup: Setup,
    directory: PathBuf,
    port: u16,
    child: Option<Child>,
    spawned: Instant,
}

/// Waits until a process has ended; one that takes too long is killed.
///
/// # Errors
/// When it took too long.
pub fn finished(child: &mut Child, patience: Duration, registry: &Registry) -> io::Result<ExitStatus> {
    registry.started(child.id());
    let end = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Ok(status);
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            break Err(io::Error::other(format!("a process took longer than {patience:?}")));
        }
        thread::sleep(Duration::from_millis(10));
    };
    registry.ended(child.id());
    status
}

/// A port that is free, and the next one as well.
fn ports() -> io::Result<u16> {
    for _ in 0..200 {
        let port = rand::rng().random_range(PORTS);
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 1) {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free ports"))
}

impl Server {
    /// A broker that is not started yet. Apache Kafka's directory is formatted; klamm needs nothing.
    ///
    /// # Errors
    /// When the directory cannot be made or formatted.
    pub fn new(kind: Kind, setup: &Setup) -> io::Result<Self> {
        let number: u32 = rand::rng().random();
        let directory = setup.scratch.join(format!("{kind:?}-{number:08x}").to_lowercase());
        fs::create_dir_all(&directory)?;
        setup.registry.directory(&directory);
        let server = Self {
            kind,
            setup: setup.clone(),
            directory,
            port: ports()?,
            child: None,
            spawned: Instant::now(),
        };
        if kind == Kind::Kafka {
            let mut format = Command::new(setup.peer.join("start"));
            format.arg("--format").arg(server.data()).arg(server.port.to_string());
            let mut child =
                format.stdin(Stdio::null()).stdout(Stdio::null()).stderr(server.log()?).spawn()?;
            if !finished(&mut child, FORMAT_PATIENCE, &setup.registry)?.success() {
                return Err(io::Error::other(format!(
                    "Apache Kafka could not be formatted: {}",
                    server.log_tail()
                )));
            }
        }
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The directory that the broker writes to.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn log(&self) -> io::Result<File> {
        File::options().create(true).append(true).open(self.directory.join("log"))
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join(" | ")
    }

    /// Where it listens.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process, to be put under load.
    ///
    /// # Errors
    /// When it does not run.
    pub fn broker(&self) -> io::Result<Broker> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other("the broker was not started"))?;
        if !process::runs(child.id()) {
            return Err(io::Error::other(format!(
                "{} has ended by itself: {}",
                self.kind.name(),
                self.log_tail()
            )));
        }
        Ok(Broker { bootstrap: self.bootstrap(), pid: child.id() })
    }

    /// Since when the process runs.
    #[must_use]
    pub fn since_spawn(&self) -> Duration {
        self.spawned.elapsed()
    }

    /// Starts the process and waits for its first answer to Metadata; answers how long that took.
    ///
    /// # Errors
    /// When it ends, or does not answer in time.
    pub fn start(&mut self) -> io::Result<Duration> {
        let mut command = match self.kind {
            Kind::Klamm => {
                let mut command = Command::new(&self.setup.klamm);
                let admin = format!("127.0.0.1:{}", self.port + 1);
                command
                    .args(["--listen", &self.bootstrap(), "--admin-listen", &admin, "--data-dir"])
                    .arg(self.data());
                command
            }
            Kind::Kafka => {
                let mut command = Command::new(self.setup.peer.join("start"));
                command.arg(self.data()).arg(self.port.to_string()).env("KAFKA_HEAP_OPTS", KAFKA_JVM);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(self.log()?).stderr(self.log()?);
        self.spawned = Instant::now();
        let child = command.spawn()?;
        self.setup.registry.started(child.id());
        self.child = Some(child);
        loop {
            if topic::metadata(&self.bootstrap()).is_ok() {
                return Ok(self.since_spawn());
            }
            self.broker()?;
            if self.since_spawn() > START_PATIENCE {
                return Err(io::Error::other(format!("no answer to Metadata: {}", self.log_tail())));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops it as an operator does (SIGTERM) and answers what the process has used in its whole life. One that does not
    /// stop in time is killed.
    ///
    /// # Errors
    /// When it was not running, or had to be killed.
    pub fn stop(&mut self) -> io::Result<Usage> {
        let pid = self.broker()?.pid;
        signal(pid, "TERM");
        let end = Instant::now() + STOP_PATIENCE;
        while process::runs(pid) {
            if Instant::now() > end {
                self.kill();
                return Err(io::Error::other(format!("{} did not stop in time", self.kind.name())));
            }
            thread::sleep(Duration::from_millis(5));
        }
        // Until it is waited for, the kernel still tells what it has used.
        let usage = process::usage(pid);
        self.kill();
        usage
    }

    /// Ends it at once: `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.setup.registry.ended(child.id());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Writes everything that is dirty to the disks of the machine, so that the one does not pay for what the other has written.
pub fn sync() {
    rustix::fs::sync();
}

/// Lets the kernel forget the contents of the files below a directory, so that they are read from disk again. Answers how.
pub fn drop_page_cache(directory: &Path) -> &'static str {
    sync();
    forget(directory);
    if fs::write("/proc/sys/vm/drop_caches", "1").is_ok() { "drop_caches" } else { "posix_fadvise" }
}

fn forget(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            forget(&path);
        } else if let Ok(file) = File::open(&path) {
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
}
