//! Whose machine it is: most tests share it, those that load it on purpose have it alone, so that no other test is late for them.
//!
//! A share belongs to the thread of a test and ends with it.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// What a test has of the machine.
enum Share {
    Part { _guard: RwLockReadGuard<'static, ()> },
    Whole { _guard: RwLockWriteGuard<'static, ()> },
}

thread_local! {
    static SHARE: RefCell<Option<Share>> = const { RefCell::new(None) };
}

/// Waits until nobody has the machine alone. Does nothing for a test that has a share.
pub fn share_machine() {
    SHARE.with_borrow_mut(|share| {
        share.get_or_insert_with(|| Share::Part { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) });
    });
}

/// Waits until nobody else has a share.
pub fn own_machine() {
    SHARE.with_borrow_mut(|share| {
        // What an earlier test of the same thread had would be waited for forever.
        *share = None;
        *share = Some(Share::Whole { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) });
    });
}
