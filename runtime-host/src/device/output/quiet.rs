//! Keeps the sound libraries from writing to standard error, where the live meter is.
//!
//! Both print every failed attempt to reach a server; we look for one twice a second. What they have to say reaches the
//! user through the errors they return.

use std::sync::Once;

/// Silences the sound libraries. Called first on every thread that opens devices: ALSA's setting belongs to the thread.
pub fn silence_libraries() {
    static JACK: Once = Once::new();
    JACK.call_once(|| jack::set_logger(jack::LoggerType::None));
    if let Ok(handler) = alsa::Output::local_error_handler() {
        // The library keeps a pointer to it for as long as the thread lives.
        std::mem::forget(handler);
    }
}
