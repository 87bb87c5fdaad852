//! The device host when things die: the device host itself, its supervisor, and the disk under the recording.

mod device_rig;

use std::time::{Duration, Instant};

use device_rig::{DeviceHost, PATIENCE, RampHost, TestFile, assert_is_ramp, be_device_host_if_asked, ramp, tape};
use ipc::lane::LaneReader;
use ipc::message::{DeviceReply, DeviceRequest, OpenDevice, Output, Tape};
use ipc::segment::Session;

fn null() -> Output {
    Output::Named("null".into())
}

/// Frames after which a session that plays at 48 kHz has certainly faded out.
const END_FRAMES: usize = 960 + 128;

/// Opens the null device for a session that another device host has played so far.
fn go_on(host: &DeviceHost, first_frame: u64, recording: &TestFile) {
    let part = if first_frame == 0 { 1 } else { 2 };
    let tape = Some(Tape { part, ..tape(&recording.0) });
    let open = OpenDevice { output: null(), sample_rate: 48_000, lead_blocks: 24, first_frame, channels: 2, tape, starts_together: true };
    host.send(DeviceRequest::Open(open));
    host.wait_for_opened("null");
}

fn taken(host: &RampHost) -> u64 {
    LaneReader::open(host.segment.reference()).unwrap().taken()
}

/// Waits until so many more blocks of the lane have been given to a device.
fn wait_for_more_blocks(host: &RampHost, blocks: u64) {
    let end = taken(host) + blocks;
    let deadline = Instant::now() + PATIENCE;
    while taken(host) < end {
        assert!(Instant::now() < deadline, "nothing is played any more");
        std::thread::yield_now();
    }
}

fn part(file: &TestFile, number: u32) -> TestFile {
    TestFile(file.0.with_extension(format!("{number}.wav")))
}

#[test]
fn a_killed_device_host_is_followed_by_another_that_goes_on_with_the_first_block_it_had_not_played() {
    const TEST: &str = "a_killed_device_host_is_followed_by_another_that_goes_on_with_the_first_block_it_had_not_played";
    be_device_host_if_asked();
    let file = TestFile::new("killed");
    let parts = [part(&file, 2), part(&file, 3)];
    let host = DeviceHost::start_process(Session::open().unwrap(), TEST, None);
    go_on(&host, 0, &file);
    let lane = host.add_ramp("a");
    host.send(DeviceRequest::Begin);
    host.wait_for_start("a");
    host.wait_for_more_frames(96_000);
    let (mut session, mut frames, mut underruns) = host.kill();

    let readable = file.frames().len() as u64;
    assert!(readable + 48_000 >= frames, "{readable} of {frames} frames are readable after the kill: more than a second is lost");
    let (mut before, mut before_at) = (file.frames(), 0);
    for part in &parts {
        let first_block = taken(&lane);
        let host = DeviceHost::start_process(session, TEST, None);
        go_on(&host, frames, &file);
        host.add_lane("a", &lane, true);
        host.send(DeviceRequest::Begin);
        let block = host.wait_for_start("a");
        assert!(block * 128 >= frames, "the session's clock went back from {frames} to block {block}");
        host.wait_for_more_frames(48_000);
        let reported;
        let late;
        (session, reported, late) = host.kill();
        assert!(reported >= block * 128 + 48_000 - 128);
        frames = reported;

        let heard = part.frames();
        let start = heard.iter().position(|frame| *frame != [0.0; 2]).unwrap();
        let faded: Vec<[f32; 2]> =
            (0..64u64).map(|at| ramp(first_block * 128 + at).map(|sample| sample * ((at + 1) as f32 / 64.0))).collect();
        assert_eq!(heard[start..start + 64], faded, "the first block that no device was given, faded in");
        let (rest, rest_at) = (&heard[start + 128..], (first_block + 1) * 128);
        assert_is_ramp(rest, rest_at, late);
        let end = before_at + assert_is_ramp(&before, before_at, underruns);
        assert!(end <= first_block * 128, "frames up to {end} were recorded, and played again from block {first_block} on");
        (before_at, underruns) = (rest_at, late);
        before = heard[start + 128..].to_vec();
    }
}

