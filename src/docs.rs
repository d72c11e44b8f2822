//! The tables in the README are made from the declarations in the code. `make docs` writes them; these tests see to it
//! that nobody forgets.

mod parity;

use std::fs;
use std::path::PathBuf;

use crate::{config, metrics};

/// Set to write the tables instead of comparing them.
const UPDATE: &str = "KLAMM_UPDATE_DOCS";

/// What a real node of Apache Kafka advertises.
const KAFKA_ADVERTISES: &str = include_str!("../protocol-tests/golden/advertised.txt");

fn readme() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// The text with what stands between `<!-- generated: name -->` and the next `<!-- end -->` replaced.
fn with_section(text: &str, name: &str, table: &str) -> String {
    let start = format!("<!-- generated: {name} -->\n");
    let (before, after) = text.split_once(&start).expect("the README has a place for every table");
    let (_, after) = after.split_once("<!-- end -->").expect("every place has an end");
    format!("{before}{start}{table}<!-- end -->{after}")
}

#[test]
fn docs_readme_tables_are_current() {
    let before = fs::read_to_string(readme()).expect("the README can be read");
    let sections = [
        ("apis", parity::table_markdown(KAFKA_ADVERTISES)),
        ("differences", config::reference::differences_markdown()),
        ("configuration", config::reference::reference_markdown()),
        ("metrics", metrics::table::table_markdown()),
    ];
    let current =
        sections.iter().fold(before.clone(), |text, (name, table)| with_section(&text, name, table));
    if std::env::var_os(UPDATE).is_some() {
        fs::write(readme(), &current).expect("the README can be written");
    } else {
        assert!(before == current, "the README's tables are out of date: run `make docs`");
    }
}

#[test]
fn docs_every_metric_of_grafana_is_declared() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("grafana");
    for file in ["dashboards/klamm.json", "alerts.yml"] {
        let text = fs::read_to_string(folder.join(file)).expect("a file of grafana/");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("kafka_") || word.starts_with("process_")) {
            let declared = metrics::table::TABLE.iter().any(|metric| metric.name == word);
            assert!(declared, "{file} asks for {word}, which is not declared");
        }
    }
}
