//! Writes the golden requests as frames into `corpus/requests`, where the fuzzer starts from. To be run in its own
//! directory; it needs nothing but rustc.

use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(".");
    let corpus = here.join("corpus/requests");
    fs::create_dir_all(&corpus)?;
    for (name, key) in names_and_keys(here)? {
        let samples = fs::read_to_string(here.join(format!("../golden/messages/{name}.txt")));
        for (line_number, line) in samples.unwrap_or_default().lines().enumerate() {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["request", version, header_version, hex] = words[..] {
                let mut frame = key.to_be_bytes().to_vec();
                frame.extend(version.parse::<i16>()?.to_be_bytes());
                frame.extend([0, 0, 0, 7, 0, 1, b'c']);
                frame.extend((header_version == "2").then_some(0));
                for digits in hex.trim_matches('-').as_bytes().chunks(2) {
                    frame.push(u8::from_str_radix(str::from_utf8(digits)?, 16)?);
                }
                fs::write(corpus.join(format!("{name}-{line_number}")), frame)?;
            }
        }
    }
    Ok(())
}

/// The lines of the table of shapes begin with the key and the name of an API.
fn names_and_keys(here: &Path) -> Result<Vec<(String, i16)>, std::io::Error> {
    let shapes = fs::read_to_string(here.join("../../src/protocol/guard/shapes.rs"))?;
    let lines = shapes.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let key = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), key))
    });
    Ok(lines.collect())
}
