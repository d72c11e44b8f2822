//! The report: goals first, then a table for every section, then every figure with its spread.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::figure::Figure;
use super::run::Outcome;
use super::workloads::{Bound, Goal, PEAK_GOAL_MB, Section};
use crate::server::{Kind, Setup};
use crate::stats::{Spread, ratios};

/// What stands between these lines is kept.
const BY_HAND: [&str; 2] = ["<!-- by hand: begin -->", "<!-- by hand: end -->"];

/// The machine and the versions.
#[derive(Debug)]
pub struct Circumstances {
    lines: Vec<(&'static str, String)>,
}

/// What a command writes, on one line; nothing where it cannot be run.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| {
        let both = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        String::from_utf8_lossy(&both).into_owned()
    });
    text.unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned()
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once([':', '=']).map_or("", |(_, value)| value).trim().trim_matches('"').to_owned()
}

impl Circumstances {
    /// Asks the machine, before anything runs.
    #[must_use]
    pub fn at_start(setup: &Setup, root: &Path) -> Self {
        let root = root.to_string_lossy();
        let scratch = setup.scratch.to_string_lossy();
        let commit = said("git", &["-C", &root, "log", "-1", "--format=%h"]);
        let changed =
            if said("git", &["-C", &root, "status", "--porcelain"]).is_empty() { "" } else { ", changed" };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let disk = said("sh", &["-c", &format!("df --output=fstype,source '{scratch}' | tail -1")]);
        Self {
            lines: vec![
                ("date", said("date", &["-u", "+%F %H:%M UTC"])),
                (
                    "machine",
                    format!(
                        "{} × {}, {} of memory",
                        cores,
                        field("/proc/cpuinfo", "model name"),
                        field("/proc/meminfo", "MemTotal")
                    ),
                ),
                ("kernel", said("uname", &["-sr"])),
                ("system", field("/etc/os-release", "PRETTY_NAME")),
                ("disk", disk),
                (
                    "klamm",
                    format!(
                        "{}, commit {commit}{changed}",
                        said(&setup.klamm.to_string_lossy(), &["--version"])
                    ),
                ),
                (
                    "Apache Kafka",
                    "4.3.1, stock server.properties, -Xmx1G -Xms1G, G1 as kafka-run-class.sh sets it"
                        .to_owned(),
                ),
                ("Java", said("java", &["-version"])),
                ("Rust", said("rustc", &["--version"])),
                ("load average before", load()),
            ],
        }
    }

    /// And after everything has run.
    pub fn at_end(&mut self, took: Duration, notes: Vec<(&'static str, String)>) {
        self.lines.push(("load average after", load()));
        self.lines.push(("took", format!("{} min {} s", took.as_secs() / 60, took.as_secs() % 60)));
        self.lines.extend(notes);
    }
}

/// A figure of both brokers over all rounds.
struct Compared {
    ours: Option<Spread>,
    theirs: Option<Spread>,
    ratio: Option<Spread>,
}

impl Compared {
    fn of(outcome: &Outcome, figure: Figure) -> Self {
        let value = |sample: &Option<super::figure::Sample>| {
            sample.as_ref().and_then(|sample| sample.get(&figure).copied())
        };
        let all = |at: usize| outcome.rounds.iter().filter_map(|round| value(&round[at])).collect::<Vec<_>>();
        // A ratio is made of the same round of both.
        let pairs = outcome.rounds.iter().filter_map(|[ours, theirs]| Some((value(ours)?, value(theirs)?)));
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.unzip();
        Self {
            ours: Spread::of(&all(0)),
            theirs: Spread::of(&all(1)),
            ratio: Spread::of(&ratios(&ours, &theirs)),
        }
    }

    fn is_empty(&self) -> bool {
        self.ours.is_none() && self.theirs.is_none()
    }
}

/// Three digits, and no more zeros than needed.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 99.95 {
        format!("{value:.0}")
    } else if magnitude >= 9.995 {
        format!("{value:.1}")
    } else if magnitude >= 0.0995 || magnitude == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".to_owned(), |spread| number(spread.median))
}

fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |spread| format!("{} ({}–{})", number(spread.median), number(spread.min), number(spread.max)),
    )
}

/// `klamm / Kafka = ratio`, medians.
fn cell(compared: &Compared, figure: Figure) -> String {
    if compared.is_empty() {
        return String::new();
    }
    let both = format!("{} / {}", median(compared.ours), median(compared.theirs));
    match compared.ratio {
        Some(ratio) if !figure.is_circumstance() => format!("{both} = **{}**", number(ratio.median)),
        _ => both,
    }
}

/// Whether a goal is reached, and how it reads; none where there is no figure.
fn judged(compared: &Compared, goal: Goal) -> (String, Option<bool>) {
    let ratio = compared.ratio.map(|ratio| ratio.median);
    match goal.bound {
        Bound::RatioAtMost(most) => (format!("≤ {most} ×"), ratio.map(|ratio| ratio <= most)),
        Bound::RatioAtLeast(least) => (format!("≥ {least} ×"), ratio.map(|ratio| ratio >= least)),
        Bound::AtMost(most) => {
            (format!("≤ {most} {}", goal.figure.unit()), compared.ours.map(|ours| ours.median <= most))
        }
    }
}

fn verdict(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "reached",
        Some(false) => "**not reached**",
        None => "not measured",
    }
}

/// What is printed when a workload is done.
#[must_use]
pub fn progress(outcome: &Outcome) -> String {
    let mut text = String::new();
    for figure in outcome.workload.section.figures() {
        let compared = Compared::of(outcome, *figure);
        if !compared.is_empty() {
            let name = format!("{} [{}]", figure.name(), figure.unit());
            let _ = writeln!(text, "    {name:<42} {}", cell(&compared, *figure).replace('*', ""));
        }
    }
    for error in &outcome.errors {
        let _ = writeln!(text, "    failed: {error}");
    }
    let _ = writeln!(text, "    took {:.0} s", outcome.took.as_secs_f64());
    text
}

/// All outcomes of a run.
#[derive(Debug)]
pub struct Report<'a> {
    /// In the order in which they ran.
    pub outcomes: &'a [Outcome],
    /// The machine and the versions.
    pub circumstances: &'a Circumstances,
}

