//! Where a lane's two channels go among the device's: the bus that all lanes are added to, and the way of one lane onto it.
//!
//! Used by the real-time threads; holds nothing but numbers. A lane that changes its channels fades from the old to the new ones
//! within one block, so that it does not click. What goes straight to channels 1 and 2 is added as it is, bit by bit.

use ipc::lane::{Block, SILENCE};
use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS, MAX_DEVICE_CHANNELS};
use ipc::message::Route;

/// One frame of the device: a sample for each of its channels.
pub type DeviceFrame = [f32; MAX_DEVICE_CHANNELS];

/// Bits of a route that stand for a channel.
const ALL_CHANNELS: u32 = (1 << MAX_DEVICE_CHANNELS as u32) - 1;

/// Where one lane goes, perhaps on its way to somewhere else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    now: Route,
    next: Option<Route>,
}

impl Routing {
    pub const STRAIGHT: Self = Self { now: Route::STRAIGHT, next: None };

    /// Goes to other channels with the next block; `is_heard`: fading.
    pub fn go_to_rt(&mut self, route: Route, is_heard: bool) {
        let route = Route { left: route.left & ALL_CHANNELS, right: route.right & ALL_CHANNELS, ..route };
        match is_heard {
            true => self.next = Some(route).filter(|route| *route != self.now),
            false => *self = Self { now: route, next: None },
        }
    }

    /// Adds a block to the bus, and returns what of it is on the pair of channels that it goes to: its stem.
    pub fn add_rt(&mut self, block: &Block, bus: &mut Bus) -> Block {
        let Some(next) = self.next.take() else {
            bus.add_rt(block, self.now, |_| 1.0);
            return stem_of_rt(block, self.now);
        };
        let rise = |frame: usize| (frame + 1) as f32 / BLOCK_FRAMES as f32;
        bus.add_rt(block, self.now, |frame| 1.0 - rise(frame));
        bus.add_rt(block, next, rise);
        let (old, mut stem) = (stem_of_rt(block, self.now), stem_of_rt(block, next));
        for (samples, old) in stem.iter_mut().zip(&old) {
            for (frame, (sample, old)) in samples.iter_mut().zip(old).enumerate() {
                *sample = old * (1.0 - rise(frame)) + *sample * rise(frame);
            }
        }
        self.now = next;
        stem
    }
}

/// The block of all channels that is being mixed.
pub struct Bus {
    samples: [[f32; BLOCK_FRAMES]; MAX_DEVICE_CHANNELS],
    /// Channels that something goes to, the first two at least. The others are silent.
    width: usize,
}

impl Bus {
    pub const SILENT: Self = Self { samples: [[0.0; BLOCK_FRAMES]; MAX_DEVICE_CHANNELS], width: LANE_CHANNELS };

    /// Begins anew.
    pub fn clear_rt(&mut self) {
        self.samples[..self.width].fill([0.0; BLOCK_FRAMES]);
        self.width = LANE_CHANNELS;
    }

    fn add_rt(&mut self, block: &Block, route: Route, level: impl Fn(usize) -> f32) {
        for (samples, channels) in block.iter().zip([route.left, route.right]) {
            for channel in channels_of_rt(channels) {
                self.width = self.width.max(channel + 1);
                let sums = self.samples[channel].iter_mut().zip(samples).enumerate();
                // A factor of exactly 1 leaves every bit alone.
                sums.for_each(|(frame, (sum, sample))| *sum += sample * (route.gain * level(frame)));
            }
        }
    }

    /// The channels that something goes to.
    pub fn channels_rt(&mut self) -> impl Iterator<Item = &mut [f32; BLOCK_FRAMES]> {
        self.samples[..self.width].iter_mut()
    }

    /// The main pair: channels 1 and 2.
    pub fn main_rt(&self) -> Block {
        [self.samples[0], self.samples[1]]
    }

    /// One frame of all channels.
    pub fn frame_rt(&self, frame: usize) -> DeviceFrame {
        let mut out = [0.0; MAX_DEVICE_CHANNELS];
        for (sample, channel) in out.iter_mut().zip(&self.samples[..self.width]) {
            *sample = channel[frame];
        }
        out
    }
}

fn channels_of_rt(bits: u32) -> impl Iterator<Item = usize> {
    (0..MAX_DEVICE_CHANNELS).filter(move |channel| bits & (1 << channel) != 0)
}

