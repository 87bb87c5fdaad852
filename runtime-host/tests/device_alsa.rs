//! The device host through ALSA without a sound card: its unclocked `null` device, and its way to JACK.

mod device_rig;
#[path = "device_rig/jack.rs"]
mod jack_rig;

use std::path::Path;

use device_rig::{AlsaHome, DeviceHost, TestFile, assert_is_ramp, in_own_process};
use ipc::message::{DeviceReply, Output};
use jack_rig::{JackServer, with_own_jack};

fn alsa() -> Output {
    Output::Named("alsa".into())
}

#[test]
fn the_device_host_refuses_an_alsa_device_without_a_clock() {
    let home = AlsaHome::new("pcm.!default { type null }");
    in_own_process("the_device_host_refuses_an_alsa_device_without_a_clock", &[("HOME", home.path())], || {
        let file = TestFile::new("unclocked");
        let host = DeviceHost::start();
        host.open(alsa(), Some(&file.0));
        host.wait_for_opened("null");
        let reason = host.wait_for_move("null");
        assert!(reason.contains("alsa has no clock"), "{reason}");
        let _ramp = host.add_ramp("a");
        let block = host.wait_for("lane start", |reply| match reply {
            DeviceReply::LaneStarted { block, .. } => Some(*block),
            _ => None,
        });
        // Given the session, the device would have swallowed some 100,000 blocks of it before it was found out.
        assert!(block < 10_000, "the lane began at block {block}");
        let (frames, _) = host.stop();
        let recorded = file.frames();
        assert_eq!(recorded.len() as u64, frames);
        assert_eq!(recorded.iter().position(|frame| *frame != [0.0; 2]), Some(block as usize * 128));
    });
}

#[test]
fn the_device_host_plays_through_alsa_and_notices_when_it_falls_silent() {
    const PLUGINS: [&str; 2] = [
        "/usr/lib/x86_64-linux-gnu/alsa-lib/libasound_module_pcm_jack.so",
        "/usr/lib/aarch64-linux-gnu/alsa-lib/libasound_module_pcm_jack.so",
    ];
    if !PLUGINS.iter().any(|plugin| Path::new(plugin).exists()) {
        eprintln!("\n*** SKIPPED: ALSA has no JACK plugin; install libasound2-plugins to run this test ***\n");
        return;
    }
    let home = AlsaHome::new("pcm.!default { type jack name \"alsa-test\" playback_ports { 0 system:playback_1 1 system:playback_2 } }");
    with_own_jack("the_device_host_plays_through_alsa_and_notices_when_it_falls_silent", &[("HOME", home.path())], || {
        let server = JackServer::start(48_000, 128);
        let file = TestFile::new("alsa");
        let host = DeviceHost::start();
        host.open(alsa(), Some(&file.0));
        host.wait_for_opened("alsa");
        let _ramp = host.add_ramp("a");
        host.wait_for_frames(24_000);
        server.crash();
        let reason = host.wait_for_move("null");
        assert!(reason.contains("is lost"), "{reason}");
        host.wait_for_more_frames(24_000);
        let _server = JackServer::start(48_000, 128);
        host.wait_for_move("alsa");
        host.wait_for_more_frames(24_000);
        let (frames, underruns) = host.stop();
        let recorded = file.frames();
        assert_eq!(recorded.len() as u64, frames);
        assert_is_ramp(&recorded[..recorded.len() - 960 - 128], 0, underruns);
    });
}
