//! Who plays: opens the first device there is, moves to the null device the moment it is lost, looks twice a second whether
//! a device has come (back), and moves to it.
//!
//! Lives on the control thread and never blocks: searches, streams and the null device have threads of their own. Time
//! comes in as an argument. What happens is told in [`DeviceReply`]s, each move in one clear line.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS, MAX_DEVICE_CHANNELS};
use ipc::message::{DeviceReply, OpenDevice};

use super::null;
use super::search::{Found, Search, Searcher};
use super::stream::{StreamDriver, StreamLost};
use super::{Refusal, SoundSystem, Target};
use crate::device::baton::Baton;
use crate::device::clients::Clients;
use crate::device::control::Event;
use crate::device::listening::Source;

/// A device that has not asked for sound for so long is lost: servers that are stopped, or gone without a word.
const WATCHDOG: Duration = Duration::from_millis(400);

/// How often devices are looked for while the null device plays.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// How often a sound system is asked again that is there but does not fit: each time is felt by its other clients.
const UNFIT_INTERVAL: Duration = Duration::from_secs(5);

/// The null device has every channel: what is routed there is heard where the sound moves to, if that has it.
const NULL_CHANNELS: u32 = MAX_DEVICE_CHANNELS as u32;

/// Who plays.
enum Playing {
    /// The first search is not over yet.
    Nothing,
    /// The null device; its thread ends when it loses the baton.
    Null,
    Stream {
        driver: StreamDriver,
        seen_callbacks: u64,
        seen_at: Instant,
    },
}

/// What a device is to be opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub sample_rate_hz: u32,
    /// Where it offers so many.
    pub channels: u16,
}

impl Wanted {
    pub fn of(request: &OpenDevice) -> Self {
        let channels = request.channels.clamp(LANE_CHANNELS as u32, MAX_DEVICE_CHANNELS as u32) as u16;
        Self { sample_rate_hz: request.sample_rate, channels }
    }
}

/// The output of a session with a clock.
pub struct Outputs {
    target: Target,
    wanted: Wanted,
    baton: Arc<Baton>,
    searcher: Searcher,
    events: Sender<Event>,
    playing: Playing,
    is_searching: bool,
    search_at: Option<Instant>,
    /// When each sound system may be asked again.
    ask_again_at: [Option<Instant>; SoundSystem::ALL.len()],
    /// Xruns of the streams before this one.
    earlier_xruns: u64,
}

impl Outputs {
    pub fn new(target: Target, wanted: Wanted, baton: Arc<Baton>, clients: Clients, events: Sender<Event>) -> Self {
        Self {
            target,
            wanted,
            searcher: Searcher::new(Arc::clone(&baton), clients),
            baton,
            events,
            playing: Playing::Nothing,
            is_searching: false,
            search_at: None,
            ask_again_at: [None; SoundSystem::ALL.len()],
            earlier_xruns: 0,
        }
    }

    /// Begins: `Opened` or `Failed` is returned now or when the first search is over.
    pub fn open(&mut self, now: Instant) -> Vec<DeviceReply> {
        if self.target == Target::Null || !self.search(now) {
            return self.start_null().map_or_else(|reason| vec![DeviceReply::Failed { reason }], |()| vec![self.opened_null()]);
        }
        Vec::new()
    }