/// What of a block is on the pair of channels that its route goes to: 1 and 2, 3 and 4, …; where it goes to two channels of
/// different pairs, on the lower of them and on the other one.
fn stem_of_rt(block: &Block, route: Route) -> Block {
    if route == Route::STRAIGHT {
        return *block;
    }
    let bits = route.left | route.right;
    let low = bits.trailing_zeros().min(MAX_DEVICE_CHANNELS as u32 - 1);
    let pair = low & !1;
    let is_one_pair = bits >> pair <= 0b11;
    let first = if is_one_pair { pair } else { low };
    let second = if is_one_pair { pair + 1 } else { (bits & !(1 << low)).trailing_zeros().min(31) };
    let mut stem = SILENCE;
    for (samples, channels) in block.iter().zip([route.left, route.right]) {
        for (sums, channel) in stem.iter_mut().zip([first, second]) {
            if channels & (1 << channel) != 0 {
                sums.iter_mut().zip(samples).for_each(|(sum, sample)| *sum += sample * route.gain);
            }
        }
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Block = [[0.5; BLOCK_FRAMES], [-0.25; BLOCK_FRAMES]];

    /// What channels have after a block of 0.5 and -0.25 went there, and the stem.
    fn routed(route: Route) -> ([f32; 4], [f32; 2]) {
        let (mut bus, mut routing) = (Bus::SILENT, Routing::STRAIGHT);
        routing.go_to_rt(route, false);
        let stem = routing.add_rt(&BLOCK, &mut bus);
        let frame = bus.frame_rt(77);
        ([frame[0], frame[1], frame[2], frame[3]], [stem[0][77], stem[1][77]])
    }

    #[test]
    fn both_channels_go_where_the_route_says_and_the_stem_is_what_is_on_their_pair() {
        let to = |left, right, gain| routed(Route { left, right, gain });
        assert_eq!(to(0b0001, 0b0010, 1.0), ([0.5, -0.25, 0.0, 0.0], [0.5, -0.25]));
        assert_eq!(to(0b0100, 0b1000, 1.0), ([0.0, 0.0, 0.5, -0.25], [0.5, -0.25]));
        assert_eq!(to(0b0011, 0, 1.0), ([0.5, 0.5, 0.0, 0.0], [0.5, 0.5]), "one channel on both");
        assert_eq!(to(0b1000, 0b1000, 0.5), ([0.0, 0.0, 0.0, 0.125], [0.0, 0.125]), "both on one");
        assert_eq!(to(0b0010, 0b0100, 1.0), ([0.0, 0.5, -0.25, 0.0], [0.5, -0.25]), "across two pairs");
        assert_eq!(to(0, 0, 1.0), ([0.0; 4], [0.0; 2]), "nowhere");
        assert_eq!(to(u32::MAX, 0, 1.0).0, [0.5; 4], "channels that there cannot be are passed over");
    }

    #[test]
    fn a_change_fades_within_one_block() {
        let (mut bus, mut routing) = (Bus::SILENT, Routing::STRAIGHT);
        routing.go_to_rt(Route { left: 4, right: 8, gain: 1.0 }, true);
        let stem = routing.add_rt(&BLOCK, &mut bus);
        assert!(stem[0].iter().all(|sample| (sample - 0.5).abs() < 1e-6));
        let steps = |channel: usize| (1..BLOCK_FRAMES).map(move |frame| (frame, channel));
        for (frame, channel) in steps(0).chain(steps(2)) {
            let step = bus.frame_rt(frame)[channel] - bus.frame_rt(frame - 1)[channel];
            assert!(step.abs() < 0.005, "no step is a click");
        }
        assert_eq!(bus.frame_rt(BLOCK_FRAMES - 1)[..3], [0.0, 0.0, 0.5]);
        bus.clear_rt();
        routing.add_rt(&BLOCK, &mut bus);
        assert_eq!(bus.frame_rt(0)[..4], [0.0, 0.0, 0.5, -0.25]);
    }

    #[test]
    fn what_goes_straight_is_added_bit_by_bit() {
        let mut block = SILENCE;
        block[0][3] = f32::from_bits(1);
        block[1][4] = 1.0 / 3.0;
        let mut bus = Bus::SILENT;
        Routing::STRAIGHT.clone().add_rt(&block, &mut bus);
        assert_eq!(bus.main_rt(), block);
    }
}
