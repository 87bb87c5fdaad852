//! Where modules go: gaps, growth, the bound on what is left unused, and the language's quirks in another layout.

use ipc::manifest::Manifest;
use ipc::message::CompileRequest;

use crate::support::{Machine, engine, request};
use crate::{address, compile, compiled, module};

fn program(modules: &[(&str, &str)]) -> String {
    let modules = modules.iter().map(|(id, lines)| format!("module {id}\n{lines}moduleEnd\n"));
    format!("8f4e/v1\nentry main\n{}entryEnd\n", modules.collect::<String>())
}

fn after(modules: &[(&str, &str)], previous: &Manifest) -> Manifest {
    compiled(&program(modules), Some(previous)).manifest
}

fn first(modules: &[(&str, &str)]) -> Manifest {
    compiled(&program(modules), None).manifest
}

#[test]
fn a_new_module_fills_the_first_gap_that_is_large_enough() {
    let before = first(&[("a", "int[] x 2\n"), ("b", "int[] x 5\n"), ("c", "int x\n")]);
    let before = after(&[("a", "int[] x 2\n"), ("c", "int x\n")], &before);
    assert_eq!((address(&before, "a"), address(&before, "c")), (4, 32));
    let small = after(&[("a", "int[] x 2\n"), ("c", "int x\n"), ("z", "int[] x 5\n")], &before);
    assert_eq!(address(&small, "z"), 12);
    let large = after(&[("a", "int[] x 2\n"), ("c", "int x\n"), ("z", "int[] x 6\n")], &before);
    assert_eq!(address(&large, "z"), 36);
    assert_eq!((small.memories[0].required_bytes, large.memories[0].required_bytes), (36, 60));
}

#[test]
fn a_module_grows_into_what_is_free_behind_it() {
    let before = first(&[("a", "int x\n"), ("b", "int[] x 4\n"), ("c", "int x\n")]);
    let before = after(&[("a", "int x\n"), ("c", "int x\n")], &before);
    let fits = after(&[("a", "int[] x 5\n"), ("c", "int x\n")], &before);
    assert_eq!((address(&fits, "a"), address(&fits, "c")), (4, 24));
    let too_large = after(&[("a", "int[] x 6\n"), ("c", "int x\n")], &before);
    assert_eq!((address(&too_large, "a"), address(&too_large, "c")), (28, 24));
}

#[test]
fn a_module_that_became_smaller_is_not_grown_over() {
    let before = first(&[("a", "int x\n"), ("b", "int[] x 4\n")]);
    let both = after(&[("a", "int[] x 2\n"), ("b", "int[] x 3\n")], &before);
    assert_eq!((address(&both, "a"), address(&both, "b")), (20, 8));
}

#[test]
fn a_new_module_of_wide_items_is_aligned_as_in_a_fresh_layout() {
    let before = first(&[("a", "int x\n")]);
    let modules = [("a", "int x\n"), ("b", "int x\n"), ("c", "float64 y\n")];
    let relative = after(&modules, &first(&[("a", "int x\n"), ("zz", "int x\n")]));
    // Words: a 1, b 2 as zz left it, c 3 with a word in front for alignment.
    assert_eq!((address(&relative, "b"), address(&relative, "c"), module(&relative, "c").unwrap().words), (8, 12, 3));
    let relative = after(&[("a", "int x\n"), ("c", "float64 y\n")], &before);
    assert_eq!((address(&relative, "c"), module(&relative, "c").unwrap().items[0].byte_address), (8, 8));
}

#[test]
fn memory_that_is_mostly_unused_is_laid_out_afresh() {
    let before = first(&[("a", "int[] x 100000\n"), ("b", "int x\n")]);
    assert_eq!(address(&before, "b"), 400_004);
    let small = after(&[("b", "int x\n")], &before);
    assert_eq!(small, first(&[("b", "int x\n")]));
    let half = after(&[("b", "int x\n"), ("c", "int[] x 60000\n")], &before);
    assert_eq!((address(&half, "b"), address(&half, "c")), (400_004, 4));
}

#[test]
fn a_module_of_another_region_is_another_module() {
    let compiled = |source: &str, regions: &[&str], previous: Option<&Manifest>| {
        let memory_regions = regions.iter().map(|&region| region.to_owned()).collect();
        let previous = previous.map(|manifest| Box::new(manifest.clone()));
        compiler_worker::compile(&CompileRequest { memory_regions, previous, ..request(source) }).unwrap().manifest
    };
    let modules = |region: &str| program(&[("a", "#region fast\nint x\n"), ("b", &format!("#region {region}\nint x\n")), ("c", "int x\n")]);
    let before = compiled(&modules("fast"), &["fast", "slow"], None);
    assert_eq!((module(&before, "b").unwrap().memory, address(&before, "b")), (1, 8));
    let renumbered = compiled(&modules("fast"), &["slow", "fast"], Some(&before));
    assert_eq!((module(&renumbered, "b").unwrap().memory, address(&renumbered, "b")), (2, 8));
    let moved = compiled(&modules("slow"), &["fast", "slow"], Some(&before));
    assert_eq!((module(&moved, "b").unwrap().memory, address(&moved, "b"), address(&moved, "c")), (2, 4, 4));
}