impl Report<'_> {
    /// The generated part.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.circumstances.lines {
            let _ = writeln!(text, "- {name}: {value}");
        }
        text.push('\n');
        self.goals(&mut text);
        for section in Section::ALL {
            self.section(section, &mut text);
        }
        self.details(&mut text);
        text
    }

    fn goals(&self, text: &mut String) {
        text.push_str("## Goals\n\n| work | figure | klamm | Apache Kafka | ratio | goal | |\n|---|---|---:|---:|---:|---:|---|\n");
        for outcome in self.outcomes {
            for goal in outcome.workload.goals {
                let compared = Compared::of(outcome, goal.figure);
                let (bound, reached) = judged(&compared, *goal);
                let _ = writeln!(
                    text,
                    "| {} | {}, {} | {} | {} | {} | {bound} | {} |",
                    outcome.workload.name,
                    goal.figure.name(),
                    goal.figure.unit(),
                    range(compared.ours),
                    range(compared.theirs),
                    range(compared.ratio),
                    verdict(reached)
                );
            }
        }
        let peaks: Vec<_> = self.outcomes.iter().map(|outcome| Compared::of(outcome, Figure::Peak)).collect();
        let most = |of: fn(&Compared) -> Option<Spread>| {
            peaks.iter().filter_map(|peak| of(peak).map(|spread| spread.max)).max_by(f64::total_cmp)
        };
        let (ours, theirs) = (most(|peak| peak.ours), most(|peak| peak.theirs));
        let show = |peak: Option<f64>| peak.map_or_else(|| "–".to_owned(), number);
        let _ = writeln!(
            text,
            "| all of them | highest peak of resident memory, MB | {} | {} | | ≤ {PEAK_GOAL_MB} MB | {} |\n",
            show(ours),
            show(theirs),
            verdict(ours.map(|ours| ours <= PEAK_GOAL_MB))
        );
    }

    fn section(&self, section: Section, text: &mut String) {
        let outcomes: Vec<_> =
            self.outcomes.iter().filter(|outcome| outcome.workload.section == section).collect();
        let circumstances = [Figure::ClientCores, Figure::OtherCores, Figure::OtherCpuPerGb, Figure::LagP99];
        let figures: Vec<_> = section
            .figures()
            .iter()
            .chain(&circumstances)
            .filter(|figure| outcomes.iter().any(|outcome| !Compared::of(outcome, **figure).is_empty()))
            .collect();
        if figures.is_empty() {
            return;
        }
        let _ = write!(text, "## {}\n\n| work |", section.title());
        for figure in &figures {
            let _ = write!(text, " {}, {} |", figure.name(), figure.unit());
        }
        let _ = writeln!(text, "\n|---|{}", "---:|".repeat(figures.len()));
        for outcome in &outcomes {
            let _ = write!(text, "| {} |", outcome.workload.name);
            for figure in &figures {
                let _ = write!(text, " {} |", cell(&Compared::of(outcome, **figure), **figure));
            }
            text.push('\n');
        }
        text.push('\n');
        for outcome in &outcomes {
            let _ = writeln!(text, "- `{}`: {}", outcome.workload.name, outcome.workload.what);
            for error in outcome.errors.iter().collect::<BTreeSet<_>>() {
                let _ = writeln!(text, "  - **failed**: {}", error.replace('\n', " "));
            }
        }
        text.push('\n');
    }

    fn details(&self, text: &mut String) {
        text.push_str("## Every figure: median (least–most)\n\n<details>\n\n");
        text.push_str("| work | figure | klamm | Apache Kafka | ratio |\n|---|---|---:|---:|---:|\n");
        for outcome in self.outcomes {
            let figures: BTreeSet<Figure> =
                outcome.rounds.iter().flatten().flatten().flat_map(|sample| sample.keys().copied()).collect();
            for figure in figures {
                let compared = Compared::of(outcome, figure);
                let ratio = if figure.is_circumstance() { String::new() } else { range(compared.ratio) };
                let _ = writeln!(
                    text,
                    "| {} | {}, {} | {} | {} | {ratio} |",
                    outcome.workload.name,
                    figure.name(),
                    figure.unit(),
                    range(compared.ours),
                    range(compared.theirs)
                );
            }
        }
        text.push_str("\n</details>\n");
    }

    /// Writes the report, keeping what was written into it by hand, and every round as a table for other programs.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, report: &Path, rounds: &Path) -> io::Result<()> {
        let old = fs::read_to_string(report).unwrap_or_default();
        fs::write(report, document(&self.text(), &old))?;
        let mut table = String::from("workload\tround\tbroker\tfigure\tunit\tvalue\n");
        for outcome in self.outcomes {
            for (round, samples) in outcome.rounds.iter().enumerate() {
                for (kind, sample) in Kind::BOTH.iter().zip(samples) {
                    for (figure, value) in sample.iter().flatten() {
                        let _ = writeln!(
                            table,
                            "{}\t{round}\t{}\t{}\t{}\t{value}",
                            outcome.workload.name,
                            kind.name(),
                            figure.name(),
                            figure.unit()
                        );
                    }
                }
            }
        }
        fs::write(rounds, table)
    }
}

