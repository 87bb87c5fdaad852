//! Takeovers that cannot be: each says why, and nothing is played that was not meant.

use std::sync::atomic::Ordering::Relaxed;

use ipc::live::{LiveChange, LiveRequest};
use ipc::segment::Segment;

use super::script::wait;
use super::show::{NONE, Show};
use crate::live::band::{Band, player};
use crate::live::rig::{assert_heard, set};

fn solo() -> Band {
    Band::of([player("tone", 3, 1)])
}
