//! The disk end of a tape: one thread that creates its files, empties the queues of their taps, and completes them.
//!
//! The control thread holds a [`Recorder`] and hears [`News`]; it never waits for a disk, except when the session opens with a
//! tape, and when the session ends, both with a limit. A kill leaves readable files ([`super::wav_file`]). If one file cannot
//! be written any more the whole tape ends: all of its files are completed with what they have.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::mpsc;
use std::thread::Thread;
use std::time::{Duration, Instant};

use ipc::limits::LANE_CHANNELS;
use ipc::message::Tape;
use rtrb::Consumer;

use super::TapeError;
use super::files::Files;
use super::reel::{RecordedBlock, Reel, Tap};
use super::wav_file::WavFile;
use crate::device::counters::Counters;

/// How often the queues are emptied.
const WRITE_INTERVAL: Duration = Duration::from_millis(50);

/// Frames of silence that are written into one file before the queues of the others are looked at again.
const SILENCE_AT_ONCE_FRAMES: u64 = 48_000;

/// How long the control thread waits for the disk where it has to.
pub const DISK_LIMIT: Duration = Duration::from_secs(10);

/// What the writer tells.
#[derive(Clone, Debug)]
pub enum News {
    /// The files that a tape begins with are there.
    Created(Created),
    NotCreated(TapeError),
    /// A file cannot be written any more; the tape has ended with what there is.
    Failed(TapeError),
    /// All files are complete, and so long.
    Written {
        frames: u64,
    },
}

/// What a tape begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Number of the part, from 1.
    pub part: u32,
    /// Frames of the master of the part before, if there is one.
    pub earlier_frames: Option<u64>,
}

/// A runtime whose stem is to be written.
struct Arrival {
    runtime: String,
    queue: Consumer<RecordedBlock>,
}

/// The control thread's end of a tape. Dropping it without [`Recorder::finish`] completes the files, too, a moment later.
pub struct Recorder {
    name: PathBuf,
    arrivals: mpsc::Sender<Arrival>,
    is_finishing: Arc<AtomicBool>,
    writer: Thread,
    end: mpsc::Receiver<Result<u64, TapeError>>,
}

impl Recorder {
    /// Starts the writer of a tape. `on_news` is called on its thread: once when the files are there, or cannot be, and once at
    /// the end.
    pub fn start(
        tape: &Tape,
        sample_rate_hz: u32,
        counters: &Arc<Counters>,
        on_news: impl Fn(News) + Send + 'static,
    ) -> Result<(Self, Box<Reel>), TapeError> {
        let name = tape.master.clone().or(tape.stems.clone()).ok_or(TapeError::Empty)?;
        let (master, queue) = tape.master.as_ref().map(|_| Tap::new(Arc::clone(counters))).unzip();
        let (arrivals, arrivals_out) = mpsc::channel();
        let (end_in, end) = mpsc::channel();
        let is_finishing = Arc::new(AtomicBool::new(false));
        let from_block = tape.from_block;
        let (tape, finishing) = (tape.clone(), Arc::clone(&is_finishing));
        let job = move || {
            let result = match Writer::create(&tape, queue, sample_rate_hz, arrivals_out) {
                Ok((mut writer, created)) => {
                    on_news(News::Created(created));
                    let result = writer.run(&finishing);
                    on_news(result.clone().map_or_else(News::Failed, |frames| News::Written { frames }));
                    result
                }
                Err(error) => {
                    on_news(News::NotCreated(error.clone()));
                    Err(error)
                }
            };
            let _ = end_in.send(result);
        };
        let thread = std::thread::Builder::new()
            .name("tape".into())
            .spawn(job)
            .map_err(|error| TapeError::Create { path: name.clone(), reason: format!("its thread cannot be started: {error}") })?;
        let recorder = Self { name, arrivals, is_finishing, writer: thread.thread().clone(), end };
        Ok((recorder, Box::new(Reel::new(master, from_block))))
    }

