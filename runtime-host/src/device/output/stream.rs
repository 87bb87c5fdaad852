//! One stream of a sound system, and the thread that owns it.
//!
//! The thread opens the device, reports, starts the stream when told to, and drops it when the [`StreamDriver`] is dropped;
//! the end of the process waits for that ([`Clients`]).
//! If the driver library hangs in any of these, only this thread hangs; nobody waits for it without a limit, and its
//! renderer no longer holds the baton. The stream's error callback counts, and sends the first few errors that mean a loss.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{ErrorKind, FromSample, SampleFormat, SizedSample};
use ipc::limits::{MAX_DEVICE_CHANNELS, MAX_PERIOD_FRAMES};

use super::follow::Wanted;
use super::format::{self, Format};
use super::meter::Meter;
use super::quiet::silence_libraries;
use super::{Refusal, SoundSystem, in_words};
use crate::device::baton::{Baton, Pulse, Renderer};
use crate::device::clients::{Clients, OpenClient, settle};
use crate::realtime::monotonic_ns_rt;

/// How long opening a device may take before it is given up. JACK needs 0.3 s on a busy machine.
pub const OPEN_LIMIT: Duration = Duration::from_secs(2);

/// How long a device that may lack a clock is watched, playing silence, before it is trusted.
const TRIAL: Duration = Duration::from_millis(200);

/// A device that takes sound this many times faster than real time has no clock. Filling its buffers first is allowed for
/// by [`TRIAL_SLACK_FRAMES`].
const TRIAL_SPEED_LIMIT: u64 = 3;
const TRIAL_SLACK_FRAMES: u64 = 4 * MAX_PERIOD_FRAMES as u64;

/// Errors of one stream that are passed on; drivers have been seen to report 860,000 in three seconds.
const MAX_REPORTED_ERRORS: u32 = 8;

/// How long a driver that runs wild, or that reports a loss again and again, is held up each time: it must not take a
/// processor until its stream is closed.
const WILD_PAUSE: Duration = Duration::from_millis(1);

/// What to open.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    pub system: SoundSystem,
    /// Part of the device's name; `None` means the default device.
    pub device_name: Option<String>,
    pub wanted: Wanted,
}

/// A stream reported that its device is lost.
#[derive(Debug)]
pub struct StreamLost {
    pub generation: u64,
    pub reason: String,
}

/// An open stream. Dropping it closes the stream, without waiting for that.
pub struct StreamDriver {
    pub system: SoundSystem,
    pub name: String,
    pub period_frames: u32,
    pub channels: u32,
    pub generation: u64,
    pub pulse: Arc<Pulse>,
    xruns: Arc<AtomicU64>,
    orders: mpsc::Sender<Play>,
}

/// The one order a stream's thread takes; the end of the orders means: close.
struct Play;

impl StreamDriver {
    /// A driver of a test, which calls the renderer itself.
    #[cfg(test)]
    pub fn of_test(name: &str, renderer: &Renderer) -> Self {
        let (generation, pulse) = (renderer.generation(), renderer.pulse());
        Self {
            system: SoundSystem::Jack,
            name: name.to_owned(),
            period_frames: 128,
            channels: 2,
            generation,
            pulse,
            xruns: Arc::default(),
            orders: mpsc::channel().0,
        }
    }

    /// Starts the stream. A failure comes as [`StreamLost`].
    pub fn play(&self) {
        // The thread listens for as long as this driver lives, unless it hangs; the watchdog sees that.
        let _ = self.orders.send(Play);
    }

    /// Periods that came late or were lost, as the device itself reports them.
    pub fn xruns(&self) -> u64 {
        self.xruns.load(Relaxed)
    }
}

/// What the stream's thread says when it has opened the device.
struct Opened {
    name: String,
    period_frames: u32,
    channels: u32,
    generation: u64,
    pulse: Arc<Pulse>,
}

/// Opens a device on a thread of its own, at most [`OPEN_LIMIT`]. `is_opening` is set while that thread is in the driver
/// library; as long as an earlier attempt hangs there, the sound system is stuck and no further thread is risked.
pub fn open(
    request: StreamRequest,
    baton: &Arc<Baton>,
    clients: &Clients,
    is_opening: &Arc<AtomicBool>,
    on_lost: impl Fn(StreamLost) + Send + Sync + 'static,
) -> Result<StreamDriver, Refusal> {
    if is_opening.swap(true, Acquire) {
        return Err(Refusal::Stuck);
    }
    let (orders_in, orders) = mpsc::channel();
    let (report_in, report) = mpsc::channel();
    let xruns = Arc::new(AtomicU64::new(0));
    let system = request.system;
    let thread = StreamThread {
        request,
        baton: Arc::clone(baton),
        is_opening: Arc::clone(is_opening),
        xruns: Arc::clone(&xruns),
        on_lost: Arc::new(on_lost),
        is_lost: Arc::default(),
        _open: clients.enter(),
    };
    let spawned = std::thread::Builder::new().name("stream".into()).spawn(move || thread.run(&report_in, &orders));
    if let Err(error) = spawned {
        is_opening.store(false, Release);
        return Err(Refusal::Absent(format!("its thread cannot be started: {error}")));
    }
    let Opened { name, period_frames, channels, generation, pulse } = match report.recv_timeout(OPEN_LIMIT) {
        Ok(report) => report?,
        Err(mpsc::RecvTimeoutError::Timeout) => return Err(Refusal::Stuck),
        Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Refusal::Absent("the driver has given up".into())),
    };
    Ok(StreamDriver { system, name, period_frames, channels, generation, pulse, xruns, orders: orders_in })
}

