//! Lists the outputs of all sound systems: usable or not, and why. A sound system that does not answer is listed as such.

use std::sync::mpsc;
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait};
use ipc::message::DeviceDescription;

use super::quiet::silence_libraries;
use super::stream::{device_id, device_name};
use super::{SoundSystem, in_words};
use crate::device::clients::{Clients, OpenClient};

/// How long one sound system may take to list its devices.
const LIST_LIMIT: Duration = Duration::from_secs(2);

/// ALSA's device that takes everything at once.
const ALSA_NULL: &str = "null";

/// Lists all outputs, the null device last. Takes at most two seconds: the sound systems are asked at the same time.
pub fn list(clients: &Clients) -> Vec<DeviceDescription> {
    let answers: Vec<_> = SoundSystem::ALL.into_iter().map(|system| (system, ask(system, clients.enter()))).collect();
    let deadline = std::time::Instant::now() + LIST_LIMIT;
    let mut devices = Vec::new();
    for (system, answer) in answers {
        let patience = deadline.saturating_duration_since(std::time::Instant::now());
        devices.extend(answer.recv_timeout(patience).unwrap_or_else(|_| vec![unusable(system, "does not answer".into())]));
    }
    devices.push(DeviceDescription {
        host: "null".into(),
        name: "null".into(),
        is_default: false,
        detail: "plays to nobody, in real time".into(),
        is_usable: true,
    });
    // The default is what is opened when the user does not choose: the first default device that can be used.
    let first = devices.iter().position(|device| device.is_usable && device.is_default).unwrap_or(devices.len() - 1);
    for (index, device) in devices.iter_mut().enumerate() {
        device.is_default = index == first;
    }
    devices
}

fn ask(system: SoundSystem, open: OpenClient) -> mpsc::Receiver<Vec<DeviceDescription>> {
    let (answer_in, answer) = mpsc::channel();
    let job = move || {
        silence_libraries();
        let _ = answer_in.send(describe(system));
        drop(open);
    };
    // Without a thread there is no answer either; the caller says so.
    let _ = std::thread::Builder::new().name("listing".into()).spawn(job);
    answer
}

fn describe(system: SoundSystem) -> Vec<DeviceDescription> {
    let host = match cpal::host_from_id(system.host_id()) {
        Ok(host) => host,
        Err(error) => return vec![unusable(system, in_words(&error))],
    };
    let default = host.default_output_device();
    let mut devices: Vec<DeviceDescription> = match host.output_devices() {
        Ok(devices) => devices.map(|device| describe_device(system, &device, default.as_ref())).collect(),
        Err(error) => return vec![unusable(system, in_words(&error))],
    };
    match default {
        // ALSA's default device may be missing in its own list.
        Some(device) if !devices.iter().any(|device| device.is_default) => {
            devices.insert(0, describe_device(system, &device, Some(&device)));
        }
        None if devices.is_empty() => devices.push(unusable(system, "is not running".into())),
        _ => {}
    }
    devices
}

fn describe_device(system: SoundSystem, device: &cpal::Device, default: Option<&cpal::Device>) -> DeviceDescription {
    let id = device_id(device);
    let label = device_name(system, device);
    let label = label.strip_prefix(system.name()).map_or(label.as_str(), |rest| rest.trim_start_matches(": "));
    let name = if system == SoundSystem::Alsa && label != id { format!("{id} ({label})") } else { label.to_owned() };
    let (detail, is_usable) = match device.default_output_config() {
        Ok(_) if system.may_lack_a_clock() && id == ALSA_NULL => ("has no clock: it takes sound as fast as it is given".to_owned(), false),
        Ok(config) => (format!("{} channels, {} Hz, {}", config.channels(), config.sample_rate(), config.sample_format()), true),
        Err(error) => (in_words(&error), false),
    };
    let is_default = default.is_some_and(|default| device_id(default) == id);
    DeviceDescription { host: system.name().into(), name, is_default, detail, is_usable }
}

fn unusable(system: SoundSystem, detail: String) -> DeviceDescription {
    DeviceDescription { host: system.name().into(), name: system.name().into(), is_default: false, detail, is_usable: false }
}
