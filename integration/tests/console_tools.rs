//! The Java console tools of Apache Kafka against klamm.

use std::path::Path;

#[test]
fn the_peer_has_a_project_file() {
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/pom.xml").exists());
}
