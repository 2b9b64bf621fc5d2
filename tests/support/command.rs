//! The tool as a person runs it.

use std::process::{Command, Output};

/// Runs the tool, without the traces of panics that whoever runs the tests may have asked for.
pub fn ocelli(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ocelli")).args(args).env_remove("RUST_BACKTRACE").output().unwrap()
}

/// What it printed; it must have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "exit {:?}\n{}\n{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Exit code 2 and every one of these in the message.
pub fn refused(args: &[&str], words: &[&str]) {
    let output = ocelli(args);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
    for word in words {
        assert!(message.contains(word), "{args:?}: expected \"{word}\" in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}
