//! Binary assets.

use ipc::message::{ElementValues, HostReply};

use crate::fixture::{Assist, Folder};
use crate::harness::Host;

fn dump_clip(assist: &Assist, folder: &Folder) -> ElementValues {
    let mut host = Host::start();
    host.run(&assist.artifact(), |job| {
        job.cycles = 0;
        job.dumps = vec!["clip".to_owned(), "left[0]".to_owned()];
        job.assets_from = Some(folder.0.clone());
    });
    host.wait_for(|reply| match reply {
        HostReply::RunDone { dumps } => Some(dumps[0].values.clone()),
        HostReply::Refused { reason, .. } => panic!("refused: {}", reason.message),
        _ => None,
    })
}

fn assist(url: &str) -> Assist {
    Assist::default().with_config("bin.kick.url", url, 7).with_config("bin.kick.memory", "clip", 8)
}

#[test]
fn a_file_is_copied_into_its_item_up_to_the_items_length() {
    let folder = Folder::new("asset-long");
    let bytes: Vec<u8> = (1..=10i32).flat_map(i32::to_le_bytes).collect();
    std::fs::write(folder.0.join("kick.raw"), bytes).unwrap();
    assert_eq!(dump_clip(&assist("kick.raw"), &folder), ElementValues::Int(vec![1, 2, 3, 4]));
    let url = format!("file://{}", folder.0.join("kick.raw").display());
    assert_eq!(dump_clip(&assist(&url), &folder), ElementValues::Int(vec![1, 2, 3, 4]));
}

#[test]
fn a_short_file_leaves_the_rest_as_it_was() {
    let folder = Folder::new("asset-short");
    std::fs::write(folder.0.join("kick.raw"), [9, 0, 0, 0, 7]).unwrap();
    let assist = Assist { defaults: vec![(68, -1), (72, 5)], ..assist("kick.raw") };
    assert_eq!(dump_clip(&assist, &folder), ElementValues::Int(vec![9, -249, 5, 0]));
}

#[test]
fn one_asset_may_fill_several_items() {
    let folder = Folder::new("asset-several");
    std::fs::write(folder.0.join("kick.raw"), [1; 8]).unwrap();
    let assist = Assist::default().with_config("bin.kick.url", "kick.raw", 7).with_config("bin.kick.memories.0", "clip", 8).with_config(
        "bin.kick.memories.1",
        "assist:bytes",
        9,
    );
    let mut host = Host::start();
    host.run(&assist.artifact(), |job| {
        job.cycles = 0;
        job.dumps = vec!["clip[1]".to_owned(), "bytes".to_owned()];
        job.assets_from = Some(folder.0.clone());
    });
    let dumps = host.wait_for(|reply| if let HostReply::RunDone { dumps } = reply { Some(dumps.clone()) } else { None });
    assert_eq!(dumps[0].values, ElementValues::Int(vec![0x0101_0101]));
    assert_eq!(dumps[1].values, ElementValues::Int(vec![1; 8]));
}

#[test]
fn what_is_not_a_readable_file_is_refused_with_its_path_and_line() {
    let folder = Folder::new("asset-bad");
    for (url, part) in [("missing.raw", "missing.raw"), (".", "not a regular file"), ("https://example.org/kick.raw", "example.org")] {
        let mut host = Host::start();
        host.run(&assist(url).artifact(), |job| job.assets_from = Some(folder.0.clone()));
        let refusal = host.wait_for_refusal();
        assert_eq!(refusal.line, Some(7), "{url}");
        assert!(refusal.message.contains("`kick`") && refusal.message.contains(part), "{}", refusal.message);
    }
}

#[test]
fn a_run_may_leave_assets_out() {
    let mut host = Host::start();
    host.run(&assist("missing.raw").artifact(), |_| {});
    host.wait_for(|reply| matches!(reply, HostReply::RunDone { .. }).then_some(()));
}
