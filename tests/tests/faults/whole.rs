//! Rows that end the whole session, and what the next one finds.

use rustix::process::Signal;
use tests::live::read_wav;
use tests::playing::send_signal;
use tests::soak::hearing;

use crate::{ends_well, start, survives};

#[test]
fn row_13_a_terminated_session_fades_out_and_leaves_a_whole_recording() {
    let ordeal = start();
    let mut gig = ordeal.gig;
    gig.play_on(24_000).unwrap();
    gig.playing.signal(Signal::TERM);
    assert_eq!(gig.playing.wait(), Some(0));
    gig.playing.wait_until_gone();
    gig.remains().unwrap();
    let parts: Vec<_> = gig.wavs().iter().map(|wav| read_wav(wav)).collect();
    let heard = hearing::compare(&parts, &gig.journals, 40);
    assert!(heard.blocks > 100);
    assert_eq!((heard.odd, heard.unexplained), (Vec::new(), Vec::new()));
}

#[test]
fn row_39_and_54_after_everything_is_killed_at_once_the_recording_is_readable_and_the_next_start_works() {
    let mut ordeal = start();
    for _ in 0..3 {
        let gig = &mut ordeal.gig;
        gig.play_on(48_000 + 24_000).unwrap();
        let old = gig.session().to_owned();
        gig.kill_everything();
        let parts: Vec<_> = gig.wavs().iter().map(|wav| read_wav(wav)).collect();
        let heard = hearing::compare(&parts, &gig.journals, 0);
        // A kill costs a recording a second at most.
        assert!(heard.blocks >= 24_000 / 128, "{} blocks were readable", heard.blocks);
        assert_eq!((heard.odd, heard.unexplained), (Vec::new(), Vec::new()));
        gig.start_again();
        let stale: Vec<_> = tests::remains::shared_memory_names().into_iter().filter(|name| name.contains(&old)).collect();
        assert!(stale.is_empty(), "the next start sweeps what was left: {stale:?}");
    }
    ends_well(ordeal);
}

#[test]
fn row_54_a_session_that_is_killed_while_it_starts_is_no_trouble_for_the_next() {
    let mut ordeal = start();
    let gig = &mut ordeal.gig;
    gig.kill_everything();
    for step in 0..4 {
        let playing = tests::playing::Playing::up(&gig.folder, &[tests::playing::text(&gig.folder.path().join("gig.toml"))], &[]);
        // Each a little later in its start.
        std::thread::sleep(std::time::Duration::from_millis(15 * step));
        playing.processes().iter().for_each(|process| send_signal(process.pid, Signal::KILL));
        drop(playing);
    }
    gig.start_again();
    ends_well(ordeal);
}

#[test]
fn row_46_a_killed_supervisor_is_followed_by_another_and_every_lane_plays_on() {
    survives(&[
        "supervisor: SIGKILL",
        "host: SIGKILL",
        "edit: structure",
        "supervisor: SIGKILL",
        "edit that fails",
        "device host: SIGKILL",
    ]);
}