    /// A search is over.
    pub fn on_found(&mut self, found: Found, now: Instant) -> Vec<DeviceReply> {
        self.is_searching = false;
        for (system, refusal) in &found.refusals {
            let again_in = if matches!(refusal, Refusal::Unfit(_)) { UNFIT_INTERVAL } else { SEARCH_INTERVAL };
            self.ask_again_at[system.index()] = Some(now + again_in);
        }
        let is_first = matches!(self.playing, Playing::Nothing);
        match found.driver {
            Some(driver) => {
                let device = driver.name.clone();
                let reply = if is_first {
                    self.opened(&device, driver.period_frames, driver.channels)
                } else {
                    let reason = format!("{device} is there: sound has moved to it");
                    DeviceReply::Moved { reason, device, channels: driver.channels }
                };
                self.play_on(driver, now);
                vec![reply]
            }
            None if is_first => {
                self.search_at = Some(now + SEARCH_INTERVAL);
                if let Err(reason) = self.start_null() {
                    return vec![DeviceReply::Failed { reason }];
                }
                let reason = format!(
                    "no sound device ({}): playing in real time without one; sound moves when one appears",
                    reasons(&found.refusals)
                );
                vec![self.opened_null(), DeviceReply::Moved { device: "null".into(), reason, channels: NULL_CHANNELS }]
            }
            None => {
                self.search_at = Some(now + SEARCH_INTERVAL);
                Vec::new()
            }
        }
    }

    /// A stream reported a loss. Only the one that plays matters.
    pub fn on_lost(&mut self, lost: &StreamLost, now: Instant) -> Vec<DeviceReply> {
        match &self.playing {
            Playing::Stream { driver, .. } if driver.generation == lost.generation => self.leave(&lost.reason, now),
            Playing::Stream { .. } | Playing::Null | Playing::Nothing => Vec::new(),
        }
    }

    /// Looks after the stream that plays, or for one that could.
    pub fn on_tick(&mut self, now: Instant) -> Vec<DeviceReply> {
        match &mut self.playing {
            Playing::Nothing | Playing::Null => {
                if !self.is_searching && self.search_at.is_some_and(|at| now >= at) && !self.search(now) {
                    self.search_at = Some(now + SEARCH_INTERVAL);
                }
                Vec::new()
            }
            Playing::Stream { driver, seen_callbacks, seen_at } => {
                if driver.pulse.is_wild() {
                    let replies = self.leave("it takes sound much faster than it can play it", now);
                    self.ask_again_at = [Some(now + UNFIT_INTERVAL); SoundSystem::ALL.len()];
                    return replies;
                }
                let callbacks = driver.pulse.callbacks();
                let patience = WATCHDOG + Duration::from_secs(2) * driver.period_frames / self.wanted.sample_rate_hz;
                if callbacks != *seen_callbacks {
                    *seen_callbacks = callbacks;
                    *seen_at = now;
                    return Vec::new();
                }
                if now.duration_since(*seen_at) < patience {
                    return Vec::new();
                }
                self.leave(&format!("it has not asked for sound for {} ms", patience.as_millis()), now)
            }
        }
    }

    /// What plays now, as it was told when it was opened; nothing while the first search is not over.
    pub fn describe(&self) -> Option<DeviceReply> {
        match &self.playing {
            Playing::Nothing => None,
            Playing::Null => Some(self.opened_null()),
            Playing::Stream { driver, .. } => Some(self.opened(&driver.name, driver.period_frames, driver.channels)),
        }
    }

    /// Where what is to be heard comes from: the sound system that plays, and how much it takes at once. Nothing without one.
    pub fn input(&self) -> Option<Source> {
        match &self.playing {
            Playing::Stream { driver, .. } => Some(Source { system: driver.system, period_frames: driver.period_frames }),
            Playing::Null | Playing::Nothing => None,
        }
    }

    /// Late or lost periods that devices have reported.
    pub fn xruns(&self) -> u64 {
        match &self.playing {
            Playing::Stream { driver, .. } => self.earlier_xruns + driver.xruns(),
            Playing::Null | Playing::Nothing => self.earlier_xruns,
        }
    }

    /// Starts a search among the sound systems that may be asked now; false when there is none.
    fn search(&mut self, now: Instant) -> bool {
        let may_ask = |system: &SoundSystem| self.ask_again_at[system.index()].is_none_or(|at| now >= at);
        let systems: Vec<_> = self.target.systems().into_iter().filter(may_ask).collect();
        if systems.is_empty() {
            return false;
        }
        let search = Search { systems, device_name: self.target.device_name().map(str::to_owned), wanted: self.wanted };
        let (found_in, lost_in) = (self.events.clone(), self.events.clone());
        // When the control thread has ended, nobody needs to know.
        self.is_searching = self.searcher.start(
            search,
            move |found| drop(found_in.send(Event::Found(found))),
            move |lost| drop(lost_in.send(Event::Lost(lost))),
        );
        self.is_searching
    }

