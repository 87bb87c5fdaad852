//! The device host through a real sound server: what cpal plays is captured by an independent client and compared sample by
//! sample; the server is stopped, killed and started again.

mod device_rig;
#[path = "device_rig/jack.rs"]
mod jack_rig;

use device_rig::{DeviceHost, TestFile, assert_is_ramp, frame_of};
use ipc::message::{DeviceReply, Output};
use jack_rig::{Capture, JackServer, in_own_process};
use rustix::process::Signal;

fn named_jack() -> Output {
    Output::Named("jack".into())
}

fn wait_for_opened(host: &DeviceHost, expected: &str) {
    let opened = host.wait_for("open output", |reply| match reply {
        DeviceReply::Opened { device, .. } => Some(device.clone()),
        _ => None,
    });
    assert!(opened.starts_with(expected), "{opened} has been opened");
}

/// Waits until sound has moved to this device, and returns the reason.
fn wait_for_move(host: &DeviceHost, to: &str) -> String {
    host.wait_for(&format!("move to {to}"), |reply| match reply {
        DeviceReply::Moved { device, reason } if device.starts_with(to) => Some(reason.clone()),
        _ => None,
    })
}

#[test]
fn the_device_host_loses_and_repeats_no_sample_on_its_way_to_jack() {
    in_own_process("the_device_host_loses_and_repeats_no_sample_on_its_way_to_jack", || {
        let _server = JackServer::start(48_000, 128);
        let file = TestFile::new("jack");
        let host = DeviceHost::start();
        host.open(Output::Default, Some(&file.0));
        wait_for_opened(&host, "jack");
        let mut capture = Capture::connect();
        let _ramp = host.add_ramp("a");
        host.wait_for("lane start", |reply| matches!(reply, DeviceReply::LaneStarted { .. }).then_some(()));
        host.wait_for_frames(96_000);
        let captured = capture.take();
        let (frames, underruns) = host.stop();
        let heard = assert_is_ramp(&captured, 0, underruns);
        assert!(heard > 48_000, "{heard} frames have been heard");
        let recorded = file.frames();
        assert_eq!(recorded.len() as u64, frames);
        let first = |frames: &[[f32; 2]]| frames.iter().position(|frame| *frame != [0.0; 2]).unwrap();
        let (captured, recorded) = (&captured[first(&captured)..], &recorded[first(&recorded)..]);
        let common = captured.len().min(recorded.len());
        assert!(captured[..common] == recorded[..common], "the recording is what the device was given");
    });
}

#[test]
fn a_session_outlives_the_death_of_jack_and_the_device_host_moves_back_to_it() {
    in_own_process("a_session_outlives_the_death_of_jack_and_the_device_host_moves_back_to_it", || {
        let server = JackServer::start(48_000, 256);
        let file = TestFile::new("jack-dies");
        let host = DeviceHost::start();
        host.open(named_jack(), Some(&file.0));
        wait_for_opened(&host, "jack");
        let mut capture = Capture::connect();
        let _ramp = host.add_ramp("a");
        host.wait_for_frames(24_000);
        server.crash();
        let reason = wait_for_move(&host, "null");
        assert!(reason.contains("jack") && reason.contains("is lost") && !reason.contains('\n'), "{reason}");
        let before = capture.take();
        capture.abandon();
        let last_before = frame_of(before.last().unwrap()[0]);
        host.wait_for_frames(72_000);

        let _server = JackServer::start(48_000, 256);
        wait_for_move(&host, "jack");
        let mut capture = Capture::connect();
        host.wait_for_frames(last_before + 96_000);
        let after = capture.take();
        let (frames, underruns) = host.stop();

        assert_is_ramp(&before, 0, underruns);
        let first_after = frame_of(after.iter().find(|frame| **frame != [0.0; 2]).unwrap()[0]);
        assert!(first_after > last_before, "time went back from {last_before} to {first_after}");
        assert_is_ramp(&after, first_after, underruns + 1);
        // The recording is the session as a whole: not one frame is missing in it, whoever played.
        let recorded = file.frames();
        assert_eq!(recorded.len() as u64, frames);
        assert_is_ramp(&recorded[..recorded.len() - 960 - 128], 0, underruns);
    });
}

#[test]
fn the_device_host_leaves_a_jack_that_hangs_and_comes_back_when_it_goes_on() {
    in_own_process("the_device_host_leaves_a_jack_that_hangs_and_comes_back_when_it_goes_on", || {
        let server = JackServer::start(48_000, 128);
        let host = DeviceHost::start();
        host.open(named_jack(), None);
        wait_for_opened(&host, "jack");
        let _ramp = host.add_ramp("a");
        host.wait_for_frames(12_000);
        server.signal(Signal::STOP);
        let reason = wait_for_move(&host, "null");
        assert!(reason.contains("has not asked for sound"), "{reason}");
        host.wait_for_frames(48_000);
        server.signal(Signal::CONT);
        wait_for_move(&host, "jack");
        host.stop();
    });
}

#[test]
fn the_device_host_does_not_use_a_jack_of_another_rate_and_names_both() {
    in_own_process("the_device_host_does_not_use_a_jack_of_another_rate_and_names_both", || {
        let _server = JackServer::start(44_100, 256);
        let host = DeviceHost::start();
        host.open(named_jack(), None);
        wait_for_opened(&host, "null");
        let reason = wait_for_move(&host, "null");
        assert!(reason.contains("jack: runs at 44100 Hz, the session at 48000 Hz"), "{reason}");
        host.stop();
    });
}
