//! The clients of sound servers that this process has, so that it does not end before they are closed.
//!
//! A server that plays in step with its clients (`jackd -S`) stands still, for all of them, until it gives up one that has gone
//! without a word: ten times its time-out. So whoever opens a client holds an [`OpenClient`] until it is closed, and the end of
//! the process waits for all of them, but not for ever: a server that hangs answers nobody.
//!
//! Used by every thread but real-time ones. Nothing here calls into a driver library, except that a [`Client`] is closed on a
//! thread of its own.

use std::ops::Deref;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Acquire;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between the loss of a server and the closing of what was open there. libjack tells of the loss in a callback, and closing the
/// client cancels the thread that is in it, wherever it is: in the middle of a callback that ends the process ("exception not
/// rethrown"). The callback is over within microseconds, but for a machine that has no time for it.
const SETTLING: Duration = Duration::from_millis(300);

/// Waits, where the server is lost, until the callback that has said so is certainly over.
pub fn settle(is_lost: &AtomicBool) {
    if is_lost.load(Acquire) {
        std::thread::sleep(SETTLING);
    }
}

/// How many clients there are. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<usize>,
    closed: Condvar,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, usize> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clients {
    /// One more, which need not be open yet: it counts until the value is dropped.
    pub fn enter(&self) -> OpenClient {
        *self.0.open() += 1;
        OpenClient(Arc::clone(&self.0))
    }

    /// Waits until all are closed, at most `limit`. False when some are not.
    pub fn wait_until_closed(&self, limit: Duration) -> bool {
        let waited = self.0.closed.wait_timeout_while(self.0.open(), limit, |open| *open > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

/// A client that may be open. Dropped after the client.
#[derive(Debug)]
pub struct OpenClient(Arc<Shared>);

impl Drop for OpenClient {
    fn drop(&mut self) {
        *self.0.open() -= 1;
        self.0.closed.notify_all();
    }
}

/// A client that is closed on a thread of its own when this is dropped.
pub struct Client<C: Send + 'static> {
    open: Option<(C, OpenClient)>,
    /// Set by the callback that says so.
    is_lost: Arc<AtomicBool>,
}

impl<C: Send + 'static> Client<C> {
    /// `is_lost` is set when the server says that it is gone.
    pub fn new(client: C, open: OpenClient, is_lost: Arc<AtomicBool>) -> Self {
        Self { open: Some((client, open)), is_lost }
    }
}

impl<C: Send + 'static> Deref for Client<C> {
    type Target = C;

    fn deref(&self) -> &C {
        // It is there until the value is dropped.
        &self.open.as_ref().expect("a client is there until it is dropped").0
    }
}

impl<C: Send + 'static> Drop for Client<C> {
    fn drop(&mut self) {
        let Some((client, open)) = self.open.take() else { return };
        let is_lost = Arc::clone(&self.is_lost);
        let close = move || {
            settle(&is_lost);
            drop(client);
            drop(open);
        };
        // Without the thread it is closed here, by being dropped.
        let _ = std::thread::Builder::new().name("client-end".into()).spawn(close);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    #[test]
    fn the_end_waits_until_every_client_is_closed_and_no_longer_than_it_may() {
        /// Is closed when it is told to be.
        struct Slow(Receiver<()>);
        impl Drop for Slow {
            fn drop(&mut self) {
                let _ = self.0.recv();
            }
        }

        let clients = Clients::default();
        assert!(clients.wait_until_closed(NO_TIME), "there is none");
        let (close, told) = channel();
        let slow = Client::new(Slow(told), clients.enter(), Arc::default());
        let other = clients.clone().enter();
        drop(slow);
        assert!(!clients.wait_until_closed(NO_TIME), "one is about to be closed, and one is open");
        close.send(()).unwrap();
        assert!(!clients.wait_until_closed(Duration::from_millis(1)), "one is open");
        drop(other);
        assert!(clients.wait_until_closed(Duration::from_secs(60)));
    }
}
