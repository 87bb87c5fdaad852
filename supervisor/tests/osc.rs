//! OSC, with real packets and real processes.

#[path = "live/fixture.rs"]
#[allow(dead_code, reason = "used by several tests, each of which needs a part")]
mod fixture;

use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fixture::{PATIENCE, Session, program, ramp_jumps};
use fuzz::Random;
use rosc::{OscBundle, OscMessage, OscPacket, OscTime, OscType};
use serde_json::{Value, json};

/// A session that listens to OSC, and somebody who sends.
struct Played {
    session: Session,
    controller: UdpSocket,
}

impl Played {
    fn new() -> Self {
        Self::of("module knobs\nfloat cutoff 0.25\nint wave\nint[] steps 4\nmoduleEnd", "")
    }

    /// A song with these modules, and these functions.
    fn of(modules: &str, functions: &str) -> Self {
        let song = format!("{}\n{functions}\n", program("", modules));
        let mut session = Session::play_with(&song, |command| {
            command.args(["--osc", "127.0.0.1:0"]);
        });
        let address = session.wait_for("osc")["address"].as_str().unwrap().to_owned();
        session.wait_for("sounding");
        let controller = UdpSocket::bind("127.0.0.1:0").unwrap();
        controller.connect(address).unwrap();
        controller.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { session, controller }
    }

    fn send(&self, packet: &OscPacket) {
        self.controller.send(&rosc::encoder::encode(packet).unwrap()).unwrap();
    }

    fn receive(&self) -> OscMessage {
        let mut bytes = [0; 1_024];
        let count = self.controller.recv(&mut bytes).expect("a packet comes");
        match rosc::decoder::decode_udp(&bytes[..count]).unwrap().1 {
            OscPacket::Message(message) => message,
            OscPacket::Bundle(bundle) => panic!("{bundle:?}"),
        }
    }

    fn item(&mut self, item: &str) -> Value {
        self.session.call("get", json!({ "runtime": "song", "items": [item] }))["values"][0]["values"].clone()
    }

    fn status(&mut self) -> Value {
        self.session.call("status", json!({}))
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, mut is_true: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_true(self) {
            assert!(Instant::now() < deadline, "it never happens: {what}");
        }
    }
}

fn message(address: &str, args: Vec<OscType>) -> OscPacket {
    OscPacket::Message(OscMessage { addr: address.to_owned(), args })
}

/// A bundle that is due so long from now.
fn bundle(ahead: Duration, content: Vec<OscPacket>) -> OscPacket {
    let at = (SystemTime::now() + ahead).duration_since(UNIX_EPOCH).unwrap();
    let timetag = OscTime {
        seconds: u32::try_from(at.as_secs() + 2_208_988_800).unwrap(),
        fractional: u32::try_from((u64::from(at.subsec_nanos()) << 32) / 1_000_000_000).unwrap(),
    };
    OscPacket::Bundle(OscBundle { timetag, content })
}

#[test]
fn parameters_and_levels_are_set_by_osc() {
    let mut played = Played::new();
    played.send(&message("/song/knobs/cutoff", vec![OscType::Float(0.75)]));
    played.wait_until("the value is set", |played| played.item("knobs:cutoff") == json!([0.75]));
    played.send(&message("/song/knobs/steps", (1..=4).map(OscType::Int).collect()));
    played.wait_until("the elements are set", |played| played.item("knobs:steps") == json!([1, 2, 3, 4]));
    played.send(&message("/song/knobs/steps/2", vec![OscType::Long(9)]));
    played.wait_until("the element is set", |played| played.item("knobs:steps") == json!([1, 2, 9, 4]));
    played.send(&message("/song/gain", vec![OscType::Float(0.5)]));
    played.wait_until("the level is set", |played| played.status()["runtimes"][0]["mix"]["gain"] == 0.5);
    played.send(&message("/song/mute", vec![OscType::Bool(true)]));
    played.wait_until("it is muted", |played| played.status()["runtimes"][0]["mix"]["isMuted"] == true);
    played.send(&message("/song/knobs/nothing", vec![OscType::Int(1)]));
    played.send(&message("/somebody/knobs/wave", vec![OscType::Int(1)]));
    played.wait_until("both are refused", |played| played.status()["osc"]["refused"] == 2);
    let osc = played.status()["osc"].clone();
    assert!(osc["lastError"].as_str().unwrap().contains("somebody"), "{osc}");
    assert_eq!((osc["packets"].as_u64(), osc["malformed"].as_u64()), (Some(7), Some(0)));
    played.session.end();
}

