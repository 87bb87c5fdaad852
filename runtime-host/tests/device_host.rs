//! The device host through its own protocol, without a sound device: null device, unpaced output, recording, refusals.

mod device_rig;

use device_rig::{DeviceHost, RampHost, TestFile, assert_is_ramp, ramp, tape};
use ipc::message::{DeviceReply, DeviceRequest, OpenDevice, Output};
use ipc::segment::Session;

fn null() -> Output {
    Output::Named("null".into())
}

/// The longest fade-out in frames, and the block in which it ends.
const END_FRAMES: usize = 960 + 128;

#[test]
fn the_device_host_plays_a_lane_to_the_null_device_and_records_every_frame() {
    let file = TestFile::new("null");
    let host = DeviceHost::start();
    host.open(null(), Some(&file.0));
    let opened = host.wait_for("open output", |reply| match reply {
        DeviceReply::Opened { device, sample_rate: 48_000, period_frames: 128, .. } => Some(device.clone()),
        _ => None,
    });
    assert_eq!(opened, "null");
    let _ramp = host.add_ramp("a");
    let block = host.wait_for("lane start", |reply| match reply {
        DeviceReply::LaneStarted { runtime, block } if runtime == "a" => Some(*block),
        _ => None,
    });
    host.wait_for_frames(24_000);
    let (frames, underruns) = host.stop();
    let recorded = file.frames();
    assert_eq!(recorded.len() as u64, frames);
    assert_eq!(recorded.iter().position(|frame| *frame != [0.0; 2]), Some(block as usize * 128));
    assert_is_ramp(&recorded[..recorded.len() - END_FRAMES], 0, underruns);
    assert_eq!(recorded[recorded.len() - 64..], [[0.0; 2]; 64], "it has faded out");
}

#[test]
fn the_device_host_renders_exactly_so_many_frames_without_a_clock() {
    const FRAMES: u64 = 100_003;
    let file = TestFile::new("unpaced");
    let host = DeviceHost::start();
    host.open(Output::Unpaced { frames: FRAMES }, Some(&file.0));
    host.wait_for("open output", |reply| matches!(reply, DeviceReply::Opened { .. }).then_some(()));
    let _ramps = [host.add_ramp("a"), host.add_ramp("b"), host.add_ramp("c")];
    host.send(DeviceRequest::Begin);
    let frames = host.wait_for("end of rendering", |reply| match reply {
        DeviceReply::Stopped { frames } => Some(*frames),
        _ => None,
    });
    assert_eq!(frames, FRAMES);
    let expected: Vec<[f32; 2]> = (0..FRAMES)
        .map(|frame| {
            let [left, right] = ramp(frame);
            [left + left + left, right + right + right]
        })
        .collect();
    assert!(file.frames() == expected, "every sample is the sum of the lanes");
    assert_eq!(host.stop().0, FRAMES, "it can still be told to stop");
}

#[test]
fn the_device_host_ends_a_rendering_early_when_told_to_stop() {
    let file = TestFile::new("early");
    let host = DeviceHost::start();
    host.open(Output::Unpaced { frames: 400_000_000 }, Some(&file.0));
    let _ramp = host.add_ramp("a");
    host.send(DeviceRequest::Begin);
    host.wait_for_frames(10_000);
    let (frames, _) = host.stop();
    let recorded = file.frames();
    assert_eq!(recorded.len() as u64, frames);
    assert_eq!(assert_is_ramp(&recorded, 0, 0), frames);
}

#[test]
fn a_lane_whose_host_is_gone_does_not_hold_up_a_rendering_once_it_is_removed_from_the_device_host() {
    const FRAMES: u64 = 300_000;
    let file = TestFile::new("removed");
    let host = DeviceHost::start();
    host.open(Output::Unpaced { frames: FRAMES }, Some(&file.0));
    let _ramp = host.add_ramp("a");
    let mut dies = host.add_ramp("b");
    dies.stop();
    host.send(DeviceRequest::Begin);
    host.send(DeviceRequest::RemoveLane { runtime: "b".into() });
    host.wait_for("removed lane", |reply| matches!(reply, DeviceReply::LaneRemoved { runtime } if runtime == "b").then_some(()));
    host.wait_for("end of rendering", |reply| matches!(reply, DeviceReply::Stopped { frames: FRAMES }).then_some(()));
    let recorded = file.frames();
    assert_eq!(recorded.len() as u64, FRAMES);
    assert_eq!(recorded[FRAMES as usize - 1], ramp(FRAMES - 1));
}

#[test]
fn the_device_host_falls_back_to_the_null_device_with_one_clear_line() {
    let host = DeviceHost::start();
    host.open(Output::Named("alsa:there-is-no-such-device".into()), None);
    host.wait_for_opened("null");
    let reason = host.wait_for_move("null");
    assert!(reason.contains("alsa has no output named 'there-is-no-such-device'"), "{reason}");
    let _ramp = host.add_ramp("a");
    host.wait_for("lane start", |reply| matches!(reply, DeviceReply::LaneStarted { .. }).then_some(()));
    host.stop();
}

