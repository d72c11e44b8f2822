//! kill -9 under load: whatever klamm has acknowledged is there after its restart.

use integration::Klamm;

#[test]
fn a_killed_broker_serves_again() {
    let mut broker = Klamm::spawn(&[]);
    broker.kill9();
    broker.restart();
}
