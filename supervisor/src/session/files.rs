//! Files that clients name: read on request, or followed. Two threads of their own, so that a slow disk makes nobody wait.
//!
//! A file is followed through its folder (inotify), because editors save by writing another file and renaming it. What they
//! do on the way is not read: a finished write or a rename is looked at after a few quiet milliseconds, a write that has not
//! ended after more. Where inotify tells nothing (network file systems, a folder that was replaced) looking at the file twice
//! a second has to do. A file that is gone for a moment is not an edit; a file with the same text is none either.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ipc::hash::ContentHash;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::connection::Incoming;
use super::journal::Recording;
use super::text::{SourceError, read_regular};
use crate::control::protocol::{Answer, ErrorCode, ErrorReply, RecordedRuntime, RecordingInfo, RevisionName, RuntimeName, Verb};
use crate::control::{Call, ControlHandle};
use crate::policy::log::Logged;
use crate::policy::{Event, ProgramText};

/// Orders that may wait for each of the threads.
const ORDERS: usize = 256;

/// From a finished write or a rename to the look at the file.
const SETTLE: Duration = Duration::from_millis(3);

/// From a write that is not finished.
const UNFINISHED: Duration = Duration::from_millis(100);

/// How often every file is looked at, whatever inotify says.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Files that are followed at a time: one for each runtime there can be.
const MAX_FOLLOWED: usize = ipc::limits::MAX_LANES;

/// Stack in bytes of these threads.
const STACK_BYTES: usize = 256 << 10;

enum WatchOrder {
    Follow { runtime: String, path: PathBuf, text: Option<ContentHash> },
    Leave { runtime: String },
}

/// How the main loop reaches the two threads.
pub struct Files {
    calls: SyncSender<Call>,
    orders: SyncSender<WatchOrder>,
    wake: Arc<OwnedFd>,
}

impl Files {
    /// Starts the threads; they end when this is dropped.
    pub fn start(events: &SyncSender<Incoming>, control: Option<ControlHandle>) -> std::io::Result<Self> {
        let (calls, calls_out) = sync_channel(ORDERS);
        let (orders, orders_out) = sync_channel(ORDERS);
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (to_main, ours) = (events.clone(), Arc::clone(&wake));
        spawn("files", move || read_calls(&calls_out, &to_main, control.as_ref()))?;
        let to_main = events.clone();
        let follower =
            Follower { inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(), followed: BTreeMap::new(), to_main };
        spawn("watch", move || follower.run(&orders_out, &ours))?;
        Ok(Self { calls, orders, wake })
    }

    /// Reads the file that a call names, then passes the call on. Gives it back when too many wait.
    pub fn read(&self, call: Call) -> Result<(), Box<Call>> {
        self.calls.try_send(call).map_err(|error| match error {
            TrySendError::Full(call) | TrySendError::Disconnected(call) => Box::new(call),
        })
    }

    /// Follows a file whose present text is known.
    pub fn follow(&self, runtime: String, path: PathBuf, text: Option<ContentHash>) {
        let _ = self.orders.try_send(WatchOrder::Follow { runtime, path, text });
        self.wake();
    }

    pub fn leave(&self, runtime: String) {
        let _ = self.orders.try_send(WatchOrder::Leave { runtime });
        self.wake();
    }

    fn wake(&self) {
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The orders' channel closes with us; this lets the thread see it.
        let (orders, _) = sync_channel(0);
        self.orders = orders;
        self.wake();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work).map(drop)
}

/// The file a call names, and the runtime it is for.
pub fn named_file(verb: &Verb) -> Option<(&str, &str)> {
    match verb {
        Verb::Push(push) => push.path.as_deref().map(|path| (push.runtime.as_str(), path)),
        Verb::Plan(plan) => plan.path.as_deref().map(|path| (plan.runtime.as_str(), path)),
        Verb::Watch(watch) => Some((watch.runtime.as_str(), watch.path.as_str())),
        Verb::ReplayInfo(info) => Some(("", info.path.as_str())),
        _ => None,
    }
}