#[test]
fn a_device_host_whose_disk_is_full_says_at_which_frame_and_the_sound_goes_on() {
    be_device_host_if_asked();
    let file = TestFile::new("full");
    let test = "a_device_host_whose_disk_is_full_says_at_which_frame_and_the_sound_goes_on";
    let host = DeviceHost::start_process(Session::open().unwrap(), test, Some(400_003));
    host.open(null(), Some(&file.0));
    let lane = host.add_ramp("a");
    let reason = host.wait_for("end of the recording", |reply| match reply {
        DeviceReply::RecordingFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    wait_for_more_blocks(&lane, 200);
    host.stop();
    let recorded = file.frames();
    assert!(reason.contains(&format!("has ended after {} frames", recorded.len())), "{} frames: {reason}", recorded.len());
    assert!(recorded.len() > 400_003 / 8 - 100, "{} frames", recorded.len());
    assert_is_ramp(&recorded, 0, 0);
}

#[test]
fn a_device_host_plays_on_without_a_supervisor_and_tells_the_next_one_what_is_open() {
    let file = TestFile::new("orphan");
    let mut host = DeviceHost::start_with_grace(Duration::from_secs(3_600));
    host.open(null(), Some(&file.0));
    let lane = host.add_ramp("a");
    host.add_lane("never-begins", &RampHost::silent(&host.session), false);
    let block = host.wait_for_start("a");
    for _ in 0..3 {
        host.lose_supervisor();
        wait_for_more_blocks(&lane, 100);
        host.gain_supervisor();
        host.wait_for_opened("null");
        let mapped = |reply: &DeviceReply| match reply {
            DeviceReply::LaneMapped { runtime } => Some(runtime.clone()),
            _ => None,
        };
        assert_eq!(host.wait_for("lane", mapped), "a");
        assert_eq!(host.wait_for_start("a"), block);
        assert_eq!(host.wait_for("lane", mapped), "never-begins");
        host.wait_for_more_frames(1_000);
    }
    let (frames, underruns) = host.stop();
    let recorded = file.frames();
    assert_eq!(recorded.len() as u64, frames);
    assert_is_ramp(&recorded[..recorded.len() - END_FRAMES], 0, underruns);
}

#[test]
fn a_device_host_without_a_supervisor_fades_out_and_ends_when_the_grace_period_is_over() {
    let file = TestFile::new("grace-over");
    let host = DeviceHost::start_with_grace(Duration::from_millis(300));
    host.open(null(), Some(&file.0));
    let mut lane = host.add_ramp("a");
    host.wait_for_start("a");
    host.abandon();
    let recorded = file.frames();
    assert_eq!(recorded[recorded.len() - 64..], [[0.0; 2]; 64], "it has faded out, and the recording is complete");
    assert!(lane.stop() * 128 > 300 * 48 / 2, "it has played on");
}

#[test]
fn a_device_host_with_nothing_open_ends_at_once_when_its_supervisor_is_gone() {
    DeviceHost::start_with_grace(Duration::from_secs(3_600)).abandon();
}

#[test]
fn a_rendering_without_a_clock_is_not_resumed() {
    let host = DeviceHost::start();
    host.send(DeviceRequest::Open(OpenDevice {
        output: Output::Unpaced { frames: 1_000 },
        sample_rate: 48_000,
        lead_blocks: 4,
        first_frame: 128,
        channels: 2,
        tape: Some(tape("never.wav".as_ref())),
        starts_together: true,
    }));
    let reason = host.wait_for("refusal", |reply| match reply {
        DeviceReply::Failed { reason } => Some(reason.clone()),
        _ => None,
    });
    assert!(reason.contains("cannot be resumed"), "{reason}");
    host.stop();
}
