//! The device's input: which one is listened to, and the thread that looks after its stream.
//!
//! The input is the default one of the sound system that plays, so that both go by one clock. It is opened when the first program
//! wants to hear it, and let go of when the last one does not. Driver libraries may hang in any call, so all of them are made on a
//! thread that nobody waits for; whatever it does, the mixer hears silence and goes on. A stream that says it is lost, or says
//! nothing, is let go of, and the next one is looked for, twice a second.
//!
//! [`Listening`] belongs to the control thread. The stream's callback takes in, and does nothing else ([`super::capture`]).

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{ErrorKind, FromSample, Sample, SampleFormat, SizedSample};
use ipc::limits::LANE_CHANNELS;

use super::capture::{self, Inlet, Tap};
use super::clients::{self, Clients};
use super::mixer::Frame;
use super::output::follow::Wanted;
use super::output::format::{self, Format};
use super::output::quiet::silence_libraries;
use super::output::stream::device_name;
use super::output::{SoundSystem, in_words};

/// How often an input is looked for.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

/// An input that has handed nothing over for so long is lost: servers that are stopped, or gone without a word.
const WATCHDOG: Duration = Duration::from_millis(400);

/// How long opening an input may take before the next one is tried on another thread.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Threads that may hang in a driver library at a time. With so many, the sound system is stuck and is left alone.
const MAX_STUCK: usize = 3;

/// What the input belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub system: SoundSystem,
    /// What the output takes at once: the input is asked for as much.
    pub period_frames: u32,
}

/// What the stream's thread and the control thread know of each other.
#[derive(Default)]
struct Shared {
    callbacks: AtomicU64,
    is_lost: AtomicBool,
    /// Name of the input, once it is open.
    name: Mutex<Option<String>>,
}

/// A stream, or an attempt to open one. Dropping it lets go of both.
struct Stream {
    source: Source,
    shared: Arc<Shared>,
    tap: Receiver<Tap>,
    /// The thread closes its stream when this is gone.
    _hold: Sender<()>,
    began: Instant,
    is_open: bool,
    seen_callbacks: u64,
    seen_at: Instant,
}

/// Which input is listened to. On the control thread.
pub struct Listening {
    sample_rate_hz: u32,
    stream: Option<Stream>,
    search_at: Option<Instant>,
    /// Attempts that have not come back.
    stuck: Vec<Arc<Shared>>,
    /// Of the process, at sound servers.
    clients: Clients,
}

impl Listening {
    pub fn new(sample_rate_hz: u32, clients: Clients) -> Self {
        Self { sample_rate_hz, stream: None, search_at: None, stuck: Vec::new(), clients }
    }

    /// Listens to this from now on, or to nothing. Returns what the mixer is to take in instead of what it takes in now, if
    /// that changes.
    pub fn follow(&mut self, source: Option<Source>, now: Instant) -> Option<Option<Tap>> {
        if let Some(stream) = &mut self.stream {
            if Some(stream.source) != source || stream.has_failed(now) {
                let was_open = stream.is_open;
                self.let_go(now);
                return was_open.then_some(None);
            }
            if let Ok(tap) = stream.tap.try_recv() {
                stream.is_open = true;
                stream.seen_at = now;
                return Some(Some(tap));
            }
            return None;
        }
        let source = source.filter(|_| self.search_at.is_none_or(|at| now >= at))?;
        self.stuck.retain(|shared| Arc::strong_count(shared) > 1);
        if self.stuck.len() < MAX_STUCK {
            self.search_at = Some(now + SEARCH_INTERVAL);
            // Without a thread for it there is no input; later there may be.
            self.stream = Stream::open(source, self.sample_rate_hz, &self.clients, now).ok();
        }
        None
    }

    /// What is listened to.
    pub fn device(&self) -> Option<String> {
        let stream = self.stream.as_ref().filter(|stream| stream.is_open)?;
        stream.shared.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Listens to nothing any more.
    pub fn close(&mut self) {
        self.stream = None;
    }

    fn let_go(&mut self, now: Instant) {
        if let Some(stream) = self.stream.take() {
            self.search_at = Some(now + SEARCH_INTERVAL);
            self.stuck.push(stream.shared);
        }
    }
}

impl Stream {
    fn open(source: Source, sample_rate_hz: u32, clients: &Clients, now: Instant) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (tap_in, tap) = channel();
        let (hold, held) = channel();
        let theirs = Arc::clone(&shared);
        let open = clients.enter();
        std::thread::Builder::new().name("input".into()).spawn(move || {
            if run(source, sample_rate_hz, &theirs, &tap_in, &held).is_err() {
                theirs.is_lost.store(true, Release);
            }
            drop(open);
        })?;
        Ok(Self { source, shared, tap, _hold: hold, began: now, is_open: false, seen_callbacks: 0, seen_at: now })
    }