    fn play_on(&mut self, driver: StreamDriver, now: Instant) {
        self.baton.pass_to(driver.generation);
        driver.play();
        let seen_callbacks = driver.pulse.callbacks();
        self.search_at = None;
        self.playing = Playing::Stream { driver, seen_callbacks, seen_at: now };
    }

    /// Moves from a lost stream to the null device.
    fn leave(&mut self, why: &str, now: Instant) -> Vec<DeviceReply> {
        // The null device takes the baton before the stream is let go of.
        let Playing::Stream { driver, .. } = std::mem::replace(&mut self.playing, Playing::Nothing) else { return Vec::new() };
        let started = self.start_null();
        self.earlier_xruns += driver.xruns();
        self.ask_again_at = [None; SoundSystem::ALL.len()];
        self.search_at = Some(now + SEARCH_INTERVAL);
        let why = why.lines().next().unwrap_or_default();
        let reason = format!("{} is lost ({why}): playing in real time without it until a device is back", driver.name);
        match started {
            Ok(()) => vec![DeviceReply::Moved { device: "null".into(), reason, channels: NULL_CHANNELS }],
            Err(reason) => vec![DeviceReply::Failed { reason }],
        }
    }

    /// Moves to the null device, or says why that cannot be.
    fn start_null(&mut self) -> Result<(), String> {
        match null::start(&self.baton, self.wanted.sample_rate_hz) {
            Ok(_) => {
                self.playing = Playing::Null;
                Ok(())
            }
            Err(error) => {
                self.baton.withdraw();
                Err(format!("the thread of the null device cannot be started: {error}"))
            }
        }
    }

    fn opened_null(&self) -> DeviceReply {
        self.opened("null", BLOCK_FRAMES as u32, NULL_CHANNELS)
    }

    fn opened(&self, device: &str, period_frames: u32, channels: u32) -> DeviceReply {
        DeviceReply::Opened { device: device.to_owned(), sample_rate: self.wanted.sample_rate_hz, period_frames, channels }
    }
}