#[test]
fn a_default_behind_the_end_of_all_items_has_room() {
    let full = first(&[("a", "int[] x 16383\n")]);
    assert_eq!((full.memories[0].required_bytes, full.memories[0].pages), (65_536, 1));
    let artifact = compiled(&program(&[("a", "int[] x 16383\nfloat[] none 0\n")]), None);
    let memory = &artifact.manifest.memories[0];
    assert_eq!((memory.required_bytes, memory.pages), (65_536, 2));
    let mut machine = Machine::new(&engine(), &artifact.wasm);
    machine.call("initDefaults").unwrap();
    assert_eq!(machine.memory(0)[65_536..65_540], f32::NAN.to_le_bytes());
}

#[test]
fn an_item_without_size_writes_over_what_follows_it_in_the_language_wherever_that_lies() {
    let modules = [("a", "int x 1\nfloat[] none 0\n"), ("b", "int y 2\nint z 3\n")];
    let value = |manifest: &Manifest, source: &str, item: &str| {
        let artifact = compiled(source, Some(manifest));
        let address = artifact.manifest.item("b", item).unwrap().1.byte_address as usize;
        let mut machine = Machine::new(&engine(), &artifact.wasm);
        machine.call("initDefaults").unwrap();
        (address, u32::from_le_bytes(machine.memory(0)[address..address + 4].try_into().unwrap()))
    };
    let source = program(&modules);
    let fresh = compiled(&source, None).manifest;
    let elsewhere = first(&[("a", "int x 1\nfloat[] none 0\n"), ("aa", "int[] q 3\n"), ("b", "int y 2\nint z 3\n")]);
    let nan = f32::NAN.to_bits();
    assert_eq!([value(&fresh, &source, "y"), value(&fresh, &source, "z")], [(8, nan), (12, 2)]);
    assert_eq!([value(&elsewhere, &source, "y"), value(&elsewhere, &source, "z")], [(20, nan), (24, 2)]);
}

#[test]
fn whether_a_text_is_right_does_not_depend_on_what_ran_before() {
    // Two bytes, the first of which is an address: right as long as that is at most 255.
    let (bytes, number) = (("b", "int y\nint x &y 3\n"), ("b", "int y\nint x 1 3\n"));
    let far = first(&[("a", "int[] room 100\n"), number]);
    let relative = compiled(&program(&[bytes]), Some(&far));
    assert_eq!((address(&relative.manifest, "b"), relative.image[0].bytes[..].to_vec()), (4, vec![0, 0, 3, 4]));
    let near = first(&[bytes]);
    let wrong = program(&[("a", "int[] room 100\n"), bytes]);
    assert!(compile(&wrong, None).is_err() && compile(&wrong, Some(&near)).is_err());
}

#[test]
fn distances_between_modules_are_those_of_the_language() {
    let modules = [("a", "int x\nint distance &b:y-&a:x\n"), ("b", "int y\n")];
    let elsewhere = first(&[("a", "int x\nint distance\n"), ("aa", "int q\n"), ("b", "int y\n")]);
    assert_eq!(after(&modules, &elsewhere), first(&modules));
}

#[test]
fn a_previous_manifest_that_makes_no_sense_does_no_harm() {
    let modules = [("a", "int x 1\nfloat64 w\n"), ("b", "int[] y 7 1\n"), ("c", "int z\n")];
    let source = program(&modules);
    let good = compiled(&source, None).manifest;
    let spoilers: [fn(&mut Manifest); 8] = [
        |manifest| manifest.modules[1].byte_address = manifest.modules[0].byte_address,
        |manifest| manifest.modules[0].byte_address = 0,
        |manifest| manifest.modules.iter_mut().for_each(|module| module.byte_address = u32::MAX),
        |manifest| manifest.modules.iter_mut().for_each(|module| module.words = u32::MAX),
        |manifest| manifest.modules[2].memory = 9,
        |manifest| manifest.memories.clear(),
        |manifest| manifest.modules.iter_mut().flat_map(|module| &mut module.items).for_each(|item| item.initial_bytes = u32::MAX),
        |manifest| manifest.language.clear(),
    ];
    for (index, spoil) in spoilers.into_iter().enumerate() {
        let mut previous = good.clone();
        spoil(&mut previous);
        let artifact = compiled(&source, Some(&previous));
        assert_no_overlap(&artifact.manifest, &format!("{index}"));
    }
}

/// All items lie apart from each other, inside their module and their memory, and none at the null address.
pub fn assert_no_overlap(manifest: &Manifest, context: &str) {
    let mut taken: Vec<(u32, u64, u64)> = Vec::new();
    for module in &manifest.modules {
        let (start, end) = (u64::from(module.byte_address), u64::from(module.byte_address) + 4 * u64::from(module.words));
        assert!(start >= 4 && end <= manifest.memories[module.memory as usize].required_bytes.max(4), "{context}: {}", module.id);
        let mut cursor = start;
        for item in &module.items {
            let item_end = u64::from(item.byte_address) + item.element_bytes();
            assert!(u64::from(item.byte_address) >= cursor && item_end <= end.max(start), "{context}: {}:{}", module.id, item.name);
            assert!(item.byte_address.is_multiple_of(item.element.bytes().max(4)), "{context}: {}:{}", module.id, item.name);
            cursor += 4 * u64::from(item.words);
        }
        assert_eq!(cursor, end, "{context}: {}", module.id);
        if end > start {
            taken.push((module.memory, start, end));
        }
    }
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1), "{context}: {taken:?}");
}