/// A text that came with a call itself.
pub fn sent_text(verb: &Verb) -> Option<ProgramText> {
    let (name, text, directory) = match verb {
        Verb::Push(push) => (&push.runtime, push.text.as_ref()?, push.directory.as_ref()),
        Verb::Plan(plan) => (&plan.runtime, plan.text.as_ref()?, plan.directory.as_ref()),
        _ => return None,
    };
    Some(ProgramText {
        name: name.as_str().to_owned(),
        path: PathBuf::from(name.as_str()),
        source: text.as_str().into(),
        base_directory: directory.map_or_else(|| PathBuf::from("/"), PathBuf::from),
    })
}

fn read_calls(calls: &Receiver<Call>, events: &SyncSender<Incoming>, control: Option<&ControlHandle>) {
    for call in calls {
        if let Verb::ReplayInfo(info) = &call.verb {
            let outcome = Recording::read(Path::new(&info.path));
            let outcome = outcome.map(|recording| Answer::ReplayInfo(described(&info.path, &recording)));
            if let Some(control) = control {
                control.reply(
                    call.ticket,
                    outcome.map_err(|error| ErrorReply::new(ErrorCode::FileFailed, error.to_string()).in_field("params.path")),
                );
            }
            continue;
        }
        let Some((runtime, path)) = named_file(&call.verb) else { continue };
        let event = match program(runtime, Path::new(path)) {
            Ok(text) => Event::Call { text: Some(text), call: Box::new(call) },
            Err(error) => {
                if let Some(control) = control {
                    let outcome: Result<Answer, ErrorReply> =
                        Err(ErrorReply::new(ErrorCode::FileFailed, error.to_string()).in_field("params.path"));
                    control.reply(call.ticket, outcome);
                }
                continue;
            }
        };
        if events.send(Incoming::Event(event)).is_err() {
            return;
        }
    }
}

/// What a recording holds.
fn described(path: &str, recording: &Recording) -> RecordingInfo {
    let mut runtimes: Vec<RecordedRuntime> = Vec::new();
    let mut lives: BTreeMap<usize, usize> = BTreeMap::new();
    for entry in &recording.entries {
        let revision = match &entry.what {
            Logged::Start { runtime, runtime_type, revision, .. } => {
                let Ok(name) = RuntimeName::new(runtime.clone()) else { continue };
                let position = runtimes.iter().position(|known| known.runtime == name).unwrap_or(runtimes.len());
                if position == runtimes.len() {
                    let (runtime_type, revisions) = (runtime_type.clone(), Vec::new());
                    runtimes.push(RecordedRuntime { runtime: name, runtime_type, revisions, output_hash: None });
                }
                lives.insert(entry.life, position);
                revision
            }
            Logged::Change { revision, .. } => revision,
            _ => continue,
        };
        let runtime = lives.get(&entry.life).and_then(|position| runtimes.get_mut(*position));
        if let (Some(runtime), Ok(revision)) = (runtime, RevisionName::new(revision.hash.clone())) {
            runtime.revisions.push(revision);
        }
    }
    // Frames are those of the programs that sound; what runs by a clock of its own has ticks of another length.
    let sounds =
        |life: &usize| lives.get(life).and_then(|position| runtimes.get(*position)).is_some_and(|runtime| runtime.runtime_type == "audio");
    let ticks = recording.entries.iter().filter(|entry| sounds(&entry.life)).map(|entry| entry.tick).max().unwrap_or(0);
    RecordingInfo {
        path: path.to_owned(),
        build: recording.header.build.clone(),
        seed: recording.header.seed,
        frames: ticks * ipc::limits::BLOCK_FRAMES as u64,
        inputs: recording
            .entries
            .iter()
            .filter(|entry| !matches!(entry.what, Logged::Start { .. } | Logged::Asset { .. } | Logged::Seen {}))
            .count() as u64,
        is_torn: recording.is_torn,
        runtimes,
    }
}

