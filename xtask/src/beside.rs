//! A task that runs beside others.

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{Outcome, web};

/// A task of this program in a process of its own. What it prints is shown when it has ended.
pub struct Beside {
    task: &'static str,
    child: Child,
    log: PathBuf,
}

impl Beside {
    /// Starts it.
    pub fn start(task: &'static str) -> Result<Self, String> {
        let folder = web::target_folder();
        let log = folder.join(format!("xtask-{task}.log"));
        let failed = |e: std::io::Error| format!("cannot start {task} beside the tests: {e}");
        fs::create_dir_all(&folder).map_err(failed)?;
        let file = File::create(&log).map_err(failed)?;
        let program = env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .arg(task)
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        println!("\n{task} starts beside the tests; its output comes when it has ended");
        Ok(Self { task, child, log })
    }

    /// Waits for its end, and shows what it printed.
    pub fn finish(mut self) -> Outcome {
        let status = self.child.wait().map_err(|e| format!("cannot wait for {}: {e}", self.task))?;
        println!("\n{}, beside the tests:", self.task);
        print!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        match status.success() {
            true => Ok(()),
            false => Err(format!("{} failed", self.task)),
        }
    }
}

/// Nothing goes on where the tests have failed.
impl Drop for Beside {
    fn drop(&mut self) {
        // Its cargo first, which would go on without it.
        let _ = Command::new("pkill").args(["-P", &self.child.id().to_string()]).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
