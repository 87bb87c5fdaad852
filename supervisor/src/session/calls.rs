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
pub struct CallQueue<T = Call>(Arc<Mutex<VecDeque<T>>>);

impl<T> Default for CallQueue<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for CallQueue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> CallQueue<T> {
    /// The next call, if there is one.
    pub fn take(&self) -> Option<T> {
        // Whole between any two operations, so a panic elsewhere cannot have damaged it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Adds a call. Whoever does this bounds how many of its calls there are at a time.
    pub fn put(&self, call: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(call);
    }
}

impl CallQueue {
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
