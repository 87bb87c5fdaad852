//! The recording: what the device is given, as a 32-bit float stereo WAV file.
//!
//! The mixer's [`Tap`] collects frames into blocks and pushes them into a bounded queue; a thread of its own writes them.
//! The real-time side never waits for the disk: what finds no room is counted, and written as silence, so that the rest
//! stays where it belongs in time. The header is brought up to date at least once a second, so that a kill leaves a
//! readable file. If the disk fails the recording ends with what it has, once, with a reason; the sound goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, mpsc};
use std::thread::Thread;
use std::time::{Duration, Instant};

use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS};
use rtrb::{Consumer, Producer, RingBuffer};

use super::counters::Counters;
use super::mixer::Frame;

/// Blocks that may wait for the disk: 5 s at 48 kHz, 2 MB. Disks pause for a second or two when they are busy.
const QUEUE_BLOCKS: usize = 2_048;

/// How often the queue is emptied.
const WRITE_INTERVAL: Duration = Duration::from_millis(50);

/// How often the header is brought up to date.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// How long the end of the recording waits for the disk.
const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// Frames a WAV file can hold: its lengths are 32-bit numbers of bytes. Three hours at 48 kHz.
pub const MAX_RECORDING_FRAMES: u64 = (u32::MAX as u64 - 4_096) / (LANE_CHANNELS as u64 * 4);

/// Why there is no recording, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    #[error("cannot create the recording {}: {reason}", path.display())]
    Create { path: PathBuf, reason: String },
    #[error("the recording {} has ended after {frames} frames: {reason}", path.display())]
    Write { path: PathBuf, frames: u64, reason: String },
    #[error("the recording {} is full at {MAX_RECORDING_FRAMES} frames, all a WAV file can hold; it is complete up to there", path.display())]
    Full { path: PathBuf },
    #[error("the disk did not take the end of the recording {} within {} s", path.display(), FINISH_LIMIT.as_secs())]
    Stuck { path: PathBuf },
}

/// A block on its way to the file.
#[derive(Clone, Copy)]
struct RecordedBlock {
    /// Frames that were lost before this block, because the queue was full.
    gap_frames: u64,
    frames: usize,
    samples: [Frame; BLOCK_FRAMES],
}

const EMPTY: RecordedBlock = RecordedBlock { gap_frames: 0, frames: 0, samples: [[0.0; LANE_CHANNELS]; BLOCK_FRAMES] };

/// The mixer's end of the recording.
pub struct Tap {
    queue: Producer<RecordedBlock>,
    block: RecordedBlock,
    counters: Arc<Counters>,
}

impl Tap {
    /// Takes one frame that the device was given.
    pub fn push_rt(&mut self, frame: Frame) {
        self.block.samples[self.block.frames] = frame;
        self.block.frames += 1;
        if self.block.frames == BLOCK_FRAMES {
            self.finish_rt();
        }
    }

    /// Hands over what has been collected, even if it is less than a block.
    pub fn finish_rt(&mut self) {
        if self.block.frames == 0 || self.queue.is_abandoned() {
            self.block.frames = 0;
            return;
        }
        let lost = if self.queue.push(self.block).is_ok() {
            self.block.gap_frames = 0;
            0
        } else {
            self.block.gap_frames += self.block.frames as u64;
            self.block.frames as u64
        };
        self.counters.unrecorded_frames.fetch_add(lost, Relaxed);
        self.block.frames = 0;
    }

    /// Whether so many frames find room, or nobody writes them any more.
    pub fn has_room(&self, frames: usize) -> bool {
        self.queue.is_abandoned() || self.queue.slots() > frames.div_ceil(BLOCK_FRAMES)
    }
}

/// The control thread's end of the recording. Dropping it without [`Recorder::finish`] ends the file, too, a moment later.
pub struct Recorder {
    path: PathBuf,
    is_finishing: Arc<AtomicBool>,
    written_frames: Arc<AtomicU64>,
    writer: Thread,
    result: mpsc::Receiver<Result<(), RecordingError>>,
}