/// The whole file: how it came about, what is kept from the old one, and the figures.
fn document(figures: &str, old: &str) -> String {
    let kept = old
        .split_once(BY_HAND[0])
        .and_then(|(_, rest)| rest.split_once(BY_HAND[1]))
        .map_or("\n", |(kept, _)| kept);
    format!(
        "# klamm and Apache Kafka, side by side\n\n\
        Written by `make bench`, which builds klamm, fetches Apache Kafka from Maven Central and puts both under the same\n\
        load in turn, several rounds each. In the tables a cell reads `klamm / Apache Kafka = ratio`, medians of all rounds;\n\
        a ratio is taken within a round. GB and MB are 10⁹ and 10⁶ bytes of record values.\n\n\
        {}{kept}{}\n\n{figures}",
        BY_HAND[0], BY_HAND[1]
    )
}

#[cfg(test)]
mod tests {
    use super::super::workloads::WORKLOADS;
    use super::*;

    fn outcome(pairs: &[(Option<f64>, Option<f64>)]) -> Outcome {
        let sample = |value: Option<f64>| value.map(|value| [(Figure::CpuPerGb, value)].into());
        Outcome {
            workload: WORKLOADS.iter().find(|workload| workload.name == "produce-12").expect("it is there"),
            rounds: pairs.iter().map(|(ours, theirs)| [sample(*ours), sample(*theirs)]).collect(),
            errors: vec!["klamm: no answer".to_owned()],
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_round_in_which_one_has_failed_gives_no_ratio() {
        let outcome = outcome(&[(Some(1.0), Some(2.0)), (None, Some(100.0)), (Some(0.9), Some(1.0))]);
        let compared = Compared::of(&outcome, Figure::CpuPerGb);
        assert_eq!(compared.ratio, Some(Spread { min: 0.5, median: 0.7, max: 0.9 }));
        assert_eq!(compared.theirs.map(|theirs| theirs.max), Some(100.0));
        assert!(Compared::of(&outcome, Figure::Join).is_empty());
    }

    #[test]
    fn goals_are_judged_by_medians() {
        let goal = |bound| Goal { figure: Figure::CpuPerGb, bound };
        let compared = Compared::of(&outcome(&[(Some(1.0), Some(2.0))]), Figure::CpuPerGb);
        assert_eq!(judged(&compared, goal(Bound::RatioAtMost(0.5))).1, Some(true));
        assert_eq!(judged(&compared, goal(Bound::RatioAtMost(0.4))).1, Some(false));
        assert_eq!(judged(&compared, goal(Bound::RatioAtLeast(3.0))).1, Some(false));
        assert_eq!(judged(&compared, goal(Bound::AtMost(1.0))), ("≤ 1 s/GB".to_owned(), Some(true)));
        let failed = Compared::of(&outcome(&[(None, Some(2.0))]), Figure::CpuPerGb);
        assert_eq!(judged(&failed, goal(Bound::RatioAtMost(0.5))).1, None);
    }

    #[test]
    fn a_report_tells_failures_and_keeps_what_was_written_by_hand() {
        let outcomes = [outcome(&[(Some(1.0), Some(2.0))])];
        let circumstances = Circumstances { lines: vec![("date", "today".to_owned())] };
        let text = Report { outcomes: &outcomes, circumstances: &circumstances }.text();
        assert!(
            text.contains("| produce-12 | broker CPU, s/GB | 1.00 (1.00–1.00) | 2.00 (2.00–2.00) | 0.50"),
            "{text}"
        );
        assert!(
            text.contains("1.00 / 2.00 = **0.50**") && text.contains("**failed**: klamm: no answer"),
            "{text}"
        );
        let first = document(&text, "");
        let edited = first.replace(BY_HAND[0], &format!("{}\nLimits.\n", BY_HAND[0]));
        let second = document("new figures", &edited);
        assert!(second.contains("Limits.") && second.contains("new figures") && !second.contains("today"));
        assert_eq!(document("new figures", &second), second);
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown: Vec<_> = [0.0, 0.01234, 0.1, 1.234, 12.34, 123.4, 12_345.6].map(number).into();
        assert_eq!(shown, ["0.00", "0.012", "0.10", "1.23", "12.3", "123", "12346"]);
    }
}
