//! Tapes: recordings of sound while it plays. The master, which is what the device is given, and stems, which are what each
//! runtime adds to it; 32-bit float stereo WAV files of one length, aligned to the sample.
//!
//! | module | thread | does |
//! |---|---|---|
//! | [`reel`] | whoever renders (real-time) | collects blocks, of which the first and the last are the same for all files |
//! | [`writer`] | `tape` | creates the files and writes them; the only one that waits for a disk |
//! | [`deck`] | control | starts and stops a tape, adds the stems of runtimes that come later |
//! | [`files`] | `tape` | which files a tape has, and those of a device host that goes on with one |
//! | [`wav_file`] | `tape` | one file, readable at any moment |
//!
//! Stems are taken behind gain, mute and solo (post-fader), so that their sum is the master wherever its limit at ±1 does
//! nothing. The real-time side never waits: what finds no room is counted and written as silence, so that the rest stays where
//! it belongs in time. If the disk fails the tape ends with what it has, once, with a reason; the sound goes on.

pub mod deck;
pub mod files;
pub mod reel;
pub mod wav_file;
pub mod writer;

use std::path::PathBuf;

use self::wav_file::MAX_RECORDING_FRAMES;

/// Why there is no tape, or no more of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TapeError {
    #[error("cannot create the recording {}: {reason}", path.display())]
    Create { path: PathBuf, reason: String },
    #[error("the recording {} has ended after {frames} frames: {reason}", path.display())]
    Write { path: PathBuf, frames: u64, reason: String },
    #[error("the recording {} is full at {MAX_RECORDING_FRAMES} frames, all a WAV file can hold; it is complete up to there", path.display())]
    Full { path: PathBuf },
    #[error("the disk did not take the end of the recording {} in time", path.display())]
    Stuck { path: PathBuf },
    #[error("two files of the recording would be {}; rename the master or the runtime", path.display())]
    Twice { path: PathBuf },
    #[error("the recording needs a master or a folder for stems")]
    Empty,
}