fn reasons(refusals: &[(SoundSystem, Refusal)]) -> String {
    let one = |(system, refusal): &(SoundSystem, Refusal)| format!("{} {refusal}", system.name());
    refusals.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::device::baton::Renderer;
    use crate::device::counters::Counters;
    use crate::device::mixer::{Mixer, MixerControl, MixerSettings};

    /// Outputs whose devices are the test's own: nothing is looked for.
    struct Rig {
        outputs: Outputs,
        baton: Arc<Baton>,
        counters: Arc<Counters>,
        start: Instant,
        _control: MixerControl,
        _events: Receiver<Event>,
    }

    impl Rig {
        fn new() -> Self {
            let counters = Arc::new(Counters::default());
            let settings = MixerSettings {
                sample_rate_hz: 48_000,
                lead_blocks: 4,
                first_frame: 0,
                counters: Arc::clone(&counters),
                reel: None,
                starts_together: false,
                is_unpaced: false,
            };
            let (mixer, control) = Mixer::new(settings);
            let baton = Baton::new(mixer);
            let (events_in, events) = channel();
            let wanted = Wanted { sample_rate_hz: 48_000, channels: 2 };
            let outputs = Outputs::new(Target::Null, wanted, Arc::clone(&baton), Clients::default(), events_in);
            Self { outputs, baton, counters, start: Instant::now(), _control: control, _events: events }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        /// A device has been found; returns its end of the driver and what was told.
        fn find(&mut self, name: &str, ms: u64) -> (Renderer, Vec<DeviceReply>) {
            let renderer = self.baton.issue(128);
            let driver = Some(StreamDriver::of_test(name, &renderer));
            let replies = self.outputs.on_found(Found { driver, refusals: Vec::new() }, self.at(ms));
            (renderer, replies)
        }

        fn tick(&mut self, ms: u64) -> Vec<DeviceReply> {
            self.outputs.on_tick(self.at(ms))
        }

        fn wait_for_more_frames(&self) {
            let (seen, deadline) = (self.counters.frames.load(Relaxed), Instant::now() + Duration::from_secs(60));
            while self.counters.frames.load(Relaxed) < seen + 1_000 {
                assert!(Instant::now() < deadline, "the session stands still");
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            self.baton.withdraw();
        }
    }

    fn play(renderer: &mut Renderer) -> bool {
        renderer.render_rt(128, |_, _| {})
    }

    fn moved<'a>(replies: &'a [DeviceReply], to: &str) -> &'a str {
        match replies {
            [DeviceReply::Moved { device, reason, .. }] if device == to => reason,
            other => panic!("not moved to {to}: {other:?}"),
        }
    }

    #[test]
    fn a_device_that_stops_asking_for_sound_is_left_for_the_null_device_and_taken_back() {
        let mut rig = Rig::new();
        let (mut device, replies) = rig.find("fake", 0);
        assert!(matches!(&replies[..], [DeviceReply::Opened { device, .. }] if device == "fake"));
        for ms in (0..2_000).step_by(20) {
            assert!(play(&mut device));
            assert_eq!(rig.tick(ms), []);
        }
        assert_eq!(rig.tick(2_380), [], "a device may be late");
        assert!(moved(&rig.tick(2_500), "null").contains("fake is lost (it has not asked for sound for 405 ms)"));
        rig.wait_for_more_frames();
        assert!(!play(&mut device), "the one that was left does not move the clock when it wakes up");
        assert_eq!(rig.tick(2_520), [], "nor does that concern anybody");

        let (mut device, replies) = rig.find("fake", 3_000);
        moved(&replies, "fake");
        let deadline = Instant::now() + Duration::from_secs(60);
        // The null device may be in the middle of a block when it loses the baton.
        while !play(&mut device) {
            assert!(Instant::now() < deadline, "the device is not given the session back");
        }
        let frames = rig.counters.frames.load(Relaxed);
        assert!(play(&mut device));
        assert_eq!(rig.counters.frames.load(Relaxed), frames + 128, "nobody else plays");
    }

    #[test]
    fn a_device_that_runs_wild_is_left_and_not_asked_again_at_once() {
        let mut rig = Rig::new();
        let (mut device, _) = rig.find("fake", 0);
        assert!(play(&mut device));
        assert_eq!(rig.tick(20), []);
        device.pulse().run_wild_rt();
        assert!(moved(&rig.tick(40), "null").contains("much faster than it can play"));
        assert!(rig.outputs.ask_again_at.iter().all(|at| at.is_some_and(|at| at >= rig.at(5_000))));
        assert!(!play(&mut device));
        rig.wait_for_more_frames();
    }

    #[test]
    fn a_device_that_reports_its_loss_is_left_at_once_and_only_once() {
        let mut rig = Rig::new();
        let (mut device, _) = rig.find("fake", 0);
        assert!(play(&mut device));
        let lost = StreamLost { generation: device.generation(), reason: "unplugged\nfor good".to_owned() };
        assert!(moved(&rig.outputs.on_lost(&lost, rig.at(1)), "null").contains("fake is lost (unplugged)"));
        assert_eq!(rig.outputs.on_lost(&lost, rig.at(2)), []);
        rig.wait_for_more_frames();
        let (other, _) = rig.find("other", 500);
        assert_eq!(rig.outputs.on_lost(&lost, rig.at(501)), [], "an old stream's loss does not concern the new one");
        assert!(other.holds_baton_rt());
    }
}
