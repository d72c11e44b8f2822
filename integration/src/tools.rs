//! Apache Kafka's console tools, run one after the other in one JVM (see `peer/Driver.java`).

use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// No tool takes longer; a busy machine gets more.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a tool has written, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Checks that the tool ended well.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Checks that a line of the standard output is this one, words compared only: tables are padded.
    ///
    /// # Panics
    /// When there is no such line.
    pub fn has(&self, line: &str) -> &Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let found = self.stdout.lines().any(|l| l.split_whitespace().collect::<Vec<_>>() == words);
        assert!(found, "no line «{line}» in the output of {}:\n{}{}", self.command, self.stdout, self.stderr);
        self
    }

    /// Checks that the standard output or the standard error contains this text.
    ///
    /// # Panics
    /// When neither does.
    pub fn contains(&self, text: &str) -> &Self {
        let found = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(found, "no «{text}» in the output of {}:\n{}{}", self.command, self.stdout, self.stderr);
        self
    }

    /// Checks that the standard output does not contain this text.
    ///
    /// # Panics
    /// When it does.
    pub fn lacks(&self, text: &str) -> &Self {
        assert!(!self.stdout.contains(text), "«{text}» in the output of {}:\n{}", self.command, self.stdout);
        self
    }
}

/// A JVM that runs the tools against one broker.
#[derive(Debug)]
pub struct Tools {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<(i32, String, String)>,
    bootstrap: String,
}

impl Tools {
    /// Starts the JVM; the jars come from Maven Central on first use.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(bootstrap: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer");
        let fetched = Command::new(folder.join("fetch")).status().expect("peer/fetch can be started");
        assert!(fetched.success(), "peer/fetch failed");
        let mut child = Command::new(folder.join("tool"))
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("peer/tool can be started");
        let stdin = child.stdin.take().expect("standard input is a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let (send, answers) = mpsc::channel();
        thread::spawn(move || {
            while let Some(answer) = read_answer(&mut stdout) {
                if send.send(answer).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, answers, bootstrap: bootstrap.to_owned() }
    }

    /// Runs a tool with the words of this line, `--bootstrap-server` put in front.
    pub fn run(&mut self, line: &str) -> Output {
        self.run_with_input(line, "")
    }

    /// The same, with standard input.
    ///
    /// # Panics
    /// When the JVM is gone or the tool does not end.
    pub fn run_with_input(&mut self, line: &str, input: &str) -> Output {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        // Two tools have subcommands and want the option after them.
        let at = if words[0] == "kafka-cluster" { 2 } else { 1 };
        // And two work on files.
        if !["kafka-dump-log", "kafka-storage"].contains(&words[0]) {
            words.splice(at..at, ["--bootstrap-server", self.bootstrap.as_str()]);
        }
        let mut request = format!("{} {}\n", words.len(), input.len());
        for word in &words {
            request += word;
            request.push('\n');
        }
        request += input;
        self.stdin.write_all(request.as_bytes()).and_then(|()| self.stdin.flush()).expect("the JVM reads");
        let (code, stdout, stderr) =
            self.answers.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no answer from «{line}»: {e}"));
        Output { command: line.to_owned(), code, stdout, stderr }
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        // Both fail only where the JVM has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_answer(from: &mut impl std::io::BufRead) -> Option<(i32, String, String)> {
    let mut head = String::new();
    from.read_line(&mut head).ok()?;
    let mut numbers = head.split_whitespace();
    let code = numbers.next()?.parse().ok()?;
    let mut text = |length: &str| {
        let mut bytes = vec![0; length.parse().ok()?];
        from.read_exact(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let stdout = text(numbers.next()?)?;
    let stderr = text(numbers.next()?)?;
    Some((code, stdout, stderr))
}