#[test]
fn who_subscribes_is_told_the_value_and_every_change_of_it() {
    let mut played = Played::new();
    let address = "/song/knobs/wave";
    played.send(&message("/subscribe", vec![OscType::String(address.to_owned()), OscType::Int(20)]));
    assert_eq!(played.receive(), OscMessage { addr: address.to_owned(), args: vec![OscType::Int(0)] });
    played.session.call("set", json!({ "runtime": "song", "values": [{ "item": "knobs:wave", "value": 3 }] }));
    assert_eq!(played.receive().args, [OscType::Int(3)]);
    played.send(&message("/song/knobs/wave", vec![OscType::Int(4)]));
    assert_eq!(played.receive().args, [OscType::Int(4)]);
    played.send(&message("/unsubscribe", vec![OscType::String(address.to_owned())]));
    played.session.end();
}

#[test]
fn a_bundle_takes_effect_together_at_the_tick_its_time_tag_names() {
    let mut played = Played::new();
    let path = played.session.path("take.continuo").display().to_string();
    played.session.call("record", json!({ "path": path }));
    let set = |item: &str, value| message(&format!("/song/knobs/{item}"), vec![OscType::Int(value)]);
    played.send(&bundle(Duration::from_millis(1_500), vec![set("wave", 7), set("steps/0", 7)]));
    played.send(&bundle(Duration::from_millis(500), vec![set("wave", 5)]));
    played.send(&set("wave", 1));
    played.wait_until("the last is there", |played| played.item("knobs:wave") == json!([7]));
    assert_eq!(played.item("knobs:steps[0]"), json!([7]));
    (0..3).for_each(|_| drop(played.session.wait_for("meter")));
    played.session.call("record", json!({}));
    played.session.finish();
    let recording = std::fs::read_to_string(&path).unwrap();
    let entries = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line.split_once(' ')?.1).ok());
    let sets: Vec<Value> =
        entries.filter(|entry| entry.to_string().contains("knobs:wave") && entry.to_string().contains("\"set\"")).collect();
    let ticks: Vec<u64> = sets.iter().map(tick_of).collect();
    let [now, soon, later] = ticks[..] else { panic!("three sets: {sets:#?}") };
    assert!(sets[2].to_string().contains("knobs:steps[0]"), "one bundle is one set: {}", sets[2]);
    // 375 ticks a second. The session looks a moment before the time at which tick it is, and ticks come in bursts.
    assert!(soon >= now + 94, "half a second later: {now} {soon}");
    assert!(later.abs_diff(soon + 375) <= 94, "a second later: {soon} {later}");
}

fn tick_of(entry: &Value) -> u64 {
    let found = entry.get("tick").or_else(|| entry.as_object()?.values().find_map(|value| value.get("tick")));
    found.and_then(Value::as_u64).unwrap_or_else(|| panic!("no tick: {entry}"))
}

/// Hears notes: the item `level` of `notes` is the note that sounds, and 0 when none does.
const NOTES: &str = "module notes
; @config midi.inputs.keys.port 0
; @config midi.inputs.keys.callback heard
int level
int calls
moduleEnd";
const HEAR: &str = "function heard\n#impure\n#export\nparam int status\nparam int note\nparam int velocity
push &notes:calls\npush &notes:calls\nload\npush 1\nadd\nstore
push &notes:level\npush note\npush velocity\npush 0\ngreaterThan\nmul\nstore\nfunctionEnd";

