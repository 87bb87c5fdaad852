//! From a packet to what it asks for. Pure, and fed with whatever the network brings: what the decoder of the format does with
//! a hostile packet (deep recursion) is ruled out before it sees one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc::limits::MAX_RECEIVED;
use ipc::midi::NOTE_ON;
use rosc::{OscMessage, OscPacket, OscTime, OscType};

use crate::control::protocol::{Gain, ItemName, Midi, MidiMessage, Mute, Number, Panic, RuntimeName, Set, SetValue, Solo, Verb};

/// Largest packet in bytes. One datagram may have 64 KiB; controllers send some hundred bytes.
pub const MAX_PACKET_BYTES: usize = 8 << 10;

/// Bundles within bundles. The decoder recurses into them.
const MAX_BUNDLE_DEPTH: usize = 4;

/// Opening brackets in a packet: nobody sets a parameter to an array of arrays, and dropping one recurses.
const MAX_BRACKETS: usize = 64;

/// Messages of one packet; more are no performance.
const MAX_MESSAGES: usize = 256;

/// Values that are set at a time, as in a `set` of the control socket.
const MAX_VALUES: usize = 1_024;

/// What every bundle begins with.
const BUNDLE: &[u8] = b"#bundle\0";

/// Status of a controller's value.
const CONTROL_CHANGE: u8 = 0xb0;

/// Seconds from 1900, which time tags count from, to 1970.
const SECONDS_TO_1970: u64 = 2_208_988_800;

/// A packet that is not one, or says nothing that could be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("not an OSC packet")]
    Malformed,
    #[error("more than {MAX_MESSAGES} messages in a packet")]
    TooMany,
    #[error(
        "no such address: {0}; there are /RUNTIME/MODULE/ITEM, /RUNTIME/note, /RUNTIME/cc, /RUNTIME/midi, /RUNTIME/gain, /RUNTIME/mute, /RUNTIME/solo, /panic, /subscribe, /unsubscribe"
    )]
    Address(String),
    #[error("{address} takes {expected}")]
    Arguments { address: String, expected: &'static str },
}

/// What one message asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    Verb(Verb),
    /// Tell the sender of this item (its address and its place), this often.
    Subscribe {
        address: String,
        runtime: RuntimeName,
        item: ItemName,
        interval: Option<Duration>,
    },
    Unsubscribe {
        address: String,
    },
}

/// Wishes, and when they are due; `None`: at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    pub at: Option<SystemTime>,
    pub wishes: Vec<Wish>,
}

/// What a packet asks for: whatever of it is understood, and what is wrong with the rest.
#[derive(Debug, Default, PartialEq)]
pub struct Read {
    pub due: Vec<Due>,
    pub errors: Vec<PacketError>,
}

/// Reads a packet.
pub fn read(bytes: &[u8]) -> Result<Read, PacketError> {
    let brackets = bytes.iter().filter(|byte| **byte == b'[').count();
    if bytes.len() > MAX_PACKET_BYTES || brackets > MAX_BRACKETS || !is_shallow(bytes, MAX_BUNDLE_DEPTH) {
        return Err(PacketError::Malformed);
    }
    let Ok(([], packet)) = rosc::decoder::decode_udp(bytes) else { return Err(PacketError::Malformed) };
    let mut read = Read::default();
    let mut messages = 0;
    take(packet, None, &mut read, &mut messages)?;
    Ok(read)
}

/// Whether bundles are nested no deeper than that.
fn is_shallow(bytes: &[u8], depth: usize) -> bool {
    let Some(rest) = bytes.strip_prefix(BUNDLE) else { return true };
    // The time tag.
    let Some(mut rest) = rest.get(8..).filter(|_| depth > 0) else { return false };
    while let Some((size, elements)) = rest.split_first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        let Some(element) = elements.get(..size) else { return false };
        if !is_shallow(element, depth - 1) {
            return false;
        }
        rest = &elements[size..];
    }
    true
}

