//! The folders `frameworks/<name>`: programs that run on top of a broker, each with the programs `setup` and `run`.
//!
//! A scenario starts a node of its own ([`node`]), runs programs against it ([`Framework::start`]), does harm to them and to
//! the node, and looks at what is there in the end. `KLAMM_TEST_CLUSTER=kafka` runs it against Apache Kafka, by which the
//! scenario itself is checked. `KLAMM_FRAMEWORKS=long` makes scenarios long ([`setting`]), as `make frameworks` does.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cluster::{Cluster, Kind, Layout};
use crate::process::until;

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(90);
/// How many of its last lines a program is remembered by when a test fails.
const LAST_LINES: usize = 60;

/// Whether `make frameworks` runs, which also plays what is left out of `make test`.
#[must_use]
pub fn is_long() -> bool {
    std::env::var("KLAMM_FRAMEWORKS").is_ok_and(|value| value == "long")
}

/// The first value in `make test`, the second one in `make frameworks`.
#[must_use]
pub fn setting<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// Says a line past the test runner, which swallows what a passing test prints.
pub fn say(line: &str) {
    // A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One node of what is under test, with these keys set, and id 1.
#[must_use]
pub fn node(config: &[(&str, &str)]) -> Cluster {
    let layout = Layout::one(Kind::under_test());
    Cluster::start(config.iter().fold(layout, |layout, (key, value)| layout.with(key, value)))
}

/// A folder under `integration/frameworks`.
#[derive(Debug)]
pub struct Framework {
    folder: PathBuf,
    scratch: TempDir,
}

impl Framework {
    /// The framework in the folder of this name, set up.
    ///
    /// # Panics
    /// When its `setup` fails.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("frameworks").join(name);
        let done = Command::new(folder.join("setup")).stdin(Stdio::null()).output();
        let done = done.unwrap_or_else(|error| panic!("frameworks/{name}/setup: {error}"));
        assert!(
            done.status.success(),
            "frameworks/{name}/setup failed:\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
        Self { folder, scratch: TempDir::new().expect("a temporary directory") }
    }

    /// A directory for what programs keep; it vanishes with this value.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file of this name into [`Self::scratch`] and gives its path.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.scratch.path().join(name);
        fs::write(&path, content).expect("a file of its own can be written");
        path.display().to_string()
    }

    /// Starts `run` with the words of this line. `name` names the program in messages.
    #[must_use]
    pub fn start(&self, name: &str, line: &str) -> Program {
        self.start_with(name, line, &[])
    }

    /// The same with these environment variables.
    #[must_use]
    pub fn start_with(&self, name: &str, line: &str, variables: &[(&str, &str)]) -> Program {
        let mut program = Program {
            name: name.to_owned(),
            program: self.folder.join("run"),
            arguments: line.split_whitespace().map(str::to_owned).collect(),
            variables: variables
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            directory: self.scratch.path().to_owned(),
            output: self.scratch.path().join(format!("{name}.log")),
            child: None,
        };
        program.launch();
        program
    }

    /// Runs a program to its end and gives what it wrote.
    ///
    /// # Panics
    /// When it fails, or does not end in time.
    #[must_use]
    pub fn complete(&self, name: &str, line: &str, patience: Duration) -> String {
        let mut program = self.start(name, line);
        let status = program.wait(patience);
        assert!(status.success(), "{name} ended with {status}");
        program.output()
    }
}

/// A running program. Dropping it kills it; what it wrote last is shown when the test has failed.
#[derive(Debug)]
pub struct Program {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    directory: PathBuf,
    output: PathBuf,
    child: Option<Child>,
}

impl Program {
    /// Starts it again with the same arguments, after it has ended.
    ///
    /// # Panics
    /// When it runs, or can not be started.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log =
            File::options().create(true).append(true).open(&self.output).expect("a file for the output");
        let errors = log.try_clone().expect("a second handle");
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        self.child = Some(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name)));
    }

    /// All that it has written so far, over all its lives.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read(&self.output).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How many lines with this text it has written so far.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.output().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until it has written so many lines with this text, and gives the last of them.
    ///
    /// # Panics
    /// When it does not, or has ended before.
    pub fn await_lines(&mut self, text: &str, count: usize, patience: Duration) -> String {
        let end = Instant::now() + patience;
        loop {
            // In this order: what was written before the end is there.
            let ended = self.ended();
            let output = self.output();
            let mut lines = output.lines().filter(|line| line.contains(text));
            if let Some(line) = lines.nth(count.saturating_sub(1)) {
                return line.to_owned();
            }
            assert!(ended.is_none(), "{} ended with {ended:?} before it wrote «{text}»", self.name);
            assert!(Instant::now() < end, "waited {patience:?} for {} to write «{text}»", self.name);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Starts it again when it has ended by itself.
    ///
    /// # Panics
    /// As [`Self::launch`] does.
    pub fn relaunch(&mut self) {
        if self.ended().is_some() {
            self.child = None;
        }
        self.launch();
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let child = self.child.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name));
        let status = until(&format!("{} to end", self.name), patience, || child.try_wait().ok().flatten());
        self.child = None;
        status
    }

    /// Sends it the signal of this name.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let Some(child) = &self.child else { panic!("{} does not run", self.name) };
        // The shell's own `kill`: a small system has no program of that name. It fails only where the process has ended.
        let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", child.id())).status();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait(PATIENCE)
    }

    /// Ends it at once: `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only where the process has ended already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("--- the last words of {} ---\n{}", self.name, last.join("\n"));
        }
    }
}
