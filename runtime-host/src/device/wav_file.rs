//! The file of a recording: 32-bit float stereo WAV, written so that it is readable at any moment.
//!
//! Used by the recording's own thread, which may block on the disk. The header is brought up to date at least twice a
//! second, so that a kill leaves a file that is complete up to then; when the disk refuses more, or when the process that
//! wrote the file has died, [`mend`] makes the header say what is really there.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

use ipc::limits::LANE_CHANNELS;

use super::mixer::Frame;
use super::recording::RecordingError;

/// How often the header is brought up to date.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Bytes of one frame in the file.
const FRAME_BYTES: u64 = LANE_CHANNELS as u64 * 4;

/// Frames a WAV file can hold: its lengths are 32-bit numbers of bytes. Three hours at 48 kHz.
pub const MAX_RECORDING_FRAMES: u64 = (u32::MAX as u64 - 4_096) / FRAME_BYTES;

/// Parts that one recording may have: a device host that dies more often than this is given up long before.
const MAX_PARTS: u32 = 9_999;

/// Which part of a recording is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The only one so far: replaces what is at its path.
    First,
    /// Another device host has died while it wrote the part before: that one is mended, this one gets the next free number.
    Next,
}

/// A WAV file that is being written.
pub struct WavFile {
    path: PathBuf,
    writer: Option<hound::WavWriter<std::io::BufWriter<File>>>,
    frames: Arc<AtomicU64>,
    flushed_at: Instant,
}

impl WavFile {
    /// Creates the file. `now` is when the time to its first update begins.
    pub fn create(path: &Path, part: Part, sample_rate_hz: u32, now: Instant) -> Result<Self, RecordingError> {
        let failed = |reason: String| RecordingError::Create { path: path.to_owned(), reason };
        let (path, file) = match part {
            Part::First => (path.to_owned(), File::create(path).map_err(|error| failed(error.to_string()))?),
            Part::Next => next_part(path).map_err(|error| failed(error.to_string()))?,
        };
        let spec = hound::WavSpec {
            channels: LANE_CHANNELS as u16,
            sample_rate: sample_rate_hz,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::new(std::io::BufWriter::new(file), spec).map_err(|error| failed(error.to_string()))?;
        writer.flush().map_err(|error| failed(error.to_string()))?;
        Ok(Self { path, writer: Some(writer), frames: Arc::default(), flushed_at: now })
    }

    /// Where the file is: not what was asked for when it is not the recording's first part.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many frames have been written, readable from other threads.
    pub fn frame_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.frames)
    }

    /// Writes one frame; completes the file when it is full.
    pub fn write(&mut self, frame: Frame) -> Result<(), RecordingError> {
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

    /// Brings the header up to date if that has not been done for a while.
    pub fn flush_if_due(&mut self, now: Instant) -> Result<(), RecordingError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if now.duration_since(self.flushed_at) < FLUSH_INTERVAL {
            return Ok(());
        }
        self.flushed_at = now;
        let result = writer.flush();
        self.check(result)
    }

    /// Completes the file.
    pub fn finish(&mut self) -> Result<(), RecordingError> {
        let result = self.writer.take().map_or(Ok(()), hound::WavWriter::finalize);
        self.check(result)
    }

    /// When the disk has refused something, ends the file with what is on it.
    fn check(&mut self, result: Result<(), hound::Error>) -> Result<(), RecordingError> {
        result.map_err(|error| {
            self.writer = None;
            if let Ok(frames) = mend(&self.path) {
                self.frames.store(frames, Release);
            }
            RecordingError::Write { path: self.path.clone(), frames: self.frames.load(Relaxed), reason: error.to_string() }
        })
    }
}