type OnLost = Arc<dyn Fn(StreamLost) + Send + Sync>;

struct StreamThread {
    request: StreamRequest,
    baton: Arc<Baton>,
    is_opening: Arc<AtomicBool>,
    xruns: Arc<AtomicU64>,
    on_lost: OnLost,
    /// The driver has said so.
    is_lost: Arc<AtomicBool>,
    /// Goes after everything that is open.
    _open: OpenClient,
}

impl StreamThread {
    fn run(self, report: &mpsc::Sender<Result<Opened, Refusal>>, orders: &mpsc::Receiver<Play>) {
        silence_libraries();
        let result = self.open();
        self.is_opening.store(false, Release);
        let stream = match result {
            Ok((stream, opened)) => {
                let generation = opened.generation;
                // Nobody listens any more when this took too long; then the orders have ended as well.
                let _ = report.send(Ok(opened));
                Some((stream, generation))
            }
            Err(refusal) => {
                let _ = report.send(Err(refusal));
                None
            }
        };
        let Some((stream, generation)) = stream else { return };
        if orders.recv().is_ok() {
            if let Err(error) = stream.play() {
                (self.on_lost)(StreamLost { generation, reason: error.to_string() });
            }
            let _ = orders.recv();
        }
        settle(&self.is_lost);
        drop(stream);
    }

    fn open(&self) -> Result<(cpal::Stream, Opened), Refusal> {
        let device = find_device(self.request.system, self.request.device_name.as_deref())?;
        let name = device_name(self.request.system, &device);
        let ranges: Vec<_> = device.supported_output_configs().map_err(|e| absent(&e))?.collect();
        let default_rate = device.default_output_config().ok().map(|config| config.sample_rate());
        let preferred = self.request.system.preferred_period_frames();
        let wanted = Wanted { channels: self.channels(&device), ..self.request.wanted };
        let format = format::choose(&ranges, default_rate, wanted, preferred)?;
        let renderer = self.baton.issue(period_of(&format));
        let (generation, pulse) = (renderer.generation(), renderer.pulse());
        let stream = self.build(&device, format, renderer)?;
        let period_frames = stream.buffer_size().ok().filter(|frames| *frames > 0).unwrap_or(period_of(&format) as u32);
        if period_frames as usize > MAX_PERIOD_FRAMES {
            return Err(format::too_long(period_frames));
        }
        if self.request.system.may_lack_a_clock() {
            has_clock(&stream, &pulse, self.request.wanted.sample_rate_hz)?;
        }
        let channels = u32::from(format.config.channels).min(MAX_DEVICE_CHANNELS as u32);
        Ok((stream, Opened { name, period_frames, channels, generation, pulse }))
    }

    /// Channels to ask for: those that are wanted, and those that the device has by itself. JACK would make ports for as many as
    /// anybody likes; it has as many as there are outputs to connect them to.
    fn channels(&self, device: &cpal::Device) -> u16 {
        const MOST: u16 = MAX_DEVICE_CHANNELS as u16;
        let own = match self.request.system {
            SoundSystem::Jack => return jack_outputs().clamp(2, MOST),
            SoundSystem::PulseAudio | SoundSystem::Alsa => device.default_output_config().map_or(2, |config| config.channels()),
        };
        self.request.wanted.channels.max(own).clamp(2, MOST)
    }

    fn build(&self, device: &cpal::Device, format: Format, renderer: Renderer) -> Result<cpal::Stream, Refusal> {
        let result = match format.sample {
            SampleFormat::F32 => self.build_as::<f32>(device, format, renderer),
            SampleFormat::I32 => self.build_as::<i32>(device, format, renderer),
            SampleFormat::I24 => self.build_as::<cpal::I24>(device, format, renderer),
            SampleFormat::I16 => self.build_as::<i16>(device, format, renderer),
            SampleFormat::U8 => self.build_as::<u8>(device, format, renderer),
            other => return Err(Refusal::Unfit(format!("wants samples as {other}"))),
        };
        result.map_err(|error| absent(&error))
    }

