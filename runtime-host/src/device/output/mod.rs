//! Where sound goes: the sound systems of the machine, the paced null device, the unpaced output, and the rules by which
//! sound moves between them.
//!
//! - [`stream`]: one stream of a sound system, and the thread that owns it for its whole life.
//! - [`search`]: looks for a device that can be opened, in order.
//! - [`meter`]: tells a device that runs wild.
//! - [`null`]: the paced null device, which plays to nobody in real time.
//! - [`unpaced`]: no clock at all, for rendering into a file.
//! - [`follow`]: who plays now, who is lost, when to look again.
//! - [`listing`]: what there is to choose from.
//!
//! Every call into a driver library may hang (measured: JACK with a stopped server, PulseAudio when a stream is dropped
//! after its sink has gone). So each is made on a thread that nobody waits for without a limit.

pub mod follow;
pub mod format;
pub mod listing;
pub mod meter;
pub mod null;
pub mod quiet;
pub mod search;
pub mod stream;
pub mod unpaced;

use cpal::{ErrorKind, HostId};

/// A sound system that may have devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundSystem {
    Jack,
    PulseAudio,
    Alsa,
}

impl SoundSystem {
    /// In the order in which they are tried. JACK first, because who runs it wants it; ALSA last, because its default device
    /// is there even when nothing is behind it.
    pub const ALL: [Self; 3] = [Self::Jack, Self::PulseAudio, Self::Alsa];

    /// Its name in messages and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jack => "jack",
            Self::PulseAudio => "pulseaudio",
            Self::Alsa => "alsa",
        }
    }

    /// Its place in [`SoundSystem::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Jack => 0,
            Self::PulseAudio => 1,
            Self::Alsa => 2,
        }
    }

    pub fn host_id(self) -> HostId {
        match self {
            Self::Jack => HostId::Jack,
            Self::PulseAudio => HostId::PulseAudio,
            Self::Alsa => HostId::Alsa,
        }
    }

    /// Frames asked for at a time, where the sound system leaves the choice to us: below these, AUDIO §0 measured gaps.
    fn preferred_period_frames(self) -> u32 {
        match self {
            Self::Jack => 128, // Not a choice: the server's own value is used.
            Self::PulseAudio => 1_024,
            Self::Alsa => 512,
        }
    }

    /// Whether a device of this system may be one that takes sound as fast as it is given (ALSA's `null` and `file`).
    fn may_lack_a_clock(self) -> bool {
        self == Self::Alsa
    }
}

/// Which outputs may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The default device of the first sound system that opens.
    Any,
    /// The default device of this one.
    System(SoundSystem),
    /// The first device whose name contains this text, in one sound system or in any.
    Device { system: Option<SoundSystem>, name: String },
    /// The paced null device, for good.
    Null,
}

impl Target {
    /// Reads what the user wrote: `null`, a sound system's name, `system:name`, or (part of) a device's name.
    pub fn parse(text: &str) -> Self {
        let system = |name: &str| SoundSystem::ALL.into_iter().find(|system| system.name().eq_ignore_ascii_case(name));
        if text.eq_ignore_ascii_case("null") {
            return Self::Null;
        }
        if let Some(system) = system(text) {
            return Self::System(system);
        }
        match text.split_once(':') {
            Some((prefix, name)) if system(prefix).is_some() => Self::Device { system: system(prefix), name: name.to_owned() },
            _ => Self::Device { system: None, name: text.to_owned() },
        }
    }

    /// The sound systems to look in, in order.
    pub fn systems(&self) -> Vec<SoundSystem> {
        match self {
            Self::Any | Self::Device { system: None, .. } => SoundSystem::ALL.to_vec(),
            Self::System(system) | Self::Device { system: Some(system), .. } => vec![*system],
            Self::Null => Vec::new(),
        }
    }

    /// The device's name to look for; `None` means the default device.
    pub fn device_name(&self) -> Option<&str> {
        match self {
            Self::Device { name, .. } => Some(name),
            Self::Any | Self::System(_) | Self::Null => None,
        }
    }
}

/// What a driver library has to say, as the end of a sentence that begins with the sound system's name. One line.
pub fn in_words(error: &cpal::Error) -> String {
    match (error.kind(), error.message()) {
        (ErrorKind::HostUnavailable, _) => "is not running".into(),
        (ErrorKind::DeviceNotAvailable, None) => "has no such device".into(),
        _ => format!("says: {}", error.to_string().lines().next().unwrap_or_default()),
    }
}

/// Why an output cannot be used, as the end of a sentence that begins with the sound system's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The sound system is not running, or has no such device: it may come.
    #[error("{0}")]
    Absent(String),
    /// It is there but does not fit (its rate, its format, no clock): it seldom changes.
    #[error("{0}")]
    Unfit(String),
    /// It has not answered in time.
    #[error("does not answer")]
    Stuck,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_system_a_device_or_nothing() {
        assert_eq!(Target::parse("null"), Target::Null);
        assert_eq!(Target::parse("JACK"), Target::System(SoundSystem::Jack));
        assert_eq!(Target::parse("alsa:hw:0"), Target::Device { system: Some(SoundSystem::Alsa), name: "hw:0".into() });
        assert_eq!(Target::parse("hw:0"), Target::Device { system: None, name: "hw:0".into() });
        assert_eq!(Target::parse("Scarlett"), Target::Device { system: None, name: "Scarlett".into() });
    }

    #[test]
    fn systems_stand_in_their_own_place() {
        for (index, system) in SoundSystem::ALL.into_iter().enumerate() {
            assert_eq!(system.index(), index);
        }
    }
}
