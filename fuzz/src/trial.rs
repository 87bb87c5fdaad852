//! One input given to one decoder: under watch, measured, and on disk for as long as it may end the process.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::allocation;
use crate::watchdog::Watchdog;

/// What one input may cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Processor time of the thread.
    pub cpu: Duration,
    /// Bytes held at once, and as many again for each byte of the input.
    pub bytes: u64,
    pub bytes_per_byte: u64,
}

/// Where inputs are tried.
pub struct Bench {
    folder: PathBuf,
    current: File,
    watchdog: Watchdog,
    cost: Cost,
}

impl Bench {
    /// A bench for the target `name`, which keeps its files in `target/fuzz/`.
    pub fn new(name: &str, cost: Cost) -> io::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(name);
        fs::create_dir_all(&folder)?;
        let path = folder.join("current");
        let current = File::create(&path)?;
        let watchdog = Watchdog::begin(format!("{name}: an input does not come to an end; it is {}", path.display()));
        Ok(Self { folder, current, watchdog, cost })
    }

    /// The folder of this target's files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tries an input. Why it failed, if it did; the input is then in a file of its own, which the text names.
    pub fn try_input(&mut self, input: &[u8], check: &mut impl FnMut(&[u8])) -> Result<(), String> {
        self.watchdog.note_progress();
        self.write_current(input).map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let before = cpu_time();
        let (outcome, bytes) = allocation::peak_bytes(|| catch_unwind(AssertUnwindSafe(|| check(input))));
        let cpu = cpu_time().saturating_sub(before);
        let allowed_bytes = self.cost.bytes + self.cost.bytes_per_byte * input.len() as u64;
        let complaint = match outcome {
            Err(_) => "it panics".to_owned(),
            Ok(()) if cpu > self.cost.cpu => format!("it takes {cpu:?} of processor time, {:?} is the limit", self.cost.cpu),
            Ok(()) if bytes > allowed_bytes => format!("it makes the decoder hold {bytes} bytes, {allowed_bytes} is the limit"),
            Ok(()) => return Ok(()),
        };
        let path = self.keep("failing", input).map_err(|error| format!("{complaint}, and cannot be kept: {error}"))?;
        Err(format!("{complaint}; FUZZ_INPUT={}", path.display()))
    }

    /// Keeps an input in a file of its own, named by what it is kept for and by its content.
    pub fn keep(&self, reason: &str, input: &[u8]) -> io::Result<PathBuf> {
        let path = self.folder.join(format!("{reason}-{:016x}", fingerprint(input)));
        fs::write(&path, input)?;
        fs::canonicalize(path)
    }

    fn write_current(&mut self, input: &[u8]) -> io::Result<()> {
        self.current.rewind()?;
        self.current.write_all(input)?;
        self.current.set_len(input.len() as u64)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.folder.join("current"));
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// FNV-1a: names files, nothing else.
fn fingerprint(input: &[u8]) -> u64 {
    input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