fn program(runtime: &str, path: &Path) -> Result<ProgramText, SourceError> {
    let source = read_regular(path)?;
    let base_directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(ProgramText { name: runtime.to_owned(), path: path.to_owned(), source: source.into(), base_directory })
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = path.metadata().ok()?;
    let modified_ns = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    Some(Stamp { device: found.dev(), inode: found.ino(), bytes: found.len(), modified_ns })
}

struct Followed {
    path: PathBuf,
    folder: i32,
    name: OsString,
    stamp: Option<Stamp>,
    text: Option<ContentHash>,
    /// When the first sign of a change came, and when to look.
    change: Option<(Instant, Instant)>,
    is_complaint_told: bool,
}

/// The watching thread.
struct Follower {
    inotify: Option<OwnedFd>,
    followed: BTreeMap<String, Followed>,
    to_main: SyncSender<Incoming>,
}

impl Follower {
    fn run(mut self, orders: &Receiver<WatchOrder>, wake: &OwnedFd) {
        let mut next_look = Instant::now() + LOOK_INTERVAL;
        loop {
            loop {
                match orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
            let now = Instant::now();
            if now >= next_look {
                next_look = now + LOOK_INTERVAL;
                self.look_at_all(now);
            }
            if !self.look_at_due(now) {
                return;
            }
            let due = self.followed.values().filter_map(|followed| followed.change.map(|(_, due)| due)).min();
            let until = due.map_or(next_look, |due| due.min(next_look));
            self.wait(wake, until.saturating_duration_since(Instant::now()));
            self.read_signs();
        }
    }

    fn wait(&self, wake: &OwnedFd, patience: Duration) {
        let mut descriptors = vec![PollFd::new(wake, PollFlags::IN)];
        descriptors.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify, PollFlags::IN)));
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
        // An interrupted wait is a short one.
        let _ = poll(&mut descriptors, Some(&timeout));
        let _ = rustix::io::read(wake, &mut [0u8; 8]);
    }

    fn obey(&mut self, order: WatchOrder) {
        match order {
            WatchOrder::Leave { runtime } => drop(self.followed.remove(&runtime)),
            WatchOrder::Follow { runtime, path, text } => {
                if self.followed.len() >= MAX_FOLLOWED && !self.followed.contains_key(&runtime) {
                    return;
                }
                let name = path.file_name().unwrap_or_default().to_owned();
                let folder = self.watch_folder(&path);
                // What changed between the reading of the text and now is seen by looking once.
                let now = Instant::now();
                let followed =
                    Followed { stamp: stamp(&path), path, folder, name, text, change: Some((now, now)), is_complaint_told: false };
                self.followed.insert(runtime, followed);
            }
        }
    }

    fn watch_folder(&self, path: &Path) -> i32 {
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::MODIFY;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.inotify.as_ref().and_then(|inotify| inotify::add_watch(inotify.as_fd(), folder, flags).ok()).unwrap_or(-1)
    }

    /// Reads what inotify has to tell.
    fn read_signs(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4_096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let now = Instant::now();
        while let Ok(sign) = reader.next() {
            let is_finished = sign.events().intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO | ReadFlags::CREATE);
            let due = now + if is_finished { SETTLE } else { UNFINISHED };
            let name = sign.file_name().map(|name| name.to_bytes().to_vec());
            for followed in self.followed.values_mut() {
                let is_it = followed.folder == sign.wd() && name.as_deref() == Some(followed.name.as_encoded_bytes());
                // A queue that ran over tells nothing any more: look at all.
                if is_it || sign.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    let since = followed.change.map_or(now, |(since, _)| since);
                    followed.change = Some((since, due));
                }
            }
        }
    }

    fn look_at_all(&mut self, now: Instant) {
        let folders: Vec<(String, i32)> =
            self.followed.iter().map(|(runtime, followed)| (runtime.clone(), self.watch_folder(&followed.path))).collect();
        for (runtime, folder) in folders {
            let Some(followed) = self.followed.get_mut(&runtime) else { continue };
            followed.folder = folder;
            let found = stamp(&followed.path);
            if found.is_some() && found != followed.stamp && followed.change.is_none() {
                followed.change = Some((now, now));
            }
        }
    }

    /// Looks at the files whose time has come. Returns whether anybody still listens.
    fn look_at_due(&mut self, now: Instant) -> bool {
        for (runtime, followed) in &mut self.followed {
            let Some((since, _)) = followed.change.take_if(|(_, due)| *due <= now) else { continue };
            let found = stamp(&followed.path);
            let read = program(runtime, &followed.path);
            // Written to while it was read, or just about to be written: an editor is at it.
            let is_young = since.elapsed() < UNFINISHED && found.is_some_and(|found| found.bytes == 0);
            if is_young || (found.is_some() && stamp(&followed.path) != found) {
                followed.change = Some((since, now + SETTLE));
                continue;
            }
            let event = match read {
                Ok(text) => {
                    followed.stamp = found;
                    followed.is_complaint_told = false;
                    let hash = text.hash();
                    if followed.text.replace(hash) == Some(hash) {
                        continue;
                    }
                    let detect_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
                    Event::FileChanged { runtime: runtime.clone(), text, detect_us }
                }
                // It is on its way, or has been put aside: what plays goes on playing.
                Err(SourceError::Missing(_)) => continue,
                Err(error) => {
                    followed.stamp = found;
                    followed.text = None;
                    if std::mem::replace(&mut followed.is_complaint_told, true) {
                        continue;
                    }
                    Event::FileUnreadable { runtime: runtime.clone(), reason: error.to_string() }
                }
            };
            if self.to_main.send(Incoming::Event(event)).is_err() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Scene {
        folder: tempfile::TempDir,
        files: Files,
        events: Receiver<Incoming>,
    }

    impl Scene {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("song.8f4e"), text).unwrap();
            let (sender, events) = sync_channel(64);
            let files = Files::start(&sender, None).unwrap();
            files.follow("song".to_owned(), folder.path().join("song.8f4e"), Some(ContentHash::of(&[text.as_bytes()])));
            Self { folder, files, events }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("song.8f4e")
        }

        fn next(&self) -> Event {
            match self.events.recv_timeout(PATIENCE).expect("an event comes") {
                Incoming::Event(event) => event,
                Incoming::Called | Incoming::Noted(_) | Incoming::Heard(_) | Incoming::Joined { .. } => panic!("something else comes"),
            }
        }

        #[track_caller]
        fn expect(&self, text: &str) {
            match self.next() {
                Event::FileChanged { runtime, text: found, .. } => assert_eq!((runtime.as_str(), &*found.source), ("song", text)),
                other => panic!("{other:?} instead of the text"),
            }
        }
    }

    #[test]
    fn a_write_a_rename_and_a_return_after_absence_are_edits() {
        let scene = Scene::new("one");
        fs::write(scene.path(), "two").unwrap();
        scene.expect("two");
        let other = scene.folder.path().join("song.8f4e.new");
        fs::write(&other, "three").unwrap();
        fs::rename(&other, scene.path()).unwrap();
        scene.expect("three");
        fs::remove_file(scene.path()).unwrap();
        fs::write(scene.path(), "four").unwrap();
        scene.expect("four");
    }

    #[test]
    fn the_same_text_again_is_no_edit_and_a_file_that_is_no_text_is_told_once() {
        let scene = Scene::new("one");
        fs::write(scene.path(), "one").unwrap();
        fs::write(scene.path(), b"\xff\xfe").unwrap();
        let event = scene.next();
        assert!(matches!(event, Event::FileUnreadable { .. }), "{event:?}");
        fs::write(scene.path(), "two").unwrap();
        scene.expect("two");
        scene.files.leave("song".to_owned());
    }
}
