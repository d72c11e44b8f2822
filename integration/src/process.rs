//! A klamm process, started for one test and gone with it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a broker may take to serve or to stop: generous, since debug builds run beside other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// The klamm binary under test: `KLAMM_BIN`, or the one that cargo has put beside the test executables.
///
/// # Panics
/// When there is no such file, with the word what to do.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("KLAMM_BIN") {
        return path.into();
    }
    let path = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.parent()?.join("klamm")))
        .expect("a test executable lies two folders deep");
    assert!(
        path.exists(),
        "no klamm binary at {}: run `cargo build` first, or set KLAMM_BIN",
        path.display()
    );
    path
}

/// Asks until the answer is there; gives up at the deadline.
///
/// # Panics
/// When `patience` has passed, naming `what` was awaited.
pub fn until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How a klamm ended that did not come to serve.
#[derive(Debug)]
pub struct Exit {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All that it wrote to standard error.
    pub stderr: String,
}

/// A running klamm, on ports and in a data directory of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct Klamm {
    child: Child,
    arguments: Vec<String>,
    bootstrap: String,
    admin_url: String,
    data_dir: PathBuf,
    stderr: PathBuf,
    _scratch: TempDir,
}

impl Klamm {
    /// Starts klamm in a fresh data directory, with further command line arguments.
    ///
    /// # Panics
    /// When it does not come to serve.
    #[must_use]
    pub fn spawn(arguments: &[&str]) -> Self {
        let scratch = TempDir::new().expect("a temporary directory");
        let data_dir = scratch.path().join("data");
        Self::start(scratch, data_dir, arguments).unwrap_or_else(|exit| {
            panic!("klamm ended with {:?} instead of serving:\n{}", exit.code, exit.stderr)
        })
    }

    /// Starts klamm in the data directory that is given.
    ///
    /// # Errors
    /// The exit code and the words of a klamm that refused to serve.
    pub fn spawn_in(data_dir: &Path, arguments: &[&str]) -> Result<Self, Exit> {
        let scratch = TempDir::new().expect("a temporary directory");
        Self::start(scratch, data_dir.to_owned(), arguments)
    }

    fn start(scratch: TempDir, data_dir: PathBuf, arguments: &[&str]) -> Result<Self, Exit> {
        let stderr = scratch.path().join("stderr");
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let (child, ready) = launch(&data_dir, "127.0.0.1:0", "127.0.0.1:0", &arguments, &stderr)?;
        Ok(Self {
            child,
            arguments,
            bootstrap: ready.bootstrap,
            admin_url: ready.admin_url,
            data_dir,
            stderr,
            _scratch: scratch,
        })
    }

    /// Where Kafka clients connect: `127.0.0.1:PORT`, the same after a restart.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The HTTP side: `http://127.0.0.1:PORT`, the same after a restart.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard error so far, over all restarts.
    #[must_use]
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Ends the process at once, as a power-off of the process would: `kill -9`.
    pub fn kill9(&mut self) {
        // Both fail only where the process has ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the process to stop (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not stop in time.
    pub fn terminate(&mut self) -> ExitStatus {
        // The shell's own `kill`: a small system has no program of that name.
        let sent = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.pid())).status();
        assert!(sent.is_ok_and(|status| status.success()), "could not send SIGTERM");
        until("klamm to stop after SIGTERM", PATIENCE, || self.child.try_wait().ok().flatten())
    }

    /// Starts it again after [`Self::kill9`] or [`Self::terminate`], on the same ports and data.
    ///
    /// # Panics
    /// When it does not come to serve again.
    pub fn restart(&mut self) {
        let admin = self.admin_url.trim_start_matches("http://");
        match launch(&self.data_dir, &self.bootstrap, admin, &self.arguments, &self.stderr) {
            Ok((child, _)) => self.child = child,
            Err(exit) => panic!("klamm ended with {:?} at its restart:\n{}", exit.code, exit.stderr),
        }
    }
}

impl Klamm {
    /// Starts it again as [`Self::restart`] does, and kills it after so long, whatever it is doing then.
    ///
    /// # Panics
    /// When it can not be started, or has ended by itself.
    pub fn stumble(&mut self, after: Duration) {
        let admin = self.admin_url.trim_start_matches("http://");
        let mut command = command(&self.data_dir, &self.bootstrap, admin, &self.arguments, &self.stderr);
        self.child = command.stdout(Stdio::null()).spawn().expect("the klamm binary can be started");
        thread::sleep(after);
        let ended = self.child.try_wait().expect("the state of a child");
        assert!(ended.is_none(), "klamm ended by itself with {ended:?}:\n{}", self.stderr());
        self.kill9();
    }
}

impl Drop for Klamm {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            eprintln!("--- what klamm wrote to standard error ---\n{}", self.stderr());
        }
    }
}

/// The broker that a test talks to: one of its own, or the one that `KLAMM_TEST_BOOTSTRAP` names, such as an Apache
/// Kafka that the test is to be checked with.
#[derive(Debug)]
pub struct Target {
    /// Where clients connect.
    pub bootstrap: String,
    _own: Option<Klamm>,
}

impl Target {
    /// Starts klamm, unless another broker is named.
    #[must_use]
    pub fn start() -> Self {
        if let Ok(bootstrap) = std::env::var("KLAMM_TEST_BOOTSTRAP") {
            return Self { bootstrap, _own: None };
        }
        let klamm = Klamm::spawn(&[]);
        Self { bootstrap: klamm.bootstrap().to_owned(), _own: Some(klamm) }
    }
}

/// The line by which klamm says that it serves.
struct Ready {
    bootstrap: String,
    admin_url: String,
}

impl Ready {
    /// Reads `klamm ready: kafka=HOST:PORT admin=URL data=DIR in N ms`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("klamm ready: ")?.split(' ');
        let bootstrap = words.next()?.strip_prefix("kafka=")?.to_owned();
        let admin_url = words.next()?.strip_prefix("admin=")?.to_owned();
        Some(Self { bootstrap, admin_url })
    }
}

fn command(data_dir: &Path, listen: &str, admin: &str, arguments: &[String], stderr: &Path) -> Command {
    let log = File::options().create(true).append(true).open(stderr).expect("a file for standard error");
    let mut command = Command::new(binary());
    command
        .args(["--listen", listen, "--admin-listen", admin, "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(log);
    command
}

fn launch(
    data_dir: &Path,
    listen: &str,
    admin: &str,
    arguments: &[String],
    stderr: &Path,
) -> Result<(Child, Ready), Exit> {
    let mut child = command(data_dir, listen, admin, arguments, stderr)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the klamm binary can be started");
    let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
    let (send, receive) = mpsc::channel();
    // The pipe is read to its end, so that klamm never waits for its reader.
    thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(send.send(line))));
    match receive.recv_timeout(PATIENCE) {
        Ok(line) => {
            let ready = Ready::parse(&line)
                .unwrap_or_else(|| panic!("klamm's first line is not its ready line: {line}"));
            Ok((child, ready))
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let _ = child.kill();
            panic!(
                "klamm did not serve within {PATIENCE:?}:\n{}",
                fs::read_to_string(stderr).unwrap_or_default()
            )
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let status = child.wait().expect("the exit code of a child");
            Err(Exit { code: status.code(), stderr: fs::read_to_string(stderr).unwrap_or_default() })
        }
    }
}
