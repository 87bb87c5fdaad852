//! The player: decides in a replay what a runtime hears, which is what it heard when it was recorded.
//!
//! A thread of its own, in the place of the device host's patchbay: the writer of the lane's input ([`ipc::input`]). It goes ahead
//! of the host as far as the ring allows, waits for it, and never for anybody else.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ipc::input::InputWriter;
use ipc::lane::LaneReader;
use ipc::segment::{SegmentError, SegmentRef};

use super::file::HeardLife;
use super::{News, spawn};
use crate::session::connection::Incoming;

/// Longest wait for the host, before it is seen whether the replay is over.
const PATIENCE: Duration = Duration::from_millis(20);

/// A replay that is heard. Dropping it ends its thread.
pub struct Player {
    is_over: Arc<AtomicBool>,
}

/// Why a replay cannot be heard.
#[derive(Debug, thiserror::Error)]
pub enum PlayerError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("no thread can be started")]
    Thread,
}

impl Player {
    /// Decides from now on what is heard in this lane. Before its host is started: no tick runs without it.
    pub fn start(mut heard: HeardLife, lane: &SegmentRef, events: &SyncSender<Incoming>) -> Result<Self, PlayerError> {
        let mut input = InputWriter::open(lane)?;
        let progress: LaneReader = LaneReader::open(lane)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (ours, events) = (Arc::clone(&is_over), events.clone());
        let play = move || {
            while !ours.load(Relaxed) {
                let completed = progress.written_rt();
                while input.has_room_rt(completed) {
                    match heard.block(input.next_block()) {
                        Ok(block) => input.write_rt(&block),
                        Err(error) => {
                            let _ = events.send(Incoming::Heard(News::Unplayable { why: error.to_string() }));
                            return;
                        }
                    }
                }
                input.wake_rt();
                progress.wait_until_written_rt(completed, PATIENCE);
            }
        };
        if spawn("player", play) { Ok(Self { is_over }) } else { Err(PlayerError::Thread) }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
    }
}