    fn has_failed(&mut self, now: Instant) -> bool {
        if self.shared.is_lost.load(Acquire) {
            return true;
        }
        if !self.is_open {
            return now.duration_since(self.began) > OPEN_LIMIT;
        }
        let callbacks = self.shared.callbacks.load(Relaxed);
        if callbacks != self.seen_callbacks {
            (self.seen_callbacks, self.seen_at) = (callbacks, now);
        }
        now.duration_since(self.seen_at) > WATCHDOG + Duration::from_millis(u64::from(self.source.period_frames) / 8)
    }
}

/// Runs on the stream's thread: opens the input, hands its queue over, and holds it for as long as it is wanted.
fn run(source: Source, sample_rate_hz: u32, shared: &Arc<Shared>, tap_in: &Sender<Tap>, held: &Receiver<()>) -> Result<(), String> {
    silence_libraries();
    let host = cpal::host_from_id(source.system.host_id()).map_err(|error| in_words(&error))?;
    let device = host.default_input_device().ok_or("it has no input")?;
    let wanted = Wanted { sample_rate_hz, channels: LANE_CHANNELS as u16 };
    let ranges: Vec<_> = device.supported_input_configs().map_err(|error| in_words(&error))?.collect();
    let format = format::choose(&ranges, None, wanted, source.period_frames).map_err(|refusal| refusal.to_string())?;
    let (inlet, tap) = capture::queue();
    let stream = match format.sample {
        SampleFormat::F32 => build::<f32>(&device, format, inlet, shared),
        SampleFormat::I32 => build::<i32>(&device, format, inlet, shared),
        SampleFormat::I24 => build::<cpal::I24>(&device, format, inlet, shared),
        SampleFormat::I16 => build::<i16>(&device, format, inlet, shared),
        SampleFormat::U8 => build::<u8>(&device, format, inlet, shared),
        other => return Err(format!("it has samples as {other}")),
    };
    let stream = stream.and_then(|stream| stream.play().map(|()| stream)).map_err(|error| in_words(&error))?;
    *shared.name.lock().unwrap_or_else(PoisonError::into_inner) = Some(device_name(source.system, &device));
    if tap_in.send(tap).is_ok() {
        // Nothing is ever sent: it ends when it is let go of.
        let _ = held.recv();
    }
    clients::settle(&shared.is_lost);
    drop(stream);
    Ok(())
}

fn build<T>(device: &cpal::Device, format: Format, mut inlet: Inlet, shared: &Arc<Shared>) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let channels = usize::from(format.config.channels);
    let (calls, losses) = (Arc::clone(shared), Arc::clone(shared));
    device.build_input_stream(
        format.config,
        move |data: &[T], _: &cpal::InputCallbackInfo| {
            calls.callbacks.fetch_add(1, Relaxed);
            take_in_rt(&mut inlet, data, channels);
        },
        move |error: cpal::Error| match error.kind() {
            ErrorKind::Xrun | ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => {}
            _ => losses.is_lost.store(true, Release),
        },
        None,
    )
}

/// Hands on what the device has taken in: its first two channels, or the one it has as both.
fn take_in_rt<T>(inlet: &mut Inlet, data: &[T], channels: usize)
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let _section = crate::realtime::RealtimeSection::enter_rt();
    if channels == 0 {
        return;
    }
    let sample = |frame: usize, channel: usize| f32::from_sample(data[frame * channels + channel.min(channels - 1)]);
    inlet.push_rt(data.len() / channels, |frame| -> Frame { [sample(frame, 0), sample(frame, 1)] });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_channels_are_heard_or_the_one_there_is_on_both() {
        for (channels, expected) in [(3, [0.5, -0.25]), (2, [0.5, -0.25]), (1, [0.5, 0.5])] {
            let (mut inlet, tap) = capture::queue();
            let mut capture = capture::Capture::default();
            capture.tap_rt(Some(tap));
            let data: Vec<f32> = [0.5f32, -0.25, 1.0][..channels].repeat(128);
            (0..2).for_each(|_| take_in_rt(&mut inlet, &data, channels));
            take_in_rt::<f32>(&mut inlet, &[], 0);
            capture.advance_rt(0, 128);
            let mut block = ipc::lane::SILENCE;
            assert_eq!(capture.read_rt(0, &mut block), capture::Taken::There);
            assert_eq!([block[0][0], block[1][127]], expected, "{channels} channels");
        }
    }

    #[test]
    fn nothing_is_opened_while_nobody_listens() {
        let mut listening = Listening::new(48_000, Clients::default());
        assert!(listening.follow(None, Instant::now()).is_none());
        assert!(listening.stream.is_none() && listening.device().is_none());
    }
}
