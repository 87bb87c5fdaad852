//! The passing of the mixer from driver to driver, tried in every order of events that the memory model allows.
//!
//! The source under test is the one that runs; only the atomics and the lock are loom's.

use loom::sync::Arc;
use loom::thread;
use passing::Passing;

/// What the source below is made of here.
mod sync {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicU64, Ordering};
}

#[path = "../src/device/baton/passing.rs"]
mod passing;

/// A session clock that notes who moved it.
type Clock = Vec<u64>;

fn move_clock_rt(passing: &Passing<Clock>, number: u64) -> bool {
    passing.use_rt(number, |clock| clock.push(number)).is_some()
}

#[test]
fn a_driver_that_wakes_up_late_never_moves_the_clock_after_its_successor() {
    loom::model(|| {
        let passing = Arc::new(Passing::new(Clock::new()));
        let (old, new) = (passing.issue(), passing.issue());
        passing.pass_to(old);
        let (with_old, with_new) = (Arc::clone(&passing), Arc::clone(&passing));
        let hanging = thread::spawn(move || move_clock_rt(&with_old, old));
        let successor = thread::spawn(move || move_clock_rt(&with_new, new));
        passing.pass_to(new);
        hanging.join().unwrap();
        successor.join().unwrap();
        let clock = passing.use_idle(|clock| clock.clone()).unwrap();
        assert!(clock.is_sorted(), "{clock:?}");
    });
}

#[test]
fn a_successor_is_served_as_soon_as_the_one_before_is_done() {
    loom::model(|| {
        let passing = Arc::new(Passing::new(Clock::new()));
        let (old, new) = (passing.issue(), passing.issue());
        passing.pass_to(old);
        let with_old = Arc::clone(&passing);
        let hanging = thread::spawn(move || move_clock_rt(&with_old, old));
        passing.pass_to(new);
        move_clock_rt(&passing, new); // Served, or not because the one before is still at it.
        hanging.join().unwrap();
        assert!(move_clock_rt(&passing, new));
    });
}

#[test]
fn once_it_is_nobodys_turn_and_idle_it_stays_as_it_is() {
    loom::model(|| {
        let passing = Arc::new(Passing::new(Clock::new()));
        let driver = passing.issue();
        passing.pass_to(driver);
        let with_driver = Arc::clone(&passing);
        let hanging = thread::spawn(move || move_clock_rt(&with_driver, driver));
        passing.withdraw();
        let closed_at = passing.use_idle(|clock| clock.len());
        hanging.join().unwrap();
        let length = passing.use_idle(|clock| clock.len()).unwrap();
        assert!(closed_at.is_none_or(|at_closing| at_closing == length), "a driver rendered into a closed session");
    });
}

#[test]
fn the_model_notices_a_driver_that_looks_before_it_locks_and_not_after() {
    let found = std::panic::catch_unwind(|| {
        loom::model(|| {
            let passing = Arc::new(Passing::new(Clock::new()));
            let (old, new) = (passing.issue(), passing.issue());
            passing.pass_to(old);
            let with_old = Arc::clone(&passing);
            let hanging = thread::spawn(move || {
                if with_old.is_turn_of_rt(old) {
                    with_old.use_idle(|clock| clock.push(old));
                }
            });
            passing.pass_to(new);
            move_clock_rt(&passing, new);
            hanging.join().unwrap();
            assert!(passing.use_idle(|clock| clock.is_sorted()).unwrap());
        });
    });
    assert!(found.is_err(), "a clock that was moved by the wrong driver was not found");
}