#[test]
fn notes_that_are_sent_by_osc_are_heard_and_recorded() {
    let mut played = Played::of(NOTES, HEAR);
    let path = played.session.path("take.continuo").display().to_string();
    played.session.call("record", json!({ "path": path }));
    let note = |note, velocity| message("/song/note", vec![OscType::Int(note), OscType::Int(velocity)]);
    played.send(&note(64, 100));
    played.wait_until("the note begins", |played| played.item("notes:level") == json!([64]));
    played.send(&note(64, 0));
    played.wait_until("the note ends", |played| played.item("notes:level") == json!([0]));
    played.send(&bundle(Duration::from_millis(300), vec![note(70, 1), note(71, 1)]));
    played.wait_until("the chord begins", |played| played.item("notes:level") == json!([71]));
    assert_eq!(played.item("notes:calls"), json!([4]));
    played.session.call("record", json!({}));
    played.session.finish();
    let recording = std::fs::read_to_string(&path).unwrap();
    let entries = recording.lines().filter_map(|line| serde_json::from_str::<Value>(line.split_once(' ')?.1).ok());
    let counts: Vec<usize> =
        entries.filter(|entry| entry["what"]["kind"] == "midi").map(|entry| entry["what"]["messages"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [1, 1, 2], "a bundle is one tick");
}

/// Hears notes of all channels as one: `notes:on` has the velocity of each that sounds.
const ALL_NOTES: &str = "module notes
; @config midi.inputs.keys.port 0
; @config midi.inputs.keys.callback heard
int[] on 128
moduleEnd";
const HEAR_ALL: &str = "function heard\n#impure\n#export\nparam int status\nparam int note\nparam int velocity
push &notes:on\npush note\npush 4\nmul\nadd\npush velocity\npush status\npush 144\ngreaterOrEqual\nmul\nstore\nfunctionEnd";

#[test]
fn no_note_is_stuck_among_more_packets_than_can_be_carried_out() {
    let mut played = Played::of(ALL_NOTES, HEAR_ALL);
    let note = |note, velocity| message("/song/note", vec![OscType::Int(note), OscType::Int(velocity)]);
    let sounding =
        |played: &mut Played| played.item("notes:on").as_array().unwrap().iter().filter(|velocity| velocity.as_f64() != Some(0.0)).count();
    let fader = message("/song/m/unused", vec![OscType::Int(1)]);
    (0..128).for_each(|key| played.send(&note(key, 100)));
    played.wait_until("all notes begin", |played| sounding(played) == 128);
    // A sweep of a fader in the same moment: more than may be under way at a time, and than is left to wait.
    for key in 0..128 {
        (0..8).for_each(|_| played.send(&fader));
        played.send(&note(key, 0));
    }
    played.wait_until("all notes end", |played| sounding(played) == 0);
    // The same with time tags, of which more wait than there is room for; the ends of the notes come last.
    played.send(&bundle(Duration::from_millis(400), (0..128).map(|key| note(key, 90)).collect()));
    for ms in 0..1_400 {
        played.send(&bundle(Duration::from_millis(500) + Duration::from_micros(ms), vec![fader.clone()]));
    }
    for key in 0..128 {
        played.send(&bundle(Duration::from_millis(1_200), vec![note(key, 0)]));
    }
    played.wait_until("all notes begin at their time", |played| sounding(played) == 128);
    played.wait_until("all notes end at their time", |played| sounding(played) == 0);
    let osc = played.status()["osc"].clone();
    assert_eq!(osc["lost"].as_u64(), Some(0), "{osc}");
    assert!(osc["refused"].as_u64() > Some(0), "there was too much: {osc}");
    played.session.end();
}

#[test]
fn random_packets_are_counted_and_disturb_nobody_and_no_note_is_stuck() {
    let seed = 0x6f73_6332;
    let mut random = Random::new(seed);
    let mut played = Played::of(ALL_NOTES, HEAR_ALL);
    let set = rosc::encoder::encode(&message("/song/m/unused", vec![OscType::Int(2)])).unwrap();
    let note = |note, velocity| rosc::encoder::encode(&message("/song/note", vec![OscType::Int(note), OscType::Int(velocity)])).unwrap();
    let mut sent = 0;
    for number in 1..=100_000 {
        let mut packet = match random.below(6) {
            0 | 1 => set.clone(),
            2 => note(random.below(128) as i32, random.below(2) as i32),
            _ => (0..random.below(64)).map(|_| random.below(256) as u8).collect(),
        };
        if let Some(last) = packet.len().checked_sub(1) {
            packet[random.below(last + 1)] = random.below(256) as u8;
        }
        sent += u64::from(played.controller.send(&packet).is_ok());
        // No more at a time than the kernel keeps for a session that is slow, so that every one of them is read.
        if number % 200 == 0 {
            played.wait_until("all are counted", |played| played.status()["osc"]["packets"].as_u64() == Some(sent));
        }
    }
    // Whatever has begun, its end comes in the middle of what is too much.
    for key in 0..128 {
        (0..4).for_each(|_| drop(played.controller.send(&set)));
        played.controller.send(&note(key, 0)).unwrap();
    }
    played.wait_until("no note sounds", |played| {
        played.item("notes:on").as_array().unwrap().iter().all(|velocity| velocity.as_f64() == Some(0.0))
    });
    let osc = played.status()["osc"].clone();
    assert!(sent == 100_000 && osc["malformed"].as_u64() > Some(30_000) && osc["refused"].as_u64() > Some(100), "{osc}");
    assert_eq!(osc["lost"].as_u64(), Some(0), "{osc}");
    played.wait_until("it goes on", |played| {
        played.send(&message("/song/m/unused", vec![OscType::Int(5)]));
        played.item("m:unused") == json!([5])
    });
    assert_eq!(ramp_jumps(&played.session.end()), Vec::<usize>::new(), "seed {seed:#x}");
}

#[test]
fn an_address_that_is_taken_is_named_and_nothing_is_started() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let song = folder.path().join("song.8f4e");
    std::fs::write(&song, program("", "")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_continuo"));
    command.args(["play", "--device", "null", "--osc", &address]).arg(&song).env("XDG_RUNTIME_DIR", folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("cannot listen for OSC on {address}")), "{said}");
    assert_eq!(output.status.code(), Some(3));
}