#[test]
fn the_device_host_hands_a_removed_lane_back_and_takes_a_new_one() {
    let host = DeviceHost::start();
    host.open(null(), None);
    let started = |reply: &DeviceReply| matches!(reply, DeviceReply::LaneStarted { .. }).then_some(());
    for _ in 0..3 {
        let _ramp = host.add_ramp("a");
        host.wait_for("lane start", started);
        host.send(DeviceRequest::RemoveLane { runtime: "a".into() });
        host.wait_for("removed lane", |reply| matches!(reply, DeviceReply::LaneRemoved { .. }).then_some(()));
    }
    host.send(DeviceRequest::RemoveLane { runtime: "never-added".into() });
    host.wait_for("answer", |reply| matches!(reply, DeviceReply::LaneRemoved { runtime } if runtime == "never-added").then_some(()));
    host.stop();
}

#[test]
fn the_device_host_refuses_what_cannot_be_with_a_reason() {
    let host = DeviceHost::start();
    let failed = |contains: &'static str| {
        move |reply: &DeviceReply| match reply {
            DeviceReply::Failed { reason } | DeviceReply::LaneRefused { reason, .. } => {
                assert!(reason.contains(contains), "{reason}");
                Some(())
            }
            _ => None,
        }
    };
    let open = |output, sample_rate, lead_blocks, recording: Option<&str>| {
        DeviceRequest::Open(OpenDevice {
            output,
            sample_rate,
            lead_blocks,
            first_frame: 0,
            channels: 2,
            tape: recording.map(|path| tape(path.as_ref())),
            starts_together: false,
        })
    };
    let session = Session::open().unwrap();
    let foreign = RampHost::start(&session);
    let lane = foreign.segment.reference().clone();

    host.send(DeviceRequest::AddLane { runtime: "a".into(), lane: lane.clone(), resumes: false, decides_input: true });
    host.wait_for("refusal", failed("no output is open"));
    host.send(open(null(), 1, 4, None));
    host.wait_for("refusal", failed("1 Hz"));
    host.send(open(null(), 48_000, 1_000, None));
    host.wait_for("refusal", failed("1000 blocks"));
    host.send(open(Output::Unpaced { frames: 1 }, 48_000, 4, None));
    host.wait_for("refusal", failed("needs a recording"));
    host.send(open(Output::Unpaced { frames: u64::MAX }, 48_000, 4, Some("never.wav")));
    host.wait_for("refusal", failed("WAV"));
    host.send(open(null(), 48_000, 4, Some("/nowhere/at/all.wav")));
    host.wait_for("refusal", failed("/nowhere/at/all.wav"));
    host.open(null(), None);
    host.wait_for("open output", |reply| matches!(reply, DeviceReply::Opened { .. }).then_some(()));
    host.send(open(null(), 48_000, 4, None));
    host.wait_for("refusal", failed("already open"));
    host.send(DeviceRequest::AddLane { runtime: "a".into(), lane, resumes: false, decides_input: true });
    host.wait_for("refusal", failed("another session"));
    let ramp = host.add_ramp("a");
    host.send(DeviceRequest::AddLane { runtime: "a".into(), lane: ramp.segment.reference().clone(), resumes: false, decides_input: true });
    host.wait_for("refusal", failed("already has a lane"));
    host.stop();
}

#[test]
fn the_device_host_lists_what_there_is_and_why_it_cannot_be_used() {
    let host = DeviceHost::start();
    host.send(DeviceRequest::List);
    let devices = host.wait_for("list", |reply| match reply {
        DeviceReply::Devices(devices) => Some(devices.clone()),
        _ => None,
    });
    for system in ["jack", "pulseaudio", "alsa", "null"] {
        assert!(devices.iter().any(|device| device.host == system), "{system} is missing in {devices:?}");
    }
    assert!(devices.iter().all(|device| !device.detail.is_empty() && !device.detail.contains('\n')));
    assert_eq!(devices.iter().filter(|device| device.is_default).count(), 1);
    assert!(devices.iter().all(|device| !device.is_default || device.is_usable));
    assert_eq!(host.stop().0, 0);
}

#[test]
fn the_device_host_fades_out_and_ends_when_its_supervisor_is_gone() {
    let file = TestFile::new("abandoned");
    let host = DeviceHost::start();
    host.open(null(), Some(&file.0));
    let _ramp = host.add_ramp("a");
    host.wait_for_frames(10_000);
    host.abandon();
    let recorded = file.frames();
    assert!(recorded.len() > 10_000);
    assert_eq!(recorded[recorded.len() - 64..], [[0.0; 2]; 64], "it has faded out, and the recording is complete");
}
