//! The live line of `play` on a terminal: level, load, underruns. And the progress bar of `bounce`. Drawn on standard error;
//! where that is not a terminal nothing is drawn, and messages come out as plain lines.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc::message::{DeviceStatus, HostStatus};

/// Level below which nothing is shown, in decibels.
const FLOOR_DB: f32 = -60.0;
/// Cells of the level bar.
const BAR_CELLS: usize = 20;

/// One line at the bottom of a terminal; messages scroll above it.
pub struct LiveLine {
    bar: ProgressBar,
    is_drawn: bool,
}

impl LiveLine {
    /// A line of text.
    pub fn text() -> Self {
        let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self::with(ProgressBar::new_spinner().with_style(style))
    }

    /// A bar that fills up to `total_frames`.
    pub fn progress(total_frames: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        Self::with(ProgressBar::new(total_frames).with_style(style))
    }

    fn with(bar: ProgressBar) -> Self {
        let is_drawn = std::io::stderr().is_terminal();
        bar.set_draw_target(if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        Self { bar, is_drawn }
    }

    /// Says something above the line.
    pub fn say(&self, message: &str) {
        self.above(|| super::tell(message));
    }

    /// Does something that writes to standard error, above the line.
    pub fn above(&self, write: impl FnOnce()) {
        if self.is_drawn {
            self.bar.suspend(write);
        } else {
            write();
        }
    }

    /// Replaces the line's text.
    pub fn show(&self, text: String) {
        if self.is_drawn {
            self.bar.set_message(text);
        }
    }

    /// How far a bar has come.
    pub fn advance_to(&self, frames: u64) {
        self.bar.set_position(frames);
    }

    /// Removes the line.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// What the meter knows of a session.
#[derive(Default)]
pub struct Meter {
    device: DeviceStatus,
    /// Highest load since the meter was last drawn, in thousandths, by runtime.
    loads: BTreeMap<String, HostStatus>,
}

impl Meter {
    pub fn take_device(&mut self, status: &DeviceStatus) {
        self.device = status.clone();
    }

    pub fn take_host(&mut self, name: &str, status: &HostStatus) {
        self.loads.insert(name.to_owned(), status.clone());
    }

    /// Blocks that came too late, over all lanes.
    pub fn underruns(&self) -> u64 {
        self.device.lanes.iter().map(|lane| lane.underruns).sum()
    }

    /// Samples that were not finite, over the mixer and all programs.
    pub fn non_finite(&self) -> u64 {
        self.device.non_finite + self.loads.values().map(|status| status.non_finite).sum::<u64>()
    }

    /// Level of a runtime, if it makes sound.
    fn level(&self, name: &str) -> String {
        let lane = self.device.lanes.iter().find(|lane| lane.runtime == name);
        lane.map(|lane| format!(" {}", decibels(lane.peak[0].max(lane.peak[1])).trim_start())).unwrap_or_default()
    }

    /// The live line: time, level, load and level of each runtime, what went wrong.
    pub fn line(&self, sample_rate: u32) -> String {
        let level = self.device.peak[0].max(self.device.peak[1]);
        let loads = self.loads.iter().map(|(name, status)| {
            if status.is_held {
                format!("{name} held")
            } else {
                format!("{name} {}%{}", status.load_permille.div_ceil(10), self.level(name))
            }
        });
        let loads = loads.collect::<Vec<_>>().join("  ");
        let underruns = self.underruns();
        let xruns = if self.device.device_xruns == 0 { String::new() } else { format!("  device xruns {}", self.device.device_xruns) };
        let midi = self.device.midi;
        let lost = midi.received_dropped + midi.sent_late + midi.sent_dropped;
        let midi = if lost == 0 { String::new() } else { format!("  midi lost {lost}") };
        format!(
            "{}  {} {}  load {loads}  underruns {underruns}{xruns}{midi}",
            clock(self.device.frames, sample_rate),
            bar(level),
            decibels(level)
        )
    }
}

/// Session frames as minutes and seconds.
pub fn clock(frames: u64, sample_rate: u32) -> String {
    let time = Duration::from_secs(frames / u64::from(sample_rate.max(1)));
    format!("{:02}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

/// A peak in decibels below full scale.
fn to_decibels(peak: f32) -> f32 {
    20.0 * peak.log10()
}

/// A peak as people read it.
pub fn decibels(peak: f32) -> String {
    let level = to_decibels(peak);
    if level < FLOOR_DB || level.is_nan() { "  -inf dB".to_owned() } else { format!("{level:6.1} dB") }
}

fn bar(peak: f32) -> String {
    let filled = ((to_decibels(peak) - FLOOR_DB) / -FLOOR_DB * BAR_CELLS as f32).clamp(0.0, BAR_CELLS as f32);
    let filled = filled.round() as usize; // NaN becomes 0.
    format!("{}{}", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

#[cfg(test)]
mod tests {
    use ipc::message::LaneStatus;

    use super::*;

    #[test]
    fn the_line_shows_time_level_load_and_underruns() {
        let mut meter = Meter::default();
        let lane = LaneStatus { runtime: "drums".to_owned(), underruns: 2, peak: [0.25, 0.5], ..LaneStatus::default() };
        meter.take_device(&DeviceStatus { frames: 48_000 * 75, peak: [1.0, 0.5], lanes: vec![lane], ..DeviceStatus::default() });
        meter.take_host("drums", &HostStatus { load_permille: 123, ..HostStatus::default() });
        let line = meter.line(48_000);
        assert!(!line.contains("midi"), "{line}");
        for part in ["01:15", "0.0 dB", "drums 13% -6.0 dB", "underruns 2"] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
    }

    #[test]
    fn silence_and_nonsense_are_an_empty_bar() {
        for peak in [0.0, f32::NAN, -1.0, f32::INFINITY * 0.0] {
            assert_eq!(bar(peak), "░".repeat(BAR_CELLS));
            assert!(decibels(peak).contains("-inf"));
        }
        assert_eq!(bar(f32::INFINITY), "█".repeat(BAR_CELLS));
    }
}