/// Creates the part after the last one there is, and mends that one.
fn next_part(first: &Path) -> std::io::Result<(PathBuf, File)> {
    let mut last = None;
    for number in 1..=MAX_PARTS {
        let path = if number == 1 { first.to_owned() } else { part_path(first, number) };
        match File::options().write(true).read(true).create_new(true).open(&path) {
            Ok(file) => {
                // What cannot be mended is as it was after the kill: readable up to the last update of its header.
                let _ = last.map(|last: PathBuf| mend(&last));
                return Ok((path, file));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => last = Some(path),
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other(format!("it has {MAX_PARTS} parts already")))
}

/// `take.wav` becomes `take.2.wav`.
fn part_path(first: &Path, number: u32) -> PathBuf {
    match first.extension() {
        Some(extension) => first.with_extension(format!("{number}.{}", extension.to_string_lossy())),
        None => first.with_extension(number.to_string()),
    }
}

/// Bytes in which the chunks before the samples lie.
const HEADER_BYTES: u64 = 512;

/// Makes the header of a recording that was not completed say what the file holds, and cuts off half a frame at its end.
/// Returns how many frames there are. A file that does not begin as ours do is left alone.
pub fn mend(path: &Path) -> std::io::Result<u64> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let foreign = || std::io::Error::other("it is not a recording of this program");
    if !file.metadata()?.is_file() {
        return Err(foreign());
    }
    let mut header = Vec::new();
    (&mut file).take(HEADER_BYTES).read_to_end(&mut header)?;
    let samples_at = samples_at(&header).ok_or_else(foreign)?;
    let frames = (file.metadata()?.len().saturating_sub(samples_at) / FRAME_BYTES).min(MAX_RECORDING_FRAMES);
    let end = samples_at + frames * FRAME_BYTES;
    file.set_len(end)?;
    file.write_all_at(&(end as u32 - 8).to_le_bytes(), 4)?;
    file.write_all_at(&((frames * FRAME_BYTES) as u32).to_le_bytes(), samples_at - 4)?;
    Ok(frames)
}

/// Where the samples of a 32-bit stereo WAV file begin.
fn samples_at(header: &[u8]) -> Option<u64> {
    if header.get(..4)? != b"RIFF" || header.get(8..12)? != b"WAVE" {
        return None;
    }
    let mut at = 12;
    let mut is_ours = false;
    loop {
        let id = header.get(at..at + 4)?;
        let bytes = u32::from_le_bytes(header.get(at + 4..at + 8)?.try_into().ok()?) as usize;
        match id {
            b"data" => return is_ours.then_some(at as u64 + 8),
            b"fmt " => {
                let frame_bytes = u16::from_le_bytes(header.get(at + 20..at + 22)?.try_into().ok()?);
                is_ours = u64::from(frame_bytes) == FRAME_BYTES;
            }
            _ => {}
        }
        at = at.checked_add(8)?.checked_add(bytes)?;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::device::test_lane::{RecordedFile, ramp, ramps, read_frames};

    fn create(path: &Path, part: Part) -> WavFile {
        WavFile::create(path, part, 48_000, Instant::now()).unwrap()
    }

    fn write(wav: &mut WavFile, frames: u64) {
        ramps(frames).into_iter().for_each(|frame| wav.write(frame).unwrap());
    }

    #[test]
    fn a_full_wav_file_is_complete_and_said_to_be_full() {
        let file = RecordedFile::new("full");
        let mut wav = create(&file.0, Part::First);
        wav.frames.store(MAX_RECORDING_FRAMES - 1, Relaxed);
        wav.write([0.5, 0.25]).unwrap();
        assert!(matches!(wav.write([0.5, 0.25]), Err(RecordingError::Full { .. })));
        assert_eq!(read_frames(&file.0), [[0.5, 0.25]]);
    }

    #[test]
    fn everything_up_to_half_a_second_ago_is_readable_at_any_moment() {
        let file = RecordedFile::new("flushed");
        let start = Instant::now();
        let mut wav = WavFile::create(&file.0, Part::First, 48_000, start).unwrap();
        let mut is_there = 0;
        for step in 1..=40u32 {
            ramps(1_234).into_iter().for_each(|frame| wav.write(frame).unwrap());
            wav.flush_if_due(start + Duration::from_millis(50) * step).unwrap();
            if step % 10 == 0 {
                is_there = step as usize * 1_234;
            }
            assert_eq!(read_frames(&file.0).len(), is_there, "after {step} steps of 50 ms");
        }
        std::mem::forget(wav);
    }

    #[test]
    fn what_was_written_after_the_last_update_of_the_header_is_mended() {
        let file = RecordedFile::new("mended");
        let mut wav = create(&file.0, Part::First);
        write(&mut wav, 20_000);
        // As after a kill: what is in the buffer is lost, and a frame was cut.
        std::mem::forget(wav);
        let bytes = fs::metadata(&file.0).unwrap().len();
        File::options().write(true).open(&file.0).unwrap().set_len(bytes - 3).unwrap();
        assert_eq!(read_frames(&file.0).len(), 0);
        let frames = mend(&file.0).unwrap();
        assert!(frames > 18_000, "{frames} of 20,000 frames");
        assert_eq!(read_frames(&file.0), ramps(frames));
        assert_eq!(mend(&file.0).unwrap(), frames, "what is whole stays as it is");
        assert_eq!(read_frames(&file.0), ramps(frames));
    }

    #[test]
    fn a_file_that_is_no_recording_is_left_alone() {
        let file = RecordedFile::new("foreign");
        for content in [&b"RIFF\x04\0\0\0WAVE"[..], b"a letter to a friend", b"", b"RIFF\xff\xff\xff\xffWAVEfmt \xff\xff\xff\xff"] {
            fs::write(&file.0, content).unwrap();
            assert!(mend(&file.0).is_err());
            assert_eq!(fs::read(&file.0).unwrap(), content);
        }
    }

    #[test]
    fn each_next_part_gets_a_number_and_mends_the_one_before() {
        let file = RecordedFile::new("parts");
        let mut first = create(&file.0, Part::First);
        write(&mut first, 5_000);
        std::mem::forget(first);
        let mut second = create(&file.0, Part::Next);
        assert_eq!(second.path(), file.0.with_extension("2.wav"));
        assert!(read_frames(&file.0).len() > 3_000);
        write(&mut second, 10);
        second.finish().unwrap();
        let third = create(&file.0, Part::Next);
        assert_eq!(third.path(), file.0.with_extension("3.wav"));
        assert_eq!(read_frames(&file.0.with_extension("2.wav")), ramps(10));
        let again = create(&file.0, Part::First);
        assert_eq!(again.path(), file.0);
        drop(again);
        assert_eq!(read_frames(&file.0), Vec::<Frame>::new(), "a new recording replaces an old one");
        assert_eq!(ramps(1), [ramp(0)]);
    }

    #[test]
    fn a_next_part_without_a_first_one_is_the_first() {
        let file = RecordedFile::new("no-first");
        assert_eq!(create(&file.0, Part::Next).path(), file.0);
    }

    #[test]
    fn parts_are_named_with_and_without_an_ending() {
        assert_eq!(part_path(Path::new("/a/take.wav"), 2), Path::new("/a/take.2.wav"));
        assert_eq!(part_path(Path::new("/a.b/take"), 12), Path::new("/a.b/take.12"));
    }
}