impl Recorder {
    /// Creates the file and starts its writer. `on_failure` is called, on the writer's thread, if the recording ends early.
    pub fn start(
        path: &Path,
        sample_rate_hz: u32,
        counters: Arc<Counters>,
        on_failure: impl FnOnce(String) + Send + 'static,
    ) -> Result<(Self, Tap), RecordingError> {
        let create = |reason: String| RecordingError::Create { path: path.to_owned(), reason };
        let mut writer = WavFile::create(path, sample_rate_hz)?;
        let (queue_in, queue) = RingBuffer::new(QUEUE_BLOCKS);
        let (result_in, result) = mpsc::channel();
        let is_finishing = Arc::new(AtomicBool::new(false));
        let written_frames = Arc::clone(&writer.frames);
        let finishing = Arc::clone(&is_finishing);
        let thread = std::thread::Builder::new()
            .name("recording".into())
            .spawn(move || {
                let result = write_all(&mut writer, queue, &finishing).and_then(|()| writer.finish());
                if let (Err(error), false) = (&result, finishing.load(Acquire)) {
                    on_failure(error.to_string());
                }
                let _ = result_in.send(result);
            })
            .map_err(|error| create(format!("its thread cannot be started: {error}")))?;
        let recorder = Self { path: path.to_owned(), is_finishing, written_frames, writer: thread.thread().clone(), result };
        Ok((recorder, Tap { queue: queue_in, block: EMPTY, counters }))
    }

    /// Where the recording goes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames that have been written to the file so far.
    pub fn written_frames(&self) -> u64 {
        self.written_frames.load(Acquire)
    }

    /// Writes what is still queued and completes the file. The tap has handed everything over. A failure that `on_failure`
    /// has been told of is returned, too.
    pub fn finish(self) -> Result<(), RecordingError> {
        self.is_finishing.store(true, Release);
        self.writer.unpark();
        self.result.recv_timeout(FINISH_LIMIT).unwrap_or_else(|_| Err(RecordingError::Stuck { path: self.path.clone() }))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.is_finishing.store(true, Release);
        self.writer.unpark();
    }
}

fn write_all(file: &mut WavFile, mut queue: Consumer<RecordedBlock>, is_finishing: &AtomicBool) -> Result<(), RecordingError> {
    loop {
        // Read before the queue is emptied: what was pushed before the flag was raised is then seen.
        let is_last = is_finishing.load(Acquire);
        while let Ok(block) = queue.pop() {
            file.write(&block)?;
        }
        if is_last {
            return Ok(());
        }
        file.flush_if_due(Instant::now())?;
        std::thread::park_timeout(WRITE_INTERVAL);
    }
}

struct WavFile {
    path: PathBuf,
    writer: Option<hound::WavWriter<std::io::BufWriter<std::fs::File>>>,
    frames: Arc<AtomicU64>,
    flushed_at: Instant,
}

impl WavFile {
    fn create(path: &Path, sample_rate_hz: u32) -> Result<Self, RecordingError> {
        let spec = hound::WavSpec {
            channels: LANE_CHANNELS as u16,
            sample_rate: sample_rate_hz,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let create = |error: hound::Error| RecordingError::Create { path: path.to_owned(), reason: error.to_string() };
        let mut writer = hound::WavWriter::create(path, spec).map_err(create)?;
        writer.flush().map_err(create)?;
        Ok(Self { path: path.to_owned(), writer: Some(writer), frames: Arc::default(), flushed_at: Instant::now() })
    }

    fn write(&mut self, block: &RecordedBlock) -> Result<(), RecordingError> {
        for _ in 0..block.gap_frames {
            self.write_frame([0.0; LANE_CHANNELS])?;
        }
        block.samples[..block.frames].iter().try_for_each(|frame| self.write_frame(*frame))
    }

    fn write_frame(&mut self, frame: Frame) -> Result<(), RecordingError> {
        let frames = self.frames.load(Relaxed);
        if frames == MAX_RECORDING_FRAMES {
            self.finish()?;
            return Err(RecordingError::Full { path: self.path.clone() });
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let result = frame.into_iter().try_for_each(|sample| writer.write_sample(sample));
        self.check(result)?;
        self.frames.store(frames + 1, Release);
        Ok(())
    }

    fn flush_if_due(&mut self, now: Instant) -> Result<(), RecordingError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if now.duration_since(self.flushed_at) < FLUSH_INTERVAL {
            return Ok(());
        }
        self.flushed_at = now;
        let result = writer.flush();
        self.check(result)
    }

    fn finish(&mut self) -> Result<(), RecordingError> {
        let result = self.writer.take().map_or(Ok(()), hound::WavWriter::finalize);
        self.check(result)
    }

    fn check(&self, result: Result<(), hound::Error>) -> Result<(), RecordingError> {
        let frames = self.frames.load(Relaxed);
        result.map_err(|error| RecordingError::Write { path: self.path.clone(), frames, reason: error.to_string() })
    }
}
