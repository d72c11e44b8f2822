//! Ports for servers that can not be asked to choose one by themselves.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

/// Below the ports that the system gives to clients, which could take one while a server that is to have it is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// The locks of this process, and where it looks next.
static HELD: Mutex<(Vec<File>, u16)> = Mutex::new((Vec::new(), 0));

/// A port of 127.0.0.1 that nobody listens on, and that no other test is given as long as this process lives, also
/// while the server that it is for is down.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let directory = std::env::temp_dir().join("klamm-test-ports");
    fs::create_dir_all(&directory).expect("a directory for the locks of ports");
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let (locks, next) = &mut *held;
    let count = PORTS.end - PORTS.start;
    if locks.is_empty() {
        // Processes that start together look in different places.
        *next = u16::try_from(std::process::id() * 40 % u32::from(count)).unwrap_or(0);
    }
    for _ in 0..count {
        let port = PORTS.start + *next;
        *next = (*next + 1) % count;
        let lock = File::create(directory.join(port.to_string())).expect("a lock for a port");
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            locks.push(lock);
            return port;
        }
    }
    panic!("there is no free port in {PORTS:?}");
}
