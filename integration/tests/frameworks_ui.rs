//! A user interface in a browser: Kaskade, served as a web page, shows the topics and their records in Chromium. What the
//! screenshots show is read by text recognition.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use integration::frameworks::{Framework, is_long, node, say};
use integration::http;
use integration::ports::free_port;
use integration::until;

const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_page_shows_topics_and_records() {
    if !is_long() {
        return say("Kaskade in Chromium: left out, `make frameworks` runs it");
    }
    let cluster = node(&[]);
    let framework = Framework::new("ui");
    for topic in ["fruits", "vegetables"] {
        cluster.routes().create_topic(topic, 3, 1, &[]);
    }
    let mut kcat = Command::new("kcat");
    kcat.args(["-P", "-b", &cluster.bootstrap(), "-t", "fruits", "-K:"]).stdin(Stdio::piped());
    let mut kcat = kcat.spawn().expect("kcat can be started");
    let records = b"green:apples\nyellow:bananas\nblue:plums\n";
    kcat.stdin.take().expect("a pipe").write_all(records).expect("kcat reads");
    assert!(kcat.wait().expect("kcat ends").success(), "kcat could not write");

    let consumer = "consumer -t fruits --earliest -k string -v string";
    for (name, mode, words) in [
        ("topics", "admin", "fruits vegetables"),
        ("records", consumer, "fruits green apples yellow bananas blue plums"),
    ] {
        let port = free_port();
        let line = format!("serve {port} {mode} -b {}", cluster.bootstrap());
        let mut server = framework.start(name, &line);
        let url = format!("http://127.0.0.1:{port}/?fontsize=20");
        until("the page", PATIENCE, || {
            assert!(server.ended().is_none(), "the server of the page ended");
            http::get(&url)
        });
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kaskade-{name}.png"));
        let line = format!("shoot {url} {} {words}", picture.display());
        let text = framework.complete(&format!("{name}-picture"), &line, PATIENCE);
        say(&format!("{}:\n{text}", picture.display()));
    }
}
