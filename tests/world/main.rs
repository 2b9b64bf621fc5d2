//! Several processes in one run. With the feature `mpi` they run for real, started by `mpirun` on this machine; without it the tool
//! says that it cannot share one.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/command.rs"]
#[allow(dead_code)]
mod command;
#[cfg(feature = "mpi")]
mod ends;
#[cfg(feature = "mpi")]
mod kills;
#[cfg(feature = "mpi")]
mod launch;
#[cfg(feature = "mpi")]
mod same;

/// What a launcher tells its processes.
#[cfg(not(feature = "mpi"))]
const LAUNCHED: [(&str, &str); 2] = [("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_RANK", "1")];

#[test]
#[cfg(not(feature = "mpi"))]
fn a_build_without_mpi_refuses_to_be_one_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = |variables: &[(&str, &str)], command: &[&str]| {
        let mut tool = std::process::Command::new(env!("CARGO_BIN_EXE_ocelli"));
        tool.args(command).arg("--out").arg(&out).envs(variables.iter().copied());
        let output = tool.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let pretrain = ["pretrain", "--data", "scenes:16", "--preset", "demo", "--device", "cpu"];
    for variables in [&LAUNCHED[..], &[("PMI_SIZE", "2")], &[("PMIX_RANK", "0"), ("SLURM_NTASKS", "2")]] {
        let (code, message) = run(variables, &pretrain);
        assert_eq!(code, Some(2), "{message}");
        for words in ["found 2 that a launcher started", "--features mpi", "libopenmpi-dev"] {
            assert!(message.contains(words), "expected \"{words}\" in: {message}");
        }
    }
    let (code, message) = run(&LAUNCHED, &["demo"]);
    assert!(code == Some(2) && message.contains("`ocelli demo` works in one process"), "{message}");
    assert!(!out.exists(), "nothing was written");
    // One process under a launcher is like any other, and so is one that a Slurm script runs without srun.
    for variables in [[("OMPI_COMM_WORLD_SIZE", "1"), ("X", "")], [("SLURM_NTASKS", "2"), ("X", "")]] {
        let (code, message) = run(&variables, &["pretrain", "--data", "no-such-folder", "--preset", "demo"]);
        assert!(code == Some(2) && message.contains("no-such-folder"), "{message}");
    }
}
