//! Choosing how to talk to a device: its sample format, channels and period; and the way from the mixer's frames to them.

use cpal::{BufferSize, SampleFormat, StreamConfig, SupportedBufferSize, SupportedStreamConfigRange};
use ipc::limits::MAX_PERIOD_FRAMES;

use super::Refusal;
use super::follow::Wanted;
use crate::device::routing::DeviceFrame;

/// A stream's format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Format {
    pub config: StreamConfig,
    pub sample: SampleFormat,
}

/// Formats in the order of preference: what needs no conversion first, then the finest.
const SAMPLE_FORMATS: [SampleFormat; 5] = [SampleFormat::F32, SampleFormat::I32, SampleFormat::I24, SampleFormat::I16, SampleFormat::U8];

/// Chooses the best format that runs at the session's rate. `default_rate_hz` is what the device runs at by itself, for
/// the message when there is none.
pub fn choose(
    ranges: &[SupportedStreamConfigRange],
    default_rate_hz: Option<u32>,
    wanted: Wanted,
    preferred_period_frames: u32,
) -> Result<Format, Refusal> {
    let Wanted { sample_rate_hz: rate_hz, channels: wanted_channels } = wanted;
    let at_rate = |range: &&SupportedStreamConfigRange| (range.min_sample_rate()..=range.max_sample_rate()).contains(&rate_hz);
    if !ranges.iter().any(|range| at_rate(&range)) {
        let theirs = default_rate_hz.or_else(|| ranges.first().map(SupportedStreamConfigRange::max_sample_rate));
        return Err(match theirs {
            Some(theirs) => Refusal::Unfit(format!("runs at {theirs} Hz, the session at {rate_hz} Hz")),
            None => Refusal::Absent("has no output".into()),
        });
    }
    let rank = |range: &SupportedStreamConfigRange| {
        let format = SAMPLE_FORMATS.iter().position(|format| *format == range.sample_format())?;
        // As many channels as are wanted; else the fewest above; else the most below.
        let channels = range.channels();
        Some((if channels >= wanted_channels { channels - wanted_channels } else { u16::MAX - channels }, format))
    };
    let best = ranges.iter().filter(at_rate).filter_map(|range| Some((rank(range)?, range))).min_by_key(|(rank, _)| *rank);
    let Some((_, range)) = best else { return Err(Refusal::Unfit("has no sample format that we can write".into())) };
    let period = period_frames(range.buffer_size(), preferred_period_frames)?;
    let config = StreamConfig { channels: range.channels(), sample_rate: rate_hz, buffer_size: BufferSize::Fixed(period) };
    Ok(Format { config, sample: range.sample_format() })
}

/// The preferred period where the device allows it, else the nearest. Always a fixed one: what drivers choose by default
/// may be seconds long.
fn period_frames(supported: &SupportedBufferSize, preferred: u32) -> Result<u32, Refusal> {
    match *supported {
        SupportedBufferSize::Range { min, .. } if min as usize > MAX_PERIOD_FRAMES => Err(too_long(min)),
        SupportedBufferSize::Range { min, max } => Ok(preferred.clamp(min, max.max(min))),
        SupportedBufferSize::Unknown => Ok(preferred),
    }
}

/// The refusal of a device that takes more at once than a lane's ring can hold.
pub fn too_long(period_frames: u32) -> Refusal {
    Refusal::Unfit(format!("takes {period_frames} frames at once, more than {MAX_PERIOD_FRAMES}"))
}

/// The sample of channel `channel` of `channels`; a mono device gets the middle of the first two. Channels beyond those that
/// can be played to are silent.
pub fn sample_rt(frame: &DeviceFrame, channel: usize, channels: usize) -> f32 {
    match channels {
        1 => (frame[0] + frame[1]) * 0.5,
        _ => frame.get(channel).copied().unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(channels: u16) -> Wanted {
        Wanted { sample_rate_hz: 48_000, channels }
    }

    fn range(channels: u16, rates: (u32, u32), periods: (u32, u32), format: SampleFormat) -> SupportedStreamConfigRange {
        let periods = SupportedBufferSize::Range { min: periods.0, max: periods.1 };
        SupportedStreamConfigRange::new(channels, rates.0, rates.1, periods, format)
    }

    #[test]
    fn a_device_at_another_rate_is_refused_with_both_rates() {
        let jack = range(2, (44_100, 44_100), (256, 256), SampleFormat::F32);
        let refusal = choose(&[jack], Some(44_100), wanted(2), 128).unwrap_err();
        assert_eq!(refusal, Refusal::Unfit("runs at 44100 Hz, the session at 48000 Hz".into()));
    }

    #[test]
    fn the_servers_own_period_is_used() {
        let jack = range(2, (48_000, 48_000), (256, 256), SampleFormat::F32);
        assert_eq!(choose(&[jack], None, wanted(2), 128).unwrap().config.buffer_size, BufferSize::Fixed(256));
    }

    #[test]
    fn two_channels_of_floats_are_preferred_and_what_else_there_is_is_used() {
        let rates = (8_000, 192_000);
        let ranges = [
            range(1, rates, (16, 8_192), SampleFormat::F32),
            range(8, rates, (16, 8_192), SampleFormat::F32),
            range(2, rates, (16, 8_192), SampleFormat::I16),
            range(2, rates, (16, 8_192), SampleFormat::F32),
        ];
        let chosen = |ranges: &[_]| choose(ranges, None, wanted(2), 512).map(|f| (f.config.channels, f.sample)).unwrap();
        assert_eq!(chosen(&ranges), (2, SampleFormat::F32));
        assert_eq!(chosen(&ranges[..3]), (2, SampleFormat::I16));
        assert_eq!(chosen(&ranges[..2]), (8, SampleFormat::F32));
        assert_eq!(chosen(&ranges[..1]), (1, SampleFormat::F32));
    }

    #[test]
    fn a_period_that_no_lane_can_feed_is_refused() {
        let slow = range(2, (48_000, 48_000), (8_192, 65_536), SampleFormat::F32);
        assert!(matches!(choose(&[slow], None, wanted(2), 512), Err(Refusal::Unfit(reason)) if reason.contains("8192")));
    }

    #[test]
    fn as_many_channels_are_opened_as_are_wanted_or_what_comes_next() {
        let ranges = [1, 2, 6, 8].map(|channels| range(channels, (8_000, 192_000), (16, 8_192), SampleFormat::F32));
        let chosen = |ranges: &[_], channels| choose(ranges, None, wanted(channels), 512).unwrap().config.channels;
        assert_eq!([2, 4, 6, 16].map(|channels| chosen(&ranges, channels)), [2, 6, 6, 8]);
        assert_eq!(chosen(&ranges[..1], 4), 1);
    }

    #[test]
    fn a_frame_goes_to_its_channels_or_to_the_middle() {
        let mut frame = [0.0; ipc::limits::MAX_DEVICE_CHANNELS];
        (frame[0], frame[1], frame[3]) = (0.5, -0.25, 0.125);
        let at = |channel, channels| sample_rt(&frame, channel, channels);
        assert_eq!([at(0, 4), at(1, 4), at(2, 4), at(3, 4), at(40, 64), at(0, 1)], [0.5, -0.25, 0.0, 0.125, 0.0, 0.125]);
    }
}
