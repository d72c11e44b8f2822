//! The house rules that a compiler does not know, checked over the sources themselves.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this is cut, whatever it holds.
const FILE_LINES_MAX: usize = 900;

/// Which modules of `src` a module may use. What is not listed is not allowed; a new edge needs a
/// reason in the commit that adds it.
const EDGES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("error", &[]),
    ("clock", &["types"]),
    ("protocol", &["error", "types"]),
    ("metrics", &["error", "types"]),
    ("config", &["error", "types"]),
    // How levels are changed is read as every other configuration.
    ("levels", &["config", "error"]),
    // Clients compress what they push as they compress records.
    ("telemetry", &["config", "error", "log", "metrics", "types"]),
    ("client", &["clock", "config", "error", "metrics", "protocol", "types"]),
    ("quota", &["clock", "config", "error", "metrics", "types"]),
    ("storage", &["clock", "config", "error", "metrics", "types"]),
    ("log", &["clock", "config", "error", "metrics", "protocol", "storage", "types"]),
    ("shard", &["clock", "config", "error", "log", "metrics", "storage", "types"]),
    ("quorum", &["client", "clock", "config", "error", "log", "metrics", "protocol", "storage", "types"]),
    // The controller's driver appends through the quorum.
    (
        "metadata",
        &["client", "clock", "config", "error", "log", "metrics", "protocol", "quorum", "storage", "types"],
    ),
    (
        "replication",
        &[
            "client", "clock", "config", "error", "log", "metadata", "metrics", "protocol", "quorum",
            "storage", "types",
        ],
    ),
    ("transaction", &["clock", "config", "error", "log", "metrics", "protocol", "shard", "storage", "types"]),
    (
        "share",
        &["client", "clock", "config", "error", "log", "metrics", "protocol", "shard", "storage", "types"],
    ),
    ("group", &["clock", "config", "error", "log", "metrics", "protocol", "shard", "storage", "types"]),
    (
        "api",
        &[
            "client",
            "clock",
            "config",
            "error",
            "group",
            "levels",
            "log",
            "metadata",
            "metrics",
            "protocol",
            "quorum",
            "quota",
            "replication",
            "share",
            "telemetry",
            "transaction",
            "types",
        ],
    ),
    ("net", &["api", "clock", "config", "error", "metrics", "protocol", "quota", "types"]),
    // The HTTP side reads the state of all parts when it is scraped.
    (
        "admin",
        &[
            "clock",
            "config",
            "error",
            "group",
            "log",
            "metadata",
            "metrics",
            "quorum",
            "quota",
            "replication",
            "share",
            "telemetry",
            "transaction",
            "types",
        ],
    ),
    (
        "broker",
        &[
            "admin",
            "api",
            "client",
            "clock",
            "config",
            "error",
            "group",
            "levels",
            "log",
            "metadata",
            "metrics",
            "net",
            "protocol",
            "quorum",
            "quota",
            "replication",
            // Which partitions of the coordinators' topics are led.
            "shard",
            "share",
            "storage",
            "telemetry",
            "transaction",
            "types",
        ],
    ),
    // The simulation: the real cores in a world that is made up.
    ("sim", &["config", "error", "log", "metadata", "quorum", "replication", "types"]),
    // `klamm cluster` creates topics once its nodes serve; `klamm format` says with which features a cluster begins.
    ("cli", &["client", "clock", "config", "error", "metadata", "types"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source below `directory`, except what cargo and other tools put there.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the sources can be read").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !["target", "node_modules", ".git"].iter().any(|skipped| name == *skipped) {
                found.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module of `src` that a file belongs to.
fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a file of src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a source names as `crate::module`.
fn used_modules(source: &str) -> BTreeSet<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut used = BTreeSet::new();
    for line in code {
        for after in line.split("crate::").skip(1) {
            let group = after.strip_prefix('{').and_then(|rest| rest.split('}').next());
            for path in group.unwrap_or(after).split(',') {
                let name: String =
                    path.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                used.insert(name);
            }
        }
    }
    used
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let modules: BTreeSet<&str> = EDGES.iter().map(|(module, _)| *module).collect();
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        let module = module_of(&path);
        let source = fs::read_to_string(&path).expect("a source can be read");
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == module) else { continue };
        for used in used_modules(&source) {
            if modules.contains(used.as_str()) && used != module && !allowed.contains(&used.as_str()) {
                broken.push(format!("{}: {module} → {used}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "edges that src/tidy.rs does not list:\n{}", broken.join("\n"));
}

#[test]
fn every_module_has_its_edges_listed() {
    let listed: BTreeSet<String> = EDGES.iter().map(|(module, _)| (*module).to_owned()).collect();
    let present: BTreeSet<String> = sources(&root().join("src")).iter().map(|path| module_of(path)).collect();
    let unlisted: Vec<_> = present
        .difference(&listed)
        .filter(|name| !["docs", "lib", "main", "testing", "tidy"].contains(&name.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "modules without edges in src/tidy.rs: {unlisted:?}");
}

#[test]
fn files_stay_readable() {
    let mut long = Vec::new();
    for path in sources(&root()) {
        let lines = fs::read_to_string(&path).expect("a source can be read").lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "files over {FILE_LINES_MAX} lines:\n{}", long.join("\n"));
}

/// The cores are synchronous and blind: they are told the time, and given what they need.
#[test]
fn cores_know_no_runtime_and_no_clock() {
    let cores = [
        "src/group/core",
        "src/group/core.rs",
        "src/metadata/controller",
        "src/metadata/image.rs",
        "src/quorum/core",
        "src/quota",
        "src/replication/follower.rs",
        "src/replication/lifecycle.rs",
        "src/share/partition",
        "src/transaction/core.rs",
        "src/transaction/state.rs",
    ];
    let forbidden = [
        "tokio::",
        "async ",
        ".await",
        "Clock",
        "SystemTime",
        "Instant::now",
        "rand::rng()",
        "crate::storage",
    ];
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        let inside = path.strip_prefix(root()).expect("a file of this package");
        if !cores.iter().any(|core| inside.starts_with(core)) {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source can be read");
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{}: {word}", inside.display(), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "cores that are not blind:\n{}", broken.join("\n"));
}

/// A property test of its own making plays other cases in each run, and fails when it likes.
#[test]
fn property_tests_play_what_the_shared_configuration_says() {
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        if ["testing", "tidy"].contains(&module_of(&path).as_str()) {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source can be read");
        let count = |word: &str| source.matches(word).count();
        let own = count("ProptestConfig") + count("TestRunner::default") + count("with_cases(");
        let shared = count("proptest_config(properties(") + count("TestRunner::new(properties(");
        if own > 0 || shared != count("proptest! {") + count("TestRunner::new(") {
            broken.push(path.display().to_string());
        }
    }
    assert!(broken.is_empty(), "not by crate::testing::properties:\n{}", broken.join("\n"));
}

#[test]
fn only_storage_names_rocksdb_and_only_net_names_sockets() {
    let owners = [
        ("rocksdb::", &["storage"][..]),
        ("TcpStream", &["net", "admin", "client"]),
        ("TcpListener", &["net", "admin", "broker", "cli", "client"]),
    ];
    let mut broken = Vec::new();
    for path in sources(&root().join("src")) {
        let module = module_of(&path);
        if ["docs", "tidy", "main"].contains(&module.as_str()) {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source can be read");
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        for (word, modules) in owners {
            if code.contains(word) && !modules.contains(&module.as_str()) {
                broken.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "names in the wrong module:\n{}", broken.join("\n"));
}