    fn build_as<T: SizedSample + FromSample<f32>>(
        &self,
        device: &cpal::Device,
        format: Format,
        mut renderer: Renderer,
    ) -> Result<cpal::Stream, cpal::Error> {
        let channels = usize::from(format.config.channels);
        let mut on_error = self.error_callback(renderer.generation());
        let (mut meter, pulse) = (Meter::new(self.request.wanted.sample_rate_hz), renderer.pulse());
        device.build_output_stream(
            format.config,
            // The buffer is silent already: where nothing is rendered, nothing has to be written.
            move |data: &mut [T], _: &cpal::OutputCallbackInfo| {
                let frames = data.len() / channels;
                if renderer.holds_baton_rt() && meter.is_wild_rt(monotonic_ns_rt(), frames) {
                    pulse.run_wild_rt();
                }
                if pulse.is_wild() {
                    // No longer a real-time thread: what calls it so often has no clock, and would take a whole processor.
                    std::thread::sleep(WILD_PAUSE);
                    return;
                }
                renderer.render_rt(frames, |position, frame| {
                    for (channel, sample) in data[position * channels..][..channels].iter_mut().enumerate() {
                        *sample = T::from_sample(format::sample_rt(&frame, channel, channels));
                    }
                });
            },
            move |error| on_error(&error),
            None,
        )
    }

    /// Counts what does no harm; everything else means that the device is lost.
    fn error_callback(&self, generation: u64) -> impl FnMut(&cpal::Error) + Send + 'static {
        let (xruns, on_lost, is_lost) = (Arc::clone(&self.xruns), Arc::clone(&self.on_lost), Arc::clone(&self.is_lost));
        let reported = AtomicU32::new(0);
        move |error| match error.kind() {
            ErrorKind::Xrun => {
                xruns.fetch_add(1, Relaxed);
            }
            ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => {}
            _ => {
                is_lost.store(true, Release);
                if reported.fetch_add(1, Relaxed) < MAX_REPORTED_ERRORS {
                    on_lost(StreamLost { generation, reason: error.to_string() });
                } else {
                    std::thread::sleep(WILD_PAUSE);
                }
            }
        }
    }
}

/// How many outputs the JACK server has: those that a stream's ports are connected to.
fn jack_outputs() -> u16 {
    let Ok((client, _)) = jack::Client::new("continuo-look", jack::ClientOptions::NO_START_SERVER) else { return 0 };
    u16::try_from(client.ports(Some("system:playback_.*"), None, jack::PortFlags::empty()).len()).unwrap_or(u16::MAX)
}

fn period_of(format: &Format) -> usize {
    match format.config.buffer_size {
        cpal::BufferSize::Fixed(frames) => frames as usize,
        cpal::BufferSize::Default => MAX_PERIOD_FRAMES,
    }
}

/// Lets the stream play silence for a moment and looks how much of it the device takes.
fn has_clock(stream: &cpal::Stream, pulse: &Pulse, sample_rate_hz: u32) -> Result<(), Refusal> {
    let start = Instant::now();
    stream.play().map_err(|error| absent(&error))?;
    std::thread::sleep(TRIAL);
    let elapsed_ms = start.elapsed().as_millis() as u64;
    if is_unclocked(pulse.frames(), elapsed_ms, sample_rate_hz) {
        return Err(Refusal::Unfit("has no clock: it takes sound as fast as it is given".into()));
    }
    Ok(())
}

fn is_unclocked(frames: u64, elapsed_ms: u64, sample_rate_hz: u32) -> bool {
    frames > TRIAL_SLACK_FRAMES + elapsed_ms * u64::from(sample_rate_hz) * TRIAL_SPEED_LIMIT / 1_000
}

fn absent(error: &cpal::Error) -> Refusal {
    match error.kind() {
        ErrorKind::UnsupportedConfig | ErrorKind::UnsupportedOperation => Refusal::Unfit(in_words(error)),
        _ => Refusal::Absent(in_words(error)),
    }
}

fn find_device(system: SoundSystem, name: Option<&str>) -> Result<cpal::Device, Refusal> {
    // A host made earlier would not see a server that came later.
    let host = cpal::host_from_id(system.host_id()).map_err(|error| absent(&error))?;
    let Some(name) = name else {
        return host.default_output_device().ok_or_else(|| Refusal::Absent("is not running".into()));
    };
    let devices = host.output_devices().map_err(|error| absent(&error))?;
    let wanted = name.to_lowercase();
    devices
        .into_iter()
        .find(|device| [device_name(system, device), device_id(device)].iter().any(|text| text.to_lowercase().contains(&wanted)))
        .ok_or_else(|| Refusal::Absent(format!("has no output named '{name}'")))
}

/// The device's name for people, with its sound system's.
pub fn device_name(system: SoundSystem, device: &cpal::Device) -> String {
    let name = device.description().map_or_else(|_| device_id(device), |description| description.name().to_owned());
    format!("{}: {}", system.name(), name.lines().next().unwrap_or_default())
}

/// The device's name for its sound system.
pub fn device_id(device: &cpal::Device) -> String {
    device.id().map(|id| id.id().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_clock_is_told_from_one_that_fills_its_buffers() {
        assert!(!is_unclocked(9_600 + 2 * 4_096, 200, 48_000));
        assert!(!is_unclocked(0, 200, 48_000));
        assert!(is_unclocked(86_000_000 / 5, 200, 48_000));
    }
}
