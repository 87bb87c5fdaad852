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

/// Numbers from 1 on, as a file has them.
fn numbers(last: i32) -> Vec<u8> {
    (1..=last).flat_map(i32::to_le_bytes).collect()
}

#[test]
fn a_file_is_read_from_its_offset_on() {
    let folder = Folder::new("asset-offset");
    std::fs::write(folder.0.join("kick.raw"), numbers(10)).unwrap();
    let at = |offset: &str| dump_clip(&assist("kick.raw").with_config("bin.kick.offset", offset, 9), &folder);
    assert_eq!(at("0"), ElementValues::Int(vec![1, 2, 3, 4]));
    assert_eq!(at("12"), ElementValues::Int(vec![4, 5, 6, 7]));
    assert_eq!(at("32"), ElementValues::Int(vec![9, 10, 0, 0]), "what is left of it");
    assert_eq!(at("40"), ElementValues::Int(vec![0; 4]), "nothing is left");
    assert_eq!(at("-4"), ElementValues::Int(vec![1, 2, 3, 4]), "no offset: passed over with a warning");
}

#[test]
fn each_item_has_the_part_of_the_file_that_begins_at_its_own_offset() {
    let folder = Folder::new("asset-offsets");
    std::fs::write(folder.0.join("kick.raw"), numbers(10)).unwrap();
    let assist = Assist::default()
        .with_config("bin.kick.url", "kick.raw", 7)
        .with_config("bin.kick.offset", "4", 8)
        .with_config("bin.kick.memories.a", "clip", 9)
        .with_config("bin.kick.offsets.a", "24", 10)
        .with_config("bin.kick.memories.b", "assist:bytes", 11);
    let mut host = Host::start();
    host.run(&assist.artifact(), |job| {
        job.cycles = 0;
        job.dumps = vec!["clip".to_owned(), "bytes".to_owned()];
        job.assets_from = Some(folder.0.clone());
    });
    let dumps = host.wait_for(|reply| if let HostReply::RunDone { dumps } = reply { Some(dumps.clone()) } else { None });
    assert_eq!(dumps[0].values, ElementValues::Int(vec![7, 8, 9, 10]));
    assert_eq!(dumps[1].values, ElementValues::Int(vec![2, 0, 0, 0, 3, 0, 0, 0]), "without one of its own, at the asset's");
}

#[test]
fn a_file_that_ends_before_its_offset_is_refused_with_the_line_of_the_offset() {
    let folder = Folder::new("asset-beyond");
    std::fs::write(folder.0.join("kick.raw"), numbers(10)).unwrap();
    for offset in ["41", "9007199254740991", "1e300"] {
        let mut host = Host::start();
        let artifact = assist("kick.raw").with_config("bin.kick.offset", offset, 9).artifact();
        host.run(&artifact, |job| job.assets_from = Some(folder.0.clone()));
        let refusal = host.wait_for_refusal();
        assert_eq!(refusal.line, Some(9), "{offset}");
        assert!(refusal.message.contains("has 40 bytes") && refusal.message.contains("kick.raw"), "{}", refusal.message);
    }
}

#[test]
fn of_a_file_of_any_size_only_what_the_item_holds_is_read() {
    let folder = Folder::new("asset-huge");
    let file = std::fs::File::create(folder.0.join("kick.raw")).unwrap();
    file.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &numbers(2), (1 << 40) - 8).unwrap();
    let huge = assist("kick.raw").with_config("bin.kick.offset", &((1u64 << 40) - 8).to_string(), 9);
    assert_eq!(dump_clip(&huge, &folder), ElementValues::Int(vec![1, 2, 0, 0]));
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let folder = Folder::new("asset-pipe");
    let made = std::process::Command::new("mkfifo").arg(folder.0.join("kick.raw")).status().unwrap();
    assert!(made.success());
    let mut host = Host::start();
    host.run(&assist("kick.raw").artifact(), |job| job.assets_from = Some(folder.0.clone()));
    let refusal = host.wait_for_refusal();
    assert!(refusal.message.contains("not a regular file"), "{}", refusal.message);
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
