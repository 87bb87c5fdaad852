//! The device host through a real sound server: what cpal plays is captured by an independent client and compared sample by
//! sample; the server is stopped, killed and started again.

mod device_rig;
#[path = "device_rig/jack.rs"]
mod jack_rig;

use device_rig::{DeviceHost, PATIENCE, TestFile, assert_is_ramp, be_device_host_if_asked, frame_of};
use ipc::lane::LaneReader;
use ipc::message::{Bus, Buses, DeviceReply, DeviceRequest, OpenDevice, Output};
use ipc::midi::Ports;
use ipc::segment::Session;
use ipc::tempo::Tempo;
use jack_rig::{Capture, JackServer, with_own_jack};
use rustix::process::Signal;

/// Frames in which a device that takes over from another one fades in. The capture may have been connected by then.
const FADE_IN_FRAMES: usize = 960;

fn named_jack() -> Output {
    Output::Named("jack".into())
}

#[test]
fn the_device_host_loses_and_repeats_no_sample_on_its_way_to_jack() {
    with_own_jack("the_device_host_loses_and_repeats_no_sample_on_its_way_to_jack", &[], || {
        let _server = JackServer::start(48_000, 128);
        let file = TestFile::new("jack");
        let host = DeviceHost::start();
        host.open(Output::Default, Some(&file.0));
        host.wait_for_opened("jack");
        let mut capture = Capture::connect();
        let _ramp = host.add_ramp("a");
        host.wait_for("lane start", |reply| matches!(reply, DeviceReply::LaneStarted { .. }).then_some(()));
        host.wait_for_more_frames(96_000);
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
    with_own_jack("a_session_outlives_the_death_of_jack_and_the_device_host_moves_back_to_it", &[], || {
        let server = JackServer::start(48_000, 256);
        let file = TestFile::new("jack-dies");
        let host = DeviceHost::start();
        host.open(named_jack(), Some(&file.0));
        host.wait_for_opened("jack");
        let mut capture = Capture::connect();
        let _ramp = host.add_ramp("a");
        host.wait_for("lane start", |reply| matches!(reply, DeviceReply::LaneStarted { .. }).then_some(()));
        host.wait_for_more_frames(24_000);
        server.crash();
        let reason = host.wait_for_move("null");
        assert!(reason.contains("jack") && reason.contains("is lost"), "{reason}");
        let before = capture.take();
        capture.abandon();
        let last_heard = before.iter().rfind(|frame| **frame != [0.0; 2]);
        let last_before = frame_of(last_heard.unwrap_or_else(|| panic!("nothing of {} frames heard: {reason}", before.len()))[0]);
        host.wait_for_more_frames(24_000);

        let _server = JackServer::start(48_000, 256);
        host.wait_for_move("jack");
        let mut capture = Capture::connect();
        host.wait_for_more_frames(48_000);
        let after = capture.take();
        let (frames, underruns) = host.stop();

        assert_is_ramp(&before, 0, underruns);
        // The capture's two ports were connected one after the other.
        let both = after.iter().position(|[left, right]| *left != 0.0 && *right != 0.0).unwrap() + FADE_IN_FRAMES;
        let first_after = frame_of(after[both][0]);
        assert!(first_after > last_before, "time went back from {last_before} to {first_after}");
        assert_is_ramp(&after[both..], first_after, underruns);
        // The recording is the session as a whole: not one frame is missing in it, whoever played.
        let recorded = file.frames();
        assert_eq!(recorded.len() as u64, frames);
        assert_is_ramp(&recorded[..recorded.len() - 960 - 128], 0, underruns);
    });
}

#[test]
fn a_jack_server_hears_every_block_once_although_the_device_host_is_killed() {
    const TEST: &str = "a_jack_server_hears_every_block_once_although_the_device_host_is_killed";
    be_device_host_if_asked();
    with_own_jack(TEST, &[], || {
        let _server = JackServer::start_with_patience(48_000, 128, 200);
        let open = |host: &DeviceHost, first_frame| {
            let tape = None;
            let (sample_rate, lead_blocks, starts_together) = (48_000, 24, true);
            host.send(DeviceRequest::Open(OpenDevice {
                output: named_jack(),
                sample_rate,
                lead_blocks,
                first_frame,
                channels: 2,
                tape,
                starts_together,
            }));
            host.wait_for_opened("jack");
            Capture::connect()
        };
        let host = DeviceHost::start_process(Session::open().unwrap(), TEST, None);
        let mut capture = open(&host, 0);
        let lane = host.add_ramp("a");
        host.send(DeviceRequest::Begin);
        host.wait_for_start("a");
        host.wait_for_more_frames(48_000);
        let (session, frames, underruns) = host.kill();
        let taken = LaneReader::open(lane.segment.reference()).unwrap().taken();
        let mut before = capture.take();
        capture.abandon();
        before.truncate(before.iter().rposition(|frame| *frame != [0.0; 2]).unwrap() + 1);
        let heard = assert_is_ramp(&before, 0, underruns);
        // What is given to the server in the moment of the kill may not get there.
        assert!(heard == taken * 128 || heard + 128 == taken * 128, "{heard} frames were heard of {taken} blocks");

        let host = DeviceHost::start_process(session, TEST, None);
        let mut capture = open(&host, frames);
        host.add_lane("a", &lane, true);
        host.send(DeviceRequest::Begin);
        host.wait_for_start("a");
        host.wait_for_more_frames(48_000);
        let after = capture.take();
        let (_, underruns) = host.stop();
        let start = after.iter().position(|frame| *frame != [0.0; 2]).unwrap();
        // The first block is faded in; from its second half on it is exact.
        assert_eq!(frame_of(after[start + 64][0]), taken * 128 + 64);
        assert_is_ramp(&after[start + 128..], (taken + 1) * 128, underruns);
    });
}

#[test]
fn the_device_host_leaves_a_jack_that_hangs_and_comes_back_when_it_goes_on() {
    with_own_jack("the_device_host_leaves_a_jack_that_hangs_and_comes_back_when_it_goes_on", &[], || {
        let server = JackServer::start(48_000, 128);
        let host = DeviceHost::start();
        host.open(named_jack(), None);
        host.wait_for_opened("jack");
        let _ramp = host.add_ramp("a");
        host.wait_for_frames(12_000);
        server.signal(Signal::STOP);
        let reason = host.wait_for_move("null");
        assert!(reason.contains("has not asked for sound"), "{reason}");
        host.wait_for_frames(48_000);
        server.signal(Signal::CONT);
        host.wait_for_move("jack");
        host.stop();
    });
}

#[test]
fn the_device_host_does_not_use_a_jack_of_another_rate_and_names_both() {
    with_own_jack("the_device_host_does_not_use_a_jack_of_another_rate_and_names_both", &[], || {
        let _server = JackServer::start(44_100, 256);
        let host = DeviceHost::start();
        host.open(named_jack(), None);
        host.wait_for_opened("null");
        let reason = host.wait_for_move("null");
        assert!(reason.contains("jack runs at 44100 Hz, the session at 48000 Hz"), "{reason}");
        host.stop();
    });
}

#[test]
fn the_end_of_a_device_host_leaves_no_client_at_the_server() {
    with_own_jack("the_end_of_a_device_host_leaves_no_client_at_the_server", &[], || {
        let _server = JackServer::start(48_000, 256);
        let (witness, _) = jack::Client::new("witness", jack::ClientOptions::NO_START_SERVER).unwrap();
        let theirs = || witness.ports(Some("^(cpal|continuo)"), None, jack::PortFlags::empty());
        for _ in 0..4 {
            let host = DeviceHost::start();
            host.open(named_jack(), None);
            host.wait_for_opened("jack");
            // Notes come in, clocks go out, and somebody listens to the device: four clients in all.
            host.send(DeviceRequest::Listen { ports: Ports::default(), files_from: None });
            host.send(DeviceRequest::Tempo(Tempo::default()));
            let _ramp = host.add_ramp("a");
            let list = vec![Bus { from: None, to: "a".into() }];
            host.send(DeviceRequest::Connect(Buses { list, unheard: Vec::new() }));
            let deadline = std::time::Instant::now() + PATIENCE;
            for client in ["_out:", "_in:", "continuo-midi:", "continuo-midi-in:"] {
                while !theirs().iter().any(|port| port.contains(client)) {
                    assert!(std::time::Instant::now() < deadline, "no {client} among {:?}", theirs());
                    std::thread::yield_now();
                }
            }
            host.stop();
            assert_eq!(theirs(), [""; 0]);
        }
    });
}
