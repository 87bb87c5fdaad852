//! The keyboard as programs see it: which keys are held, and what their items are told (LANGUAGE §20.6). Part of the state
//! machine: see the parent module.
//!
//! A key is an input like a `set`: it goes to the host as a request, takes effect at a tick that the host names, stands in the
//! log with that tick, and is asked of the next host when the one that was asked has died.

use ipc::live::{LiveChange, SetItem};

use super::log::Logged;
use super::{Action, KeyItems, Policy, Stage};

/// Requests that one host may have under way without anybody waiting for them. A host that takes none for so long is behind;
/// when it has caught up it is told how the keyboard is then.
pub(super) const MAX_UNASKED: usize = 64;

/// Keys that may be held at a time; more than a person has fingers. Of more, the oldest counts as released.
const MAX_HELD: usize = 16;

/// Which keys are held.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// USB-HID usages, in the order they were pressed in.
    held: Vec<u8>,
    /// The code that programs have been told last.
    code: Option<u8>,
    /// Runtimes that have missed a change, because they were behind.
    behind: Vec<usize>,
}

/// A change of the keyboard, as programs are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct News {
    /// The new code; `None` leaves the old one.
    code: Option<u8>,
    is_pressed: bool,
}

impl Keys {
    /// Takes a key. `None`: it does not concern programs.
    fn take(&mut self, usage: u8, is_down: bool) -> Option<News> {
        let position = self.held.iter().position(|held| *held == usage);
        match (position, is_down) {
            (Some(_), true) | (None, false) => return None,
            (None, true) => {
                if self.held.len() >= MAX_HELD {
                    self.held.remove(0);
                }
                self.held.push(usage);
            }
            (Some(position), false) => drop(self.held.remove(position)),
        }
        // The one that was pressed last of those that are held; when none is, the code stays.
        let code = self.held.last().copied();
        self.code = code.or(self.code);
        Some(News { code, is_pressed: code.is_some() })
    }

    /// All keys are released.
    fn release(&mut self) -> Option<News> {
        let was_held = !std::mem::take(&mut self.held).is_empty();
        was_held.then_some(News { code: None, is_pressed: false })
    }

    /// All that is to be known by somebody who has missed something.
    fn now(&self) -> News {
        News { code: self.code, is_pressed: !self.held.is_empty() }
    }
}

impl News {
    /// The values to set, for a program that wants to know of the keyboard in these items.
    fn values(self, items: &KeyItems) -> Vec<(String, f64)> {
        let code = items.code.clone().zip(self.code.map(f64::from));
        let pressed = items.pressed.clone().map(|item| (item, f64::from(u8::from(self.is_pressed))));
        code.into_iter().chain(pressed).collect()
    }
}

impl Policy {
    /// Whether any program that runs wants to know of keys.
    pub fn wants_keys(&self) -> bool {
        self.stage == Stage::Working && (0..self.runtimes.len()).any(|runtime| self.key_items(runtime).is_some())
    }

    /// A key has been pressed or released.
    pub(super) fn key_moved(&mut self, usage: u8, is_down: bool, actions: &mut Vec<Action>) {
        let news = self.keys.take(usage, is_down);
        self.tell_keys(news, actions);
    }

    /// Nobody looks at the keyboard any more.
    pub(super) fn keys_released(&mut self, actions: &mut Vec<Action>) {
        let news = self.keys.release();
        self.tell_keys(news, actions);
    }

    /// Tells a runtime that was behind how the keyboard is now.
    pub(super) fn catch_up_keys(&mut self, runtime: usize, actions: &mut Vec<Action>) {
        let has_room = self.runtimes.get(runtime).is_some_and(|state| state.unasked.len() < MAX_UNASKED / 2);
        let position = self.keys.behind.iter().position(|behind| *behind == runtime).filter(|_| has_room);
        if let Some(position) = position {
            self.keys.behind.swap_remove(position);
            self.tell_runtime_keys(runtime, self.keys.now(), actions);
        }
    }

    fn tell_keys(&mut self, news: Option<News>, actions: &mut Vec<Action>) {
        let Some(news) = news.filter(|_| self.stage == Stage::Working) else { return };
        for runtime in 0..self.runtimes.len() {
            self.tell_runtime_keys(runtime, news, actions);
        }
    }

    fn tell_runtime_keys(&mut self, runtime: usize, news: News, actions: &mut Vec<Action>) {
        let values = self.key_items(runtime).map(|items| news.values(items)).unwrap_or_default();
        let Some(slot) = self.live_slot(runtime).filter(|_| !values.is_empty()) else { return };
        // What was asked of hosts that are over is not answered any more.
        let programs = &self.programs;
        self.runtimes[runtime].unasked.retain(|_, (slot, _)| programs.get(slot.0).is_some_and(|program| !program.phase.is_over()));
        if self.runtimes[runtime].unasked.len() >= MAX_UNASKED {
            if !self.keys.behind.contains(&runtime) {
                self.keys.behind.push(runtime);
            }
            return;
        }
        let items = values.iter().map(|(item, value)| SetItem { item: item.clone(), value: *value }).collect();
        let logged = values.into_iter().map(|(item, value)| (item, value.to_bits())).collect();
        let what = LiveChange::Set { values: items, ramp_ticks: 0 };
        self.tell_unasked(runtime, slot, what, Logged::Set { values: logged, ramp_ticks: 0 }, actions);
    }

    fn key_items(&self, runtime: usize) -> Option<&KeyItems> {
        let current = self.runtimes.get(runtime)?.current.as_ref()?;
        Some(&current.plan.keys).filter(|keys| keys.code.is_some() || keys.pressed.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(code: u8) -> Option<News> {
        Some(News { code: Some(code), is_pressed: true })
    }

    #[test]
    fn a_released_key_leaves_the_one_pressed_last_of_those_held() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(4, true), news(4));
        assert_eq!(keys.take(5, true), news(5));
        assert_eq!(keys.take(6, true), news(6));
        assert_eq!(keys.take(5, false), news(6));
        assert_eq!(keys.take(6, false), news(4));
        assert_eq!(keys.take(4, false), Some(News { code: None, is_pressed: false }));
        assert_eq!(keys.now(), News { code: Some(4), is_pressed: false }, "the code stays");
    }

    #[test]
    fn repetitions_and_releases_of_nothing_are_no_news() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(4, false), None);
        assert_eq!(keys.release(), None);
        assert_eq!(keys.take(4, true), news(4));
        assert_eq!(keys.take(4, true), None);
        assert_eq!(keys.release(), Some(News { code: None, is_pressed: false }));
        assert_eq!(keys.take(4, false), None);
    }

    #[test]
    fn keys_that_are_held_are_bounded() {
        let mut keys = Keys::default();
        (0..200).for_each(|usage| assert_eq!(keys.take(usage, true), news(usage)));
        assert_eq!(keys.held.len(), MAX_HELD);
    }

    #[test]
    fn a_program_is_told_what_it_has_items_for() {
        let items =
            |code: Option<&str>, pressed: Option<&str>| KeyItems { code: code.map(str::to_owned), pressed: pressed.map(str::to_owned) };
        let told = News { code: Some(4), is_pressed: true };
        assert_eq!(told.values(&items(Some("m:code"), Some("m:down"))), [("m:code".to_owned(), 4.0), ("m:down".to_owned(), 1.0)]);
        assert_eq!(told.values(&items(Some("m:code"), None)), [("m:code".to_owned(), 4.0)]);
        assert_eq!(News { code: None, is_pressed: false }.values(&items(Some("m:code"), None)), []);
    }
}