    /// One more stem: its tap, which is to be put on the reel.
    pub fn add_stem(&self, runtime: &str, counters: &Arc<Counters>) -> Box<Tap> {
        let (tap, queue) = Tap::new(Arc::clone(counters));
        // A writer that has ended has told why.
        let _ = self.arrivals.send(Arrival { runtime: runtime.to_owned(), queue });
        Box::new(tap)
    }

    /// Lets the writer complete the files with what is queued. The reel has handed everything over.
    pub fn begin_finish(&self) {
        self.is_finishing.store(true, Release);
        self.writer.unpark();
    }

    /// Completes the files and waits for that; returns how many frames they have. A failure that has been told of is returned,
    /// too.
    pub fn finish(self) -> Result<u64, TapeError> {
        self.begin_finish();
        self.end.recv_timeout(DISK_LIMIT).unwrap_or_else(|_| Err(TapeError::Stuck { path: self.name.clone() }))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.begin_finish();
    }
}

/// A file and the queue it is written from.
struct Track {
    file: WavFile,
    queue: Consumer<RecordedBlock>,
    /// Frames of silence that have been written for the block at the head of the queue.
    silent_frames: u64,
}

impl Track {
    /// Writes what is queued. Returns whether there is more to be done at once.
    fn write_queued(&mut self) -> Result<bool, TapeError> {
        let mut budget = SILENCE_AT_ONCE_FRAMES;
        while let Ok(block) = self.queue.peek() {
            let silence = block.gap_frames.saturating_sub(self.silent_frames).min(budget);
            write_silence(&mut self.file, silence)?;
            self.silent_frames += silence;
            budget -= silence;
            if self.silent_frames < block.gap_frames {
                self.file.flush_if_due(Instant::now())?;
                return Ok(true);
            }
            let [left, right] = &block.samples;
            left.iter().zip(right).take(block.frames).try_for_each(|(left, right)| self.file.write([*left, *right]))?;
            // Here as well: an unpaced output may fill the queue as fast as it is emptied.
            self.file.flush_if_due(Instant::now())?;
            self.silent_frames = 0;
            let _ = self.queue.pop();
        }
        Ok(false)
    }
}

fn write_silence(file: &mut WavFile, frames: u64) -> Result<(), TapeError> {
    (0..frames).try_for_each(|_| file.write([0.0; LANE_CHANNELS]))
}

/// The thread's own.
struct Writer {
    files: Files,
    tracks: Vec<Track>,
    arrivals: mpsc::Receiver<Arrival>,
    sample_rate_hz: u32,
}

