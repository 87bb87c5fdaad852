//! One file of a tape: 32-bit float stereo WAV, written so that it is readable at any moment.
//!
//! Used by the tape's own thread, which may block on the disk. The header is brought up to date at least twice a
//! second, so that a kill leaves a file that is complete up to then; when the disk refuses more, or when the process that
//! wrote the file has died, [`mend`] makes the header say what is really there.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipc::limits::LANE_CHANNELS;

use super::TapeError;
use crate::device::mixer::Frame;

/// How often the header is brought up to date.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Bytes of one frame in the file.
const FRAME_BYTES: u64 = LANE_CHANNELS as u64 * 4;

/// Frames a WAV file can hold: its lengths are 32-bit numbers of bytes. Three hours at 48 kHz.
pub const MAX_RECORDING_FRAMES: u64 = (u32::MAX as u64 - 4_096) / FRAME_BYTES;

/// A WAV file that is being written.
pub struct WavFile {
    path: PathBuf,
    writer: Option<hound::WavWriter<std::io::BufWriter<File>>>,
    frames: u64,
    flushed_at: Instant,
}

impl WavFile {
    /// Begins to write into a file that is empty. `now` is when the time to its first update begins.
    pub fn begin(path: &Path, file: File, sample_rate_hz: u32, now: Instant) -> Result<Self, TapeError> {
        let failed = |reason: String| TapeError::Create { path: path.to_owned(), reason };
        let spec = hound::WavSpec {
            channels: LANE_CHANNELS as u16,
            sample_rate: sample_rate_hz,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::new(std::io::BufWriter::new(file), spec).map_err(|error| failed(error.to_string()))?;
        writer.flush().map_err(|error| failed(error.to_string()))?;
        Ok(Self { path: path.to_owned(), writer: Some(writer), frames: 0, flushed_at: now })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many frames have been written.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Writes one frame; completes the file when it is full.
    pub fn write(&mut self, frame: Frame) -> Result<(), TapeError> {
        if self.frames == MAX_RECORDING_FRAMES {
            self.finish()?;
            return Err(TapeError::Full { path: self.path.clone() });
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let result = frame.into_iter().try_for_each(|sample| writer.write_sample(sample));
        self.check(result)?;
        self.frames += 1;
        Ok(())
    }

    /// Brings the header up to date if that has not been done for a while.
    pub fn flush_if_due(&mut self, now: Instant) -> Result<(), TapeError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if now.duration_since(self.flushed_at) < FLUSH_INTERVAL {
            return Ok(());
        }
        self.flushed_at = now;
        let result = writer.flush();
        self.check(result)
    }

    /// Completes the file.
    pub fn finish(&mut self) -> Result<(), TapeError> {
        let result = self.writer.take().map_or(Ok(()), hound::WavWriter::finalize);
        self.check(result)
    }

    /// When the disk has refused something, ends the file with what is on it.
    fn check(&mut self, result: Result<(), hound::Error>) -> Result<(), TapeError> {
        result.map_err(|error| {
            self.writer = None;
            if let Ok(frames) = mend(&self.path) {
                self.frames = frames;
            }
            TapeError::Write { path: self.path.clone(), frames: self.frames, reason: error.to_string() }
        })
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
    use crate::device::test_lane::{RecordedFile, ramps, read_frames};

    fn create_at(path: &Path, now: Instant) -> WavFile {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        WavFile::begin(path, file, 48_000, now).unwrap()
    }

    fn create(path: &Path) -> WavFile {
        create_at(path, Instant::now())
    }

    fn write(wav: &mut WavFile, frames: u64) {
        ramps(frames).into_iter().for_each(|frame| wav.write(frame).unwrap());
    }

    #[test]
    fn a_full_wav_file_is_complete_and_said_to_be_full() {
        let file = RecordedFile::new("full");
        let mut wav = create(&file.0);
        wav.frames = MAX_RECORDING_FRAMES - 1;
        wav.write([0.5, 0.25]).unwrap();
        assert!(matches!(wav.write([0.5, 0.25]), Err(TapeError::Full { .. })));
        assert_eq!(read_frames(&file.0), [[0.5, 0.25]]);
    }

    #[test]
    fn everything_up_to_half_a_second_ago_is_readable_at_any_moment() {
        let file = RecordedFile::new("flushed");
        let start = Instant::now();
        let mut wav = create_at(&file.0, start);
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
        let mut wav = create(&file.0);
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
}
