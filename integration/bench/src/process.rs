//! What the kernel tells of a process and of the machine: CPU time, memory, bytes written. Linux only.

use std::fs;
use std::io;
use std::time::Instant;

/// Clock ticks a second in /proc: 100 on every architecture that klamm is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// CPU time of all its threads, user and system, in seconds.
    pub cpu_s: f64,
    /// What it has caused to be written to disk: pages made dirty, and direct writes. Zero where the kernel does not say.
    pub write_bytes: u64,
}

/// Reads what a process has used, also of one that has ended and was not waited for yet.
///
/// # Errors
/// When there is no such process.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let cpu_s =
        cpu_of_stat(&stat).ok_or_else(|| io::Error::other("/proc/PID/stat reads otherwise than expected"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    Ok(Usage { cpu_s, write_bytes: field(&io, "write_bytes:").unwrap_or(0) })
}

/// Whether a process runs: not one that has ended and was not waited for.
#[must_use]
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// The name in parentheses may hold anything; the fields behind it are counted from its end.
fn cpu_of_stat(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident now.
    pub resident: u64,
    /// The most that was resident since the start, or since [`reset_peak`].
    pub peak: u64,
}

/// Reads the memory of a process; zeros where it has ended.
#[must_use]
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |name| field(&status, name).unwrap_or(0) * 1_024;
    Memory { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
}

/// Lets the peak count from now on. Answers false where that is not allowed; the peak then counts from the start.
pub fn reset_peak(pid: u32) -> bool {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok()
}

/// CPU time that the whole machine has spent on work, in seconds.
fn machine_busy_s() -> f64 {
    busy_of_stat(&fs::read_to_string("/proc/stat").unwrap_or_default()).unwrap_or(0.0)
}

/// User, nice, system, interrupts and stolen time; not idle and not waiting for disks, and guests count as users already.
fn busy_of_stat(stat: &str) -> Option<f64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().sum::<f64>() - idle) / TICKS_PER_SECOND)
}

/// Stops the use of a broker, of this process and of the machine over a stretch of time.
#[derive(Debug)]
pub struct Meter {
    pid: u32,
    start: Instant,
    broker: Usage,
    client: Usage,
    machine_s: f64,
    peak_is_of_run: bool,
}

/// What a stretch of time has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Wall time.
    pub seconds: f64,
    /// The broker's CPU time, in seconds.
    pub broker_cpu_s: f64,
    /// This process's CPU time, in seconds.
    pub client_cpu_s: f64,
    /// What everything else on the machine has used, in cores.
    pub other_cores: f64,
    /// What the broker has caused to be written.
    pub write_bytes: u64,
    /// The most memory that was resident, in bytes.
    pub peak: u64,
    /// Whether that is the peak of this stretch; otherwise it is that since the start of the process.
    pub peak_is_of_run: bool,
}

impl Meter {
    /// Starts to measure.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn start(pid: u32) -> io::Result<Self> {
        let peak_is_of_run = reset_peak(pid);
        Ok(Self {
            pid,
            start: Instant::now(),
            broker: usage(pid)?,
            client: usage(std::process::id())?,
            machine_s: machine_busy_s(),
            peak_is_of_run,
        })
    }

    /// What was used since the start. Can be asked more than once.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn read(&self) -> io::Result<Used> {
        let seconds = self.start.elapsed().as_secs_f64();
        let broker = usage(self.pid)?;
        let client = usage(std::process::id())?;
        let (broker_cpu_s, client_cpu_s) =
            (broker.cpu_s - self.broker.cpu_s, client.cpu_s - self.client.cpu_s);
        let others_s = machine_busy_s() - self.machine_s - broker_cpu_s - client_cpu_s;
        Ok(Used {
            seconds,
            broker_cpu_s,
            client_cpu_s,
            other_cores: (others_s / seconds.max(0.001)).max(0.0),
            write_bytes: broker.write_bytes.saturating_sub(self.broker.write_bytes),
            peak: memory(self.pid).peak,
            peak_is_of_run: self.peak_is_of_run,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_spaces() {
        let stat = "42 (a (odd) name) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 7 7 20 0 9 0 100 1 1";
        assert_eq!(cpu_of_stat(stat), Some(2.0));
        assert_eq!(cpu_of_stat("42 (short) S 1"), None);
    }

    #[test]
    fn idle_time_and_guests_are_not_work() {
        let stat = "cpu  100 10 50 9000 800 5 15 20 70 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_of_stat(stat), Some(2.0));
    }

    #[test]
    fn this_process_has_memory_and_runs() {
        let pid = std::process::id();
        let memory = memory(pid);
        assert!(memory.resident > 0 && memory.peak >= memory.resident, "{memory:?}");
        assert!(runs(pid));
        assert!(usage(pid).is_ok());
    }
}
