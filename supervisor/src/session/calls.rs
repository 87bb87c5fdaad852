//! What clients ask, on its way from the control thread to the main loop.
//!
//! The queue is as long as there can be calls (`control::limits::CALL_QUEUE`), so it is never full while the limits of the
//! control socket hold; the main loop looks into it whenever it has done something else.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::Incoming;
use crate::control::limits::CALL_QUEUE;
use crate::control::{Call, NotTaken, Sink};

/// The queue.
#[derive(Clone, Default)]
pub struct CallQueue(Arc<Mutex<VecDeque<Call>>>);

impl CallQueue {
    /// The next call, if there is one.
    pub fn take(&self) -> Option<Call> {
        // Whole between any two operations, so a panic elsewhere cannot have damaged it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// The control thread's end. `events` only serves to wake the main loop: when it is full, that is awake.
    pub fn sink(&self, events: SyncSender<Incoming>) -> impl Sink + use<> {
        let queue = self.clone();
        move |call: Call| {
            let mut calls = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
            if calls.len() >= CALL_QUEUE {
                return Err(NotTaken::Full);
            }
            calls.push_back(call);
            drop(calls);
            let _ = events.try_send(Incoming::Called);
            Ok(())
        }
    }
}