impl Writer {
    fn create(
        tape: &Tape,
        master: Option<Consumer<RecordedBlock>>,
        sample_rate_hz: u32,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> Result<(Self, Created), TapeError> {
        let (files, earlier_frames) = Files::of(tape)?;
        let created = Created { part: files.part(), earlier_frames };
        let mut writer = Self { files, tracks: Vec::new(), arrivals, sample_rate_hz };
        if let (Some(path), Some(queue)) = (writer.files.master(), master) {
            let file = writer.files.create(&path)?;
            writer.add(&path, file, queue)?;
        }
        while let Ok(Arrival { runtime, queue }) = writer.arrivals.try_recv() {
            if let Some(path) = writer.files.stem(&runtime) {
                let file = writer.files.create(&path)?;
                writer.add(&path, file, queue)?;
            }
        }
        Ok((writer, created))
    }

    fn add(&mut self, path: &Path, file: File, queue: Consumer<RecordedBlock>) -> Result<(), TapeError> {
        let file = WavFile::begin(path, file, self.sample_rate_hz, Instant::now())?;
        self.tracks.push(Track { file, queue, silent_frames: 0 });
        Ok(())
    }

    /// Begins the stems of runtimes that come now.
    fn take_arrivals(&mut self) -> Result<(), TapeError> {
        while let Ok(Arrival { runtime, queue }) = self.arrivals.try_recv() {
            if let Some(path) = self.files.stem(&runtime) {
                let (path, file) = self.files.create_late(&path)?;
                self.add(&path, file, queue)?;
            }
        }
        Ok(())
    }

    /// Writes until told to finish; returns how many frames each file has.
    fn run(&mut self, is_finishing: &AtomicBool) -> Result<u64, TapeError> {
        let result = self.write_all(is_finishing).and_then(|()| self.complete());
        if result.is_err() {
            // The first cause is told; whether the others can be completed, their headers say.
            self.tracks.iter_mut().for_each(|track| drop(track.file.finish()));
        }
        result
    }

    fn write_all(&mut self, is_finishing: &AtomicBool) -> Result<(), TapeError> {
        loop {
            // Read before the queues are emptied: what was pushed before the flag was raised is then seen.
            let is_last = is_finishing.load(Acquire);
            self.take_arrivals()?;
            let mut is_behind = false;
            for track in &mut self.tracks {
                is_behind |= track.write_queued()?;
                track.file.flush_if_due(Instant::now())?;
            }
            if is_behind {
                continue;
            }
            if is_last {
                return Ok(());
            }
            std::thread::park_timeout(WRITE_INTERVAL);
        }
    }

    /// Brings all files to the length of the longest: what is missing at the end of one found no room in its queue, or its
    /// runtime came after the last block.
    fn complete(&mut self) -> Result<u64, TapeError> {
        let frames = self.tracks.iter().map(|track| track.file.frames()).max().unwrap_or(0);
        for Track { file, .. } in &mut self.tracks {
            write_silence(file, frames - file.frames())?;
            file.finish()?;
        }
        Ok(frames)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use ipc::limits::BLOCK_FRAMES;

    use super::*;
    use crate::device::mixer::Frame;
    use crate::device::test_lane::{RecordedFile, block, ramp, ramps, read_frames};

    /// A tape of a master alone, which may replace what is there.
    fn tape(path: &Path) -> Tape {
        Tape { number: 1, part: 1, master: Some(path.to_owned()), stems: None, replaces: true, from_block: 0 }
    }

    fn start(tape: &Tape, rate: u32) -> (Recorder, Box<Reel>, mpsc::Receiver<News>) {
        let (news_in, news) = mpsc::channel();
        let (recorder, reel) = Recorder::start(tape, rate, &Arc::default(), move |one| drop(news_in.send(one))).unwrap();
        (recorder, reel, news)
    }

    fn next(news: &mpsc::Receiver<News>) -> News {
        news.recv_timeout(Duration::from_secs(60)).unwrap()
    }

    /// Gives block `number` of the master's ramp.
    fn give(reel: &mut Reel, number: u64, frames: usize) {
        reel.begin_block_rt(number);
        reel.master_rt(&block(number, ramp));
        reel.push_rt(frames);
    }

    #[test]
    fn a_recording_holds_every_frame_and_no_other() {
        let file = RecordedFile::new("exact");
        let (recorder, mut reel, news) = start(&tape(&file.0), 44_100);
        assert!(matches!(next(&news), News::Created(Created { part: 1, earlier_frames: None })));
        (0..78).for_each(|number| give(&mut reel, number, BLOCK_FRAMES));
        give(&mut reel, 78, 17);
        assert_eq!(recorder.finish().unwrap(), 10_001);
        assert!(matches!(next(&news), News::Written { frames: 10_001 }));
        assert_eq!(read_frames(&file.0), ramps(10_001));
        let spec = hound::WavReader::open(&file.0).unwrap().spec();
        assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 44_100, 32));
        assert_eq!(spec.sample_format, hound::SampleFormat::Float);
    }

