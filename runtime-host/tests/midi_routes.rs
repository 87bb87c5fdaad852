//! The MIDI directives of real programs, as the compiler describes them: which routes there are, and what is told of those
//! that cannot be.

use ipc::manifest::Manifest;
use ipc::message::{CompileGoal, CompileRequest};
use runtime_host::registry::midi::inputs::InputRoute;
use runtime_host::registry::midi::routes::{OutputRoute, Sends, inputs, outputs};
use runtime_host::registry::settings;

fn manifest(comments: &str) -> Manifest {
    let source = format!(
        "8f4e/v1\nentry main\nmodule m\n{comments}\nint gate\nint note 60\nint velocity 90\nint channel 2\n\
         int* away &other:note\nint* nowhere\nmoduleEnd\nmodule other\nint8u[] pad 2\nint note 72\nmoduleEnd\nentryEnd\n"
    );
    let request = CompileRequest {
        id: 1,
        source: source.into_bytes(),
        goal: CompileGoal::Wasm,
        memory_regions: Vec::new(),
        environment: Vec::new(),
        previous: None,
        work_budget: 0,
        generation: 1,
    };
    compiler_worker::compile(&request).unwrap().manifest
}

fn only(comments: &str) -> OutputRoute {
    let (routes, bad) = outputs(&manifest(comments));
    assert_eq!(bad, []);
    let [route] = routes[..] else { panic!("{routes:?}") };
    route
}

#[test]
fn a_route_has_the_items_of_its_module() {
    let manifest = manifest("; ~midiNoteOutput gate note channel velocity");
    let (routes, _) = outputs(&manifest);
    let Sends::Note { gate, note, velocity, port } = routes[0].sends else { panic!("{routes:?}") };
    let address = |item| manifest.item("m", item).unwrap().1.byte_address;
    assert_eq!(gate.place.byte_address, address("gate"));
    assert_eq!(note.place.byte_address, address("note"));
    assert_eq!(velocity.unwrap().place.byte_address, address("velocity"));
    assert_eq!(routes[0].channel.unwrap().place.byte_address, address("channel"));
    assert_eq!(port, None);
}

#[test]
fn a_pointer_is_followed_once() {
    let manifest = manifest("; @midiNoteOutput gate away");
    let Sends::Note { note, .. } = outputs(&manifest).0[0].sends else { panic!() };
    let target = manifest.item("other", "note").unwrap().1;
    assert_eq!((note.place.byte_address, note.element), (target.byte_address, target.element));
}

#[test]
fn routes_that_say_the_same_have_names_of_their_own_and_keep_them() {
    let one = only("; ~midiNoteOutput gate note");
    let (two, _) = outputs(&manifest("; ~midiCCOutput note channel\n; ~midiNoteOutput gate note\n; ~midiNoteOutput gate note"));
    assert_eq!(two[1].key, one.key, "whatever stands before it");
    assert_ne!(two[2].key, one.key);
}

#[test]
fn inputs_have_the_items_of_their_module_and_bad_ones_are_told() {
    let manifest = manifest("; ~midiNoteInput gate away channel velocity\n; ~midiCCInput nothing note\n; ~midiCCInput note channel");
    let (routes, bad) = inputs(&manifest);
    let address = |module, item| manifest.item(module, item).unwrap().1.byte_address;
    let [InputRoute::Note { gate, note, channel, velocity, port: None }, InputRoute::Controller { selected, value, channel: None }] =
        routes[..]
    else {
        panic!("{routes:?}")
    };
    let found = [Some(gate), Some(note), channel, velocity, Some(selected), Some(value)].map(|source| source.unwrap().place.byte_address);
    let items = [("m", "gate"), ("other", "note"), ("m", "channel"), ("m", "velocity"), ("m", "note"), ("m", "channel")];
    assert_eq!(found, items.map(|(module, item)| address(module, item)));
    assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [5]);
}

#[test]
fn callbacks_that_cannot_be_called_are_told_with_their_line() {
    let manifest =
        manifest("; @config midi.inputs.a.port 0\n; @config midi.inputs.a.callback nobody\n; @config midi.inputs.b.callback main");
    let warnings: Vec<(u32, String)> = settings(&manifest).warnings.into_iter().map(|warning| (warning.line, warning.message)).collect();
    assert_eq!(warnings, [(5, "the program has no export `nobody`; it is left out".to_owned())], "a binding without a port is none");
}

#[test]
fn a_route_without_its_items_is_told_with_its_line_and_left_out() {
    let manifest = manifest("; ~midiNoteOutput gate nothing\n; ~midiCCOutput nowhere channel\n; ~midiNoteOutput gate note");
    let (routes, bad) = outputs(&manifest);
    assert_eq!(routes.len(), 1);
    assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [4, 5]);
    let warnings = settings(&manifest).warnings;
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].message.contains("`nothing`, which is not an item of the module `m`"), "{}", warnings[0].message);
}
