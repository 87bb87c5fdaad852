//! Ends the process when one input takes for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long one input may take before it counts as one without an end. Far more than any takes on the slowest machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A thread that sees to it that there is progress. It ends when this is dropped.
pub struct Watchdog {
    progress: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Begins to watch; `complaint` is what is printed before the process ends.
    pub fn begin(complaint: String) -> Self {
        let (progress, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (watched, ended) = (Arc::clone(&progress), Arc::clone(&is_over));
        let thread = thread::spawn(move || watch(&watched, &ended, &complaint));
        Self { progress, is_over, thread: Some(thread) }
    }

    /// The next input begins.
    pub fn note_progress(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(progress: &AtomicU64, is_over: &AtomicBool, complaint: &str) {
    let mut last = (progress.load(Ordering::Relaxed), Instant::now());
    while !is_over.load(Ordering::Relaxed) {
        thread::park_timeout(LOOK_EVERY);
        let now = progress.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > DEADLINE {
            eprintln!("{complaint}");
            std::process::abort();
        }
    }
}