    #[test]
    fn stems_are_as_long_as_the_master_whenever_their_runtimes_come() {
        let folder = tempfile::tempdir().unwrap();
        let tape = Tape { stems: Some(folder.path().join("stems")), ..tape(&folder.path().join("take.wav")) };
        let (recorder, mut reel, _news) = start(&tape, 48_000);
        reel.insert_rt(0, recorder.add_stem("early", &Arc::default()));
        for number in 50..60 {
            if number == 57 {
                reel.insert_rt(1, recorder.add_stem("late", &Arc::default()));
            }
            reel.begin_block_rt(number);
            reel.add_rt(0, &block(number, ramp));
            reel.add_rt(1, &block(number, ramp));
            reel.push_rt(BLOCK_FRAMES);
        }
        drop(recorder.add_stem("never heard", &Arc::default()));
        assert_eq!(recorder.finish().unwrap(), 1_280);
        let stem = |name: &str| read_frames(&folder.path().join(format!("stems/{name}.wav")));
        let played: Vec<Frame> = (50 * 128..60 * 128).map(ramp).collect();
        assert_eq!(stem("early"), played);
        assert_eq!(stem("late")[..7 * 128], [[0.0; 2]; 7 * 128]);
        assert_eq!(stem("late")[7 * 128..], played[7 * 128..]);
        assert_eq!(stem("never heard"), [[0.0; 2]; 1_280]);
        assert_eq!(read_frames(&folder.path().join("take.wav")), [[0.0; 2]; 1_280]);
    }

    #[test]
    fn the_next_part_of_a_tape_mends_the_one_before_and_says_how_long_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = tape(&folder.path().join("take.wav"));
        let (recorder, mut reel, _news) = start(&first, 48_000);
        (0..3).for_each(|number| give(&mut reel, number, BLOCK_FRAMES));
        recorder.finish().unwrap();
        let (recorder, mut reel, news) = start(&Tape { part: 2, ..first.clone() }, 48_000);
        assert!(matches!(next(&news), News::Created(Created { part: 2, earlier_frames: Some(384) })));
        give(&mut reel, 9, BLOCK_FRAMES);
        recorder.finish().unwrap();
        assert_eq!(read_frames(&folder.path().join("take.2.wav")), (9 * 128..10 * 128).map(ramp).collect::<Vec<_>>());
        assert_eq!(read_frames(&folder.path().join("take.wav")), ramps(384));
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named_with_the_reason() {
        let (_recorder, _reel, news) = start(&tape(Path::new("/nowhere/at/all.wav")), 48_000);
        let News::NotCreated(error) = next(&news) else { panic!("it was created") };
        let error = error.to_string();
        assert!(error.contains("/nowhere/at/all.wav") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_full_disk_ends_the_tape_once_with_a_reason_and_completes_its_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let tape = Tape { stems: Some(folder.path().to_owned()), ..tape(&folder.path().join("take.wav")) };
        // A device that is always full takes the place of one stem.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("full.wav")).unwrap();
        let (recorder, mut reel, news) = start(&tape, 48_000);
        assert!(matches!(next(&news), News::Created(_)));
        (0..100).for_each(|number| give(&mut reel, number, BLOCK_FRAMES));
        reel.insert_rt(0, recorder.add_stem("full", &Arc::default()));
        recorder.begin_finish();
        let News::Failed(error) = next(&news) else { panic!("it has not failed") };
        let error = error.to_string();
        assert!(error.contains("full.wav") && error.contains("No space"), "{error}");
        assert!(recorder.finish().is_err());
        assert!(news.recv().is_err(), "it is told once");
        let whole = read_frames(&folder.path().join("take.wav"));
        assert_eq!(whole, ramps(whole.len() as u64), "what was written can be read");
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
            .args(["--exact", "device::tape::writer::tests::a_recording_is_readable_after_its_process_was_killed"])
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
        let (_recorder, mut reel, _news) = start(&tape(path), 48_000);
        for number in 0.. {
            while !reel.has_room(BLOCK_FRAMES) {
                std::thread::yield_now();
            }
            give(&mut reel, number, BLOCK_FRAMES);
        }
        unreachable!("a test does not last that long")
    }
}