fn take(packet: OscPacket, at: Option<SystemTime>, read: &mut Read, messages: &mut usize) -> Result<(), PacketError> {
    match packet {
        OscPacket::Message(message) => {
            *messages += 1;
            if *messages > MAX_MESSAGES {
                return Err(PacketError::TooMany);
            }
            match wish(&message) {
                Ok(wish) => match read.due.last_mut().filter(|due| due.at == at) {
                    Some(due) => add(&mut due.wishes, wish),
                    None => read.due.push(Due { at, wishes: vec![wish] }),
                },
                Err(error) => read.errors.push(error),
            }
        }
        OscPacket::Bundle(bundle) => {
            let at = due_at(bundle.timetag);
            bundle.content.into_iter().try_for_each(|packet| take(packet, at, read, messages))?;
        }
    }
    Ok(())
}

/// Values of one runtime that are set together, and notes of one, take effect in one tick.
fn add(wishes: &mut Vec<Wish>, wish: Wish) {
    if let (Some(Wish::Verb(Verb::Midi(before))), Wish::Verb(Verb::Midi(midi))) = (wishes.last_mut(), &wish)
        && before.runtime == midi.runtime
        && before.messages.len() + midi.messages.len() <= MAX_RECEIVED
    {
        return before.messages.extend(midi.messages.iter().cloned());
    }
    if let (Some(Wish::Verb(Verb::Set(before))), Wish::Verb(Verb::Set(set))) = (wishes.last_mut(), &wish)
        && before.runtime == set.runtime
        && before.values.len() + set.values.len() <= MAX_VALUES
    {
        return before.values.extend(set.values.iter().cloned());
    }
    wishes.push(wish);
}

