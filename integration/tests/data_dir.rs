//! Data directories that klamm must not use: one clear sentence, an exit code, and nothing destroyed.

use integration::Klamm;

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let first = Klamm::spawn(&[]);
    let exit = Klamm::spawn_in(first.data_dir(), &[]).expect_err("the directory is in use");
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert!(exit.stderr.contains("klamm: "), "{}", exit.stderr);
}
