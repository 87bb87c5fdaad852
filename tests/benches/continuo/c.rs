//! The limit: the same sound by hand in C, compiled here.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tests::playing::Folder;

use crate::processes::cpu_ns;
use crate::programs::workload_path;

/// Seconds of audio in one run. Long enough that starting the process does not show; what starting takes is subtracted too.
const RUN_SECONDS: u64 = 30;
/// Blocks of 128 frames in a second.
const BLOCKS_A_SECOND: u64 = 375;

/// A C version of a workload, compiled.
pub struct CProgram {
    _folder: Folder,
    binary: PathBuf,
    arguments: &'static [&'static str],
}

impl CProgram {
    /// Compiles `NAME.c`; `arguments` go before the number of seconds. `None` without a C compiler.
    pub fn compile(name: &str, arguments: &'static [&'static str]) -> Option<Self> {
        let folder = Folder::new();
        let binary = folder.path().join(name);
        let mut compiler = Command::new("cc");
        compiler.args(["-O3", "-march=native", "-o"]).arg(&binary).arg(workload_path(name, "c")).arg("-lm");
        let status = compiler.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        status.success().then_some(Self { _folder: folder, binary, arguments })
    }

    /// Processor time that so many blocks take, scaled from a longer run.
    pub fn blocks(&self, blocks: u64) -> Duration {
        let took = self.run(RUN_SECONDS).saturating_sub(self.run(0));
        took.mul_f64(blocks as f64 / (RUN_SECONDS * BLOCKS_A_SECOND) as f64)
    }

    fn run(&self, seconds: u64) -> Duration {
        let mut command = Command::new(&self.binary);
        let mut process = command.args(self.arguments).args([&seconds.to_string(), "/dev/null"]).spawn().expect("it has been compiled");
        // A process that has ended but was not waited for still says what it has used.
        let has_ended = waitid(WaitId::Pid(Pid::from_child(&process)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let used = Duration::from_nanos(cpu_ns(process.id()));
        let status = process.wait();
        assert!(has_ended.is_ok() && status.is_ok_and(|status| status.success()), "{} runs", self.binary.display());
        used
    }
}