/// `None`: at once, as the tag 1 says. Times before 1970 are over as well.
fn due_at(tag: OscTime) -> Option<SystemTime> {
    let seconds = u64::from(tag.seconds).checked_sub(SECONDS_TO_1970)?;
    let nanoseconds = (u64::from(tag.fractional) * 1_000_000_000) >> 32;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

fn wish(message: &OscMessage) -> Result<Wish, PacketError> {
    let address = message.addr.as_str();
    let unknown = || PacketError::Address(address.chars().take(128).collect());
    let wrong = |expected| PacketError::Arguments { address: address.to_owned(), expected };
    let segments: Vec<&str> = address.strip_prefix('/').ok_or_else(unknown)?.split('/').collect();
    match segments[..] {
        ["panic"] => Ok(Wish::Verb(Verb::Panic(Panic {}))),
        ["subscribe"] => subscription(message).ok_or_else(|| wrong("the address of an item, and milliseconds if you like")),
        ["unsubscribe"] => match &message.args[..] {
            [OscType::String(address)] => Ok(Wish::Unsubscribe { address: address.clone() }),
            _ => Err(wrong("the address of an item")),
        },
        [runtime, what] => {
            let runtime = RuntimeName::new(runtime).map_err(|_| unknown())?;
            let number = || match &message.args[..] {
                [one] => number(one).map(Number::as_f64),
                _ => None,
            };
            let on = || number().map(|number| number != 0.0).ok_or_else(|| wrong("T, F, 0 or 1"));
            match what {
                "gain" => {
                    let gain = number().filter(|gain| (0.0..=8.0).contains(gain)).ok_or_else(|| wrong("a linear gain from 0 to 8"))?;
                    Ok(Wish::Verb(Verb::Gain(Gain { runtime, gain, ramp_ms: None })))
                }
                "note" | "cc" | "midi" => {
                    let (messages, expected) = match what {
                        "note" => {
                            (voice(NOTE_ON, &message.args), "a note and its velocity (0 ends it), and a channel and a port if you like")
                        }
                        "cc" => (voice(CONTROL_CHANGE, &message.args), "a controller and its value, and a channel and a port if you like"),
                        _ => (raw(&message.args), "MIDI messages"),
                    };
                    Ok(Wish::Verb(Verb::Midi(Midi { runtime, messages: messages.ok_or_else(|| wrong(expected))?, at_tick: None })))
                }
                "mute" => Ok(Wish::Verb(Verb::Mute(Mute { runtime, on: on()? }))),
                "solo" => Ok(Wish::Verb(Verb::Solo(Solo { runtime, on: on()? }))),
                _ => Err(unknown()),
            }
        }
        [..] => {
            let (runtime, item) = place(address).ok_or_else(unknown)?;
            let values: Option<Vec<Number>> = message.args.iter().map(number).collect();
            let values = values.filter(|values| !values.is_empty() && values.iter().all(|value| value.is_finite()));
            let values = elements(&item, &values.ok_or_else(|| wrong("finite numbers"))?).ok_or_else(unknown)?;
            Ok(Wish::Verb(Verb::Set(Set { runtime, values, ramp_ms: None, at_tick: None })))
        }
    }
}

/// The item of an address `/RUNTIME/MODULE/ITEM` or `/RUNTIME/MODULE/ITEM/INDEX`.
fn place(address: &str) -> Option<(RuntimeName, ItemName)> {
    let segments: Vec<&str> = address.strip_prefix('/')?.split('/').collect();
    let (runtime, item) = match segments[..] {
        [runtime, module, item] if !module.is_empty() && !item.is_empty() => (runtime, format!("{module}:{item}")),
        [runtime, module, item, index] if !module.is_empty() && !item.is_empty() => {
            (runtime, format!("{module}:{item}[{}]", index.parse::<u32>().ok()?))
        }
        _ => return None,
    };
    Some((RuntimeName::new(runtime).ok()?, ItemName::new(item).ok()?))
}

/// One value is the item's; several are its elements, from the first on.
fn elements(item: &ItemName, values: &[Number]) -> Option<Vec<SetValue>> {
    match values {
        [value] => Some(vec![SetValue { item: item.clone(), value: *value }]),
        _ if item.as_str().ends_with(']') || values.len() > MAX_VALUES => None,
        _ => {
            let element = |(index, value): (usize, &Number)| {
                let item = ItemName::new(format!("{}[{index}]", item.as_str())).ok()?;
                Some(SetValue { item, value: *value })
            };
            values.iter().enumerate().map(element).collect()
        }
    }
}

fn number(argument: &OscType) -> Option<Number> {
    match argument {
        OscType::Int(value) => Some(Number::Int(i64::from(*value))),
        OscType::Long(value) => Some(Number::Int(*value)),
        OscType::Float(value) => Some(Number::Float(f64::from(*value))),
        OscType::Double(value) => Some(Number::Float(*value)),
        OscType::Bool(value) => Some(Number::Int(i64::from(*value))),
        _ => None,
    }
}

/// A note or a controller: two numbers, then channel and port from 1, where they are not the first.
fn voice(status: u8, arguments: &[OscType]) -> Option<Vec<MidiMessage>> {
    let whole = |argument: &OscType| {
        let number = number(argument)?.as_f64();
        ((0.0..=127.0).contains(&number) && number.fract() == 0.0).then_some(number as u8)
    };
    let numbers: Option<Vec<u8>> = arguments.iter().map(whole).collect();
    let (first, second, channel, port) = match numbers?[..] {
        [first, second] => (first, second, 1, 1),
        [first, second, channel] => (first, second, channel, 1),
        [first, second, channel, port] => (first, second, channel, port),
        _ => return None,
    };
    let is_there = (1..=16).contains(&channel) && port > 0;
    is_there.then(|| vec![MidiMessage { port: Some(port), bytes: vec![status | (channel - 1), first, second] }])
}

/// Messages as the format has them; its ports count from 0.
fn raw(arguments: &[OscType]) -> Option<Vec<MidiMessage>> {
    let message = |argument: &OscType| match argument {
        OscType::Midi(midi) => {
            let message = MidiMessage { port: Some(midi.port.checked_add(1)?), bytes: vec![midi.status, midi.data1, midi.data2] };
            message.received().map(|_| message)
        }
        _ => None,
    };
    let is_bounded = (1..=MAX_RECEIVED).contains(&arguments.len());
    arguments.iter().filter(|_| is_bounded).map(message).collect::<Option<Vec<_>>>().filter(|messages| !messages.is_empty())
}

fn subscription(message: &OscMessage) -> Option<Wish> {
    let (address, interval) = match &message.args[..] {
        [OscType::String(address)] => (address, None),
        [OscType::String(address), interval] => {
            let interval_ms = number(interval)?.as_f64();
            let interval = (1.0..=60_000.0).contains(&interval_ms).then(|| Duration::from_secs_f64(interval_ms / 1_000.0))?;
            (address, Some(interval))
        }
        _ => return None,
    };
    let (runtime, item) = place(address)?;
    Some(Wish::Subscribe { address: address.clone(), runtime, item, interval })
}

#[cfg(test)]
mod tests {
    use fuzz::Random;
    use rosc::OscBundle;

    use super::*;

    /// The time as a tag.
    fn tag_of(time: SystemTime) -> OscTime {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = u32::try_from(since.as_secs() + SECONDS_TO_1970).unwrap_or(u32::MAX);
        let fractional = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        OscTime { seconds, fractional: u32::try_from(fractional).unwrap_or(u32::MAX) }
    }

    fn message(addr: &str, args: Vec<OscType>) -> OscPacket {
        OscPacket::Message(OscMessage { addr: addr.to_owned(), args })
    }

    fn bytes(packet: &OscPacket) -> Vec<u8> {
        rosc::encoder::encode(packet).unwrap()
    }

    fn wishes(packet: &OscPacket) -> Vec<Wish> {
        read(&bytes(packet)).unwrap().due.into_iter().flat_map(|due| due.wishes).collect()
    }

    fn set(runtime: &str, values: &[(&str, Number)]) -> Wish {
        let value = |(item, value): &(&str, Number)| SetValue { item: ItemName::new(*item).unwrap(), value: *value };
        let values = values.iter().map(value).collect();
        Wish::Verb(Verb::Set(Set { runtime: RuntimeName::new(runtime).unwrap(), values, ramp_ms: None, at_tick: None }))
    }

    #[test]
    fn addresses_are_items_and_levels() {
        let float = |value| vec![OscType::Float(value)];
        assert_eq!(wishes(&message("/drums/kick/decay", float(0.5))), [set("drums", &[("kick:decay", Number::Float(0.5))])]);
        assert_eq!(
            wishes(&message("/my drums/seq/steps/3", vec![OscType::Int(1)])),
            [set("my drums", &[("seq:steps[3]", Number::Int(1))])]
        );
        let two = vec![OscType::Int(1), OscType::Bool(true)];
        assert_eq!(
            wishes(&message("/d/seq/steps", two)),
            [set("d", &[("seq:steps[0]", Number::Int(1)), ("seq:steps[1]", Number::Int(1))])]
        );
        let runtime = RuntimeName::new("drums").unwrap();
        let gain = Verb::Gain(Gain { runtime: runtime.clone(), gain: 0.25, ramp_ms: None });
        assert_eq!(wishes(&message("/drums/gain", float(0.25))), [Wish::Verb(gain)]);
        assert_eq!(wishes(&message("/drums/mute", float(1.0))), [Wish::Verb(Verb::Mute(Mute { runtime, on: true }))]);
        assert_eq!(wishes(&message("/panic", vec![])), [Wish::Verb(Verb::Panic(Panic {}))]);
    }

    #[test]
    fn notes_and_controllers_are_messages_that_come_in_at_a_port() {
        let messages = |found: &[Wish]| -> Vec<(Option<u8>, Vec<u8>)> {
            let [Wish::Verb(Verb::Midi(midi))] = found else { panic!("{found:?}") };
            midi.messages.iter().map(|message| (message.port, message.bytes.clone())).collect()
        };
        let ints = |numbers: &[i32]| numbers.iter().map(|number| OscType::Int(*number)).collect::<Vec<_>>();
        assert_eq!(messages(&wishes(&message("/synth/note", ints(&[60, 100])))), [(Some(1), vec![0x90, 60, 100])]);
        assert_eq!(messages(&wishes(&message("/synth/note", ints(&[60, 0, 16, 3])))), [(Some(3), vec![0x9f, 60, 0])]);
        assert_eq!(messages(&wishes(&message("/synth/cc", ints(&[7, 127, 2])))), [(Some(1), vec![0xb1, 7, 127])]);
        let bend = OscType::Midi(rosc::OscMidiMessage { port: 0, status: 0xe0, data1: 1, data2: 2 });
        assert_eq!(
            messages(&wishes(&message("/synth/midi", vec![bend.clone(), bend]))),
            [(Some(1), vec![0xe0, 1, 2]), (Some(1), vec![0xe0, 1, 2])]
        );
        let content = vec![message("/s/note", ints(&[60, 1])), message("/s/note", ints(&[64, 1]))];
        let chord = OscPacket::Bundle(OscBundle { timetag: OscTime { seconds: 0, fractional: 1 }, content });
        assert_eq!(messages(&wishes(&chord)).len(), 2, "a chord begins in one tick");
        let no_message = OscType::Midi(rosc::OscMidiMessage { port: 0, status: 0x40, data1: 1, data2: 2 });
        for wrong in [
            ints(&[]),
            ints(&[60]),
            ints(&[128, 1]),
            ints(&[60, -1]),
            ints(&[60, 1, 17]),
            ints(&[60, 1, 0]),
            ints(&[60, 1, 1, 0]),
            vec![OscType::Float(0.5); 2],
        ] {
            assert_eq!(wishes(&message("/synth/note", wrong.clone())), [], "{wrong:?}");
        }
        for wrong in [vec![], vec![no_message], ints(&[1])] {
            assert_eq!(wishes(&message("/synth/midi", wrong.clone())), [], "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_rest_is_done() {
        let cases = [
            ("/drums/gain", vec![OscType::Float(9.0)]),
            ("/drums/gain", vec![]),
            ("/drums/loud", vec![OscType::Float(1.0)]),
            ("/drums/a/b", vec![OscType::Float(f32::NAN)]),
            ("/drums/a/b", vec![OscType::String("x".to_owned())]),
            ("/drums/a/b/c", vec![OscType::Int(1)]),
            ("/drums//b", vec![OscType::Int(1)]),
            ("/a/b/c/d/e", vec![OscType::Int(1)]),
            ("/", vec![]),
            ("/subscribe", vec![OscType::String("/drums".to_owned())]),
        ];
        for (address, arguments) in cases {
            let read = read(&bytes(&message(address, arguments.clone()))).unwrap();
            assert_eq!((read.due.len(), read.errors.len()), (0, 1), "{address} {arguments:?}");
        }
        let timetag = OscTime { seconds: 0, fractional: 1 };
        let content = vec![message("/no", vec![]), message("/d/a/b", vec![OscType::Int(1)])];
        let read = read(&bytes(&OscPacket::Bundle(OscBundle { timetag, content }))).unwrap();
        assert_eq!((read.due.len(), read.errors.len()), (1, 1));
    }

    #[test]
    fn a_bundle_is_due_when_its_tag_says_and_its_values_are_set_together() {
        let time = UNIX_EPOCH + Duration::new(1_800_000_000, 250_000_000);
        let content = vec![message("/d/a/b", vec![OscType::Int(1)]), message("/d/a/c", vec![OscType::Int(2)])];
        let read_one = read(&bytes(&OscPacket::Bundle(OscBundle { timetag: tag_of(time), content: content.clone() }))).unwrap();
        let [Due { at: Some(at), wishes }] = &read_one.due[..] else { panic!("{read_one:?}") };
        assert!(time.duration_since(*at).unwrap_or_default() < Duration::from_micros(1), "{at:?}");
        assert_eq!(wishes[..], [set("d", &[("a:b", Number::Int(1)), ("a:c", Number::Int(2))])]);
        for timetag in [OscTime { seconds: 0, fractional: 1 }, OscTime { seconds: 0, fractional: 0 }, OscTime { seconds: 7, fractional: 9 }]
        {
            let read = read(&bytes(&OscPacket::Bundle(OscBundle { timetag, content: content.clone() }))).unwrap();
            assert_eq!(read.due[0].at, None, "at once");
        }
        assert!(due_at(OscTime { seconds: u32::MAX, fractional: u32::MAX }).is_some());
    }

    #[test]
    fn nesting_and_numbers_are_bounded() {
        let timetag = OscTime { seconds: 0, fractional: 1 };
        let nested = |depth| {
            (0..depth)
                .fold(message("/d/a/b", vec![OscType::Int(1)]), |packet, _| OscPacket::Bundle(OscBundle { timetag, content: vec![packet] }))
        };
        assert!(read(&bytes(&nested(MAX_BUNDLE_DEPTH))).is_ok());
        assert_eq!(read(&bytes(&nested(MAX_BUNDLE_DEPTH + 1))), Err(PacketError::Malformed));
        assert_eq!(read(&bytes(&nested(300))), Err(PacketError::Malformed));
        let content = (0..=MAX_MESSAGES).map(|_| message("/d/a/b", vec![OscType::Int(1)])).collect();
        assert_eq!(read(&bytes(&OscPacket::Bundle(OscBundle { timetag, content }))), Err(PacketError::TooMany));
        let mut brackets = b"/a\0\0,".to_vec();
        brackets.extend([b'['; 4_000]);
        brackets.extend([0; 4]);
        assert_eq!(read(&brackets), Err(PacketError::Malformed));
        let many = |count| message("/d/a/b", vec![OscType::Bool(true); count]);
        assert_eq!(wishes(&many(MAX_VALUES)).len(), 1);
        assert_eq!(wishes(&many(MAX_VALUES + 1)), []);
        let both = OscPacket::Bundle(OscBundle { timetag, content: vec![many(MAX_VALUES), many(1)] });
        assert_eq!(wishes(&both).len(), 2, "not set together");
        assert_eq!(read(&vec![b'/'; MAX_PACKET_BYTES + 4]), Err(PacketError::Malformed));
    }

    #[test]
    fn a_hundred_thousand_random_packets_are_read_or_refused() {
        let seed = 0x6f73_6331;
        let mut random = Random::new(seed);
        let timetag = OscTime { seconds: 0, fractional: 1 };
        let inner = OscPacket::Bundle(OscBundle { timetag, content: vec![message("/d/a/b", vec![OscType::Int(1), OscType::Float(0.5)])] });
        let seeds = [
            bytes(&message("/drums/kick/decay", vec![OscType::Float(0.5)])),
            bytes(&message("/subscribe", vec![OscType::String("/d/a/b".to_owned()), OscType::Int(50)])),
            bytes(&message("/d/note", vec![OscType::Int(60), OscType::Int(100)])),
            bytes(&OscPacket::Bundle(OscBundle { timetag, content: vec![inner, message("/panic", vec![])] })),
        ];
        let (mut good, mut bad) = (0, 0);
        for _ in 0..100_000 {
            let mut packet = match random.below(5) {
                0 => (0..random.below(200)).map(|_| random.below(256) as u8).collect(),
                which => seeds[which - 1].clone(),
            };
            for _ in 0..random.below(4) {
                if let Some(last) = packet.len().checked_sub(1) {
                    let at = random.below(last + 1);
                    match random.below(3) {
                        0 => packet[at] = random.below(256) as u8,
                        1 => packet.truncate(at),
                        _ => packet.insert(at, b"#/,[]bif\0"[random.below(9)]),
                    }
                }
            }
            match read(&packet) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
        assert!(good > 10_000 && bad > 10_000, "seed {seed:#x}: {good} good, {bad} bad");
    }
}
