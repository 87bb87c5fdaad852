//! The recording: what the device is given, as a 32-bit float stereo WAV file.
//!
//! The mixer's [`Tap`] collects frames into blocks and pushes them into a bounded queue; a thread of its own writes them.
//! The real-time side never waits for the disk: what finds no room is counted, and written as silence, so that the rest
//! stays where it belongs in time. A kill leaves a readable file ([`super::wav_file`]), and the device host that comes after
//! goes on in a part of its own. If the disk fails the recording ends with what it has, once, with a reason; the sound goes
//! on.

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
use super::wav_file::{MAX_RECORDING_FRAMES, Part, WavFile};

/// Blocks that may wait for the disk: 5 s at 48 kHz, 2 MB. Disks pause for a second or two when they are busy.
const QUEUE_BLOCKS: usize = 2_048;

/// How often the queue is emptied.
const WRITE_INTERVAL: Duration = Duration::from_millis(50);

/// How long the end of the recording waits for the disk.
const FINISH_LIMIT: Duration = Duration::from_secs(10);

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
        part: Part,
        sample_rate_hz: u32,
        counters: Arc<Counters>,
        on_failure: impl FnOnce(String) + Send + 'static,
    ) -> Result<(Self, Tap), RecordingError> {
        let mut writer = WavFile::create(path, part, sample_rate_hz, Instant::now())?;
        let path = writer.path().to_owned();
        let (queue_in, queue) = RingBuffer::new(QUEUE_BLOCKS);
        let (result_in, result) = mpsc::channel();
        let is_finishing = Arc::new(AtomicBool::new(false));
        let written_frames = writer.frame_counter();
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
            .map_err(|error| RecordingError::Create { path: path.clone(), reason: format!("its thread cannot be started: {error}") })?;
        let recorder = Self { path, is_finishing, written_frames, writer: thread.thread().clone(), result };
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
            write_block(file, &block)?;
            // Here as well: an unpaced output may fill the queue as fast as it is emptied.
            file.flush_if_due(Instant::now())?;
        }
        if is_last {
            return Ok(());
        }
        file.flush_if_due(Instant::now())?;
        std::thread::park_timeout(WRITE_INTERVAL);
    }
}

fn write_block(file: &mut WavFile, block: &RecordedBlock) -> Result<(), RecordingError> {
    (0..block.gap_frames).try_for_each(|_| file.write([0.0; LANE_CHANNELS]))?;
    block.samples[..block.frames].iter().try_for_each(|frame| file.write(*frame))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::device::test_lane::{RecordedFile, ramp, ramps, read_frames};

    fn no_failure(reason: String) {
        panic!("{reason}");
    }

    #[test]
    fn a_recording_holds_every_frame_and_no_other() {
        let file = RecordedFile::new("exact");
        let (recorder, mut tap) = Recorder::start(&file.0, Part::First, 44_100, Arc::default(), no_failure).unwrap();
        ramps(10_001).into_iter().for_each(|frame| tap.push_rt(frame));
        tap.finish_rt();
        recorder.finish().unwrap();
        assert_eq!(read_frames(&file.0), ramps(10_001));
        let spec = hound::WavReader::open(&file.0).unwrap().spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 44_100, 32));
        assert_eq!(spec.sample_format, hound::SampleFormat::Float);
    }

    #[test]
    fn frames_that_find_no_room_are_counted_and_silent_and_the_rest_stays_in_place() {
        let file = RecordedFile::new("gap");
        let counters = Arc::new(Counters::default());
        let (queue_in, mut queue) = RingBuffer::new(2);
        let mut tap = Tap { queue: queue_in, block: EMPTY, counters: Arc::clone(&counters) };
        let mut wav = WavFile::create(&file.0, Part::First, 48_000, Instant::now()).unwrap();
        assert!(tap.has_room(BLOCK_FRAMES));
        let all = ramps(6 * 128);
        all[..4 * 128].iter().for_each(|frame| tap.push_rt(*frame));
        assert!(!tap.has_room(BLOCK_FRAMES));
        while let Ok(block) = queue.pop() {
            write_block(&mut wav, &block).unwrap();
        }
        all[4 * 128..].iter().for_each(|frame| tap.push_rt(*frame));
        while let Ok(block) = queue.pop() {
            write_block(&mut wav, &block).unwrap();
        }
        wav.finish().unwrap();
        assert_eq!(counters.unrecorded_frames.load(Relaxed), 256);
        let mut expected = all.clone();
        expected[256..512].fill([0.0; 2]);
        assert_eq!(read_frames(&file.0), expected);
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named_with_the_reason() {
        let path = Path::new("/nowhere/at/all.wav");
        let error = Recorder::start(path, Part::First, 48_000, Arc::default(), no_failure).err().unwrap().to_string();
        assert!(error.contains("/nowhere/at/all.wav") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_full_disk_ends_the_recording_once_with_a_reason() {
        let (failed_in, failed) = mpsc::channel();
        let on_failure = move |reason| failed_in.send(reason).unwrap();
        // A device that is always full, and not seekable: what is refused is the header at the latest.
        let started = Recorder::start(Path::new("/dev/full"), Part::First, 48_000, Arc::default(), on_failure);
        let reason = match started {
            Err(error) => error.to_string(),
            Ok((_recorder, mut tap)) => {
                ramps(100_000).into_iter().for_each(|frame| tap.push_rt(frame));
                failed.recv_timeout(Duration::from_secs(60)).unwrap()
            }
        };
        assert!(reason.contains("/dev/full") && reason.contains("No space"), "{reason}");
    }

    /// Names the file to the process that is to be killed.
    const VICTIM: &str = "CONTINUO_TEST_RECORDING";

    #[test]
    fn a_recording_is_readable_after_its_process_was_killed() {
        if let Some(path) = std::env::var_os(VICTIM) {
            record_until_killed(Path::new(&path));
        }
        let file = RecordedFile::new("killed");
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "device::recording::tests::a_recording_is_readable_after_its_process_was_killed"])
            .env(VICTIM, &file.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let has_frames = || hound::WavReader::open(&file.0).is_ok_and(|wav| wav.duration() > 0);
        while !has_frames() && Instant::now() < deadline && victim.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        let frames = read_frames(&file.0);
        assert!(!frames.is_empty());
        assert_eq!(frames, ramps(frames.len() as u64));
    }

    fn record_until_killed(path: &Path) -> ! {
        let (_recorder, mut tap) = Recorder::start(path, Part::First, 48_000, Arc::default(), no_failure).unwrap();
        for frame in 0.. {
            while !tap.has_room(BLOCK_FRAMES) {
                std::thread::yield_now();
            }
            tap.push_rt(ramp(frame));
        }
        unreachable!("a test does not last that long")
    }
}
