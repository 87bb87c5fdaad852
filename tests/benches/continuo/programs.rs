//! The programs that are measured, and the ways to get from their text to something that runs.

use std::fs;
use std::path::{Path, PathBuf};

use compiler_worker::native::NativeCompiler;
use ipc::artifact::Artifact;
use ipc::limits::{BLOCK_FRAMES, LANE_CHANNELS};
use ipc::message::{CompileGoal, CompileRequest};
use runtime_host::host::assets;
use runtime_host::host::engine::{Engine, FunctionImports, Loader};
use runtime_host::host::live::layouts::FIRST_LAYOUT;
use runtime_host::host::program::Program;
use runtime_host::registry::{self, RuntimeType};

use crate::generate;

// The compiler's test oracle: the language's own lowering, without any optimisation. What it makes of the bench programs is
// byte for byte what the reference compiler makes of them, so for other programs it stands in for it.
#[path = "../../../compiler-worker/tests/support/plain.rs"]
#[allow(dead_code, clippy::pedantic)]
mod plain;

/// Operations that one tick may take; what `continuo play` asks the compiler for.
const WORK_BUDGET: u64 = 1 << 24;

/// A program to measure.
pub struct Text {
    pub name: String,
    pub source: String,
    /// Folder that relative asset paths start from.
    base_directory: PathBuf,
    /// What the reference compiler makes of it, where that is part of the project.
    reference: Option<PathBuf>,
}

impl Text {
    fn read(path: &Path) -> Self {
        let source = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let base_directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        let reference = Some(path.with_extension("reference.wasm")).filter(|path| path.exists());
        Self { name, source, base_directory, reference }
    }

    /// A program that no file holds.
    pub fn of(name: &str, source: String) -> Self {
        Self { name: name.to_owned(), source, base_directory: PathBuf::from("."), reference: None }
    }

    fn generated(lines: usize, modules: usize) -> Self {
        let name = format!("generated, {modules} modules");
        Self { name, source: generate::program(lines, modules), base_directory: PathBuf::from("."), reference: None }
    }

    pub fn lines(&self) -> usize {
        self.source.lines().count()
    }

    /// Lines that hold more than a comment.
    pub fn code_lines(&self) -> usize {
        self.source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(';')).count()
    }

    pub fn request(&self) -> CompileRequest {
        request(&self.source)
    }

    /// The artifact as the worker hands it over, native code included.
    pub fn artifact(&self) -> Artifact {
        let mut artifact = compiler_worker::compile(&self.request()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        artifact.native = NativeCompiler::default().compile(&artifact.wasm).expect("valid wasm has native code");
        artifact
    }

    /// The reference's WebAssembly of it, or what stands in for that.
    pub fn reference_wasm(&self) -> Vec<u8> {
        match &self.reference {
            Some(path) => fs::read(path).expect("the reference's wasm can be read"),
            None => plain::compile(&self.source, &[]).expect("a program that compiles has a plain lowering"),
        }
    }
}

/// A request for wasm, as `continuo play` makes it.
pub fn request(source: &str) -> CompileRequest {
    CompileRequest {
        id: 1,
        source: source.as_bytes().to_vec(),
        goal: CompileGoal::Native,
        memory_regions: Vec::new(),
        environment: Vec::new(),
        previous: None,
        work_budget: WORK_BUDGET,
        generation: 1,
    }
}

/// A program ready to tick, with what its runtime type says about it.
pub struct Ready {
    pub program: Program,
    pub runtime_type: &'static RuntimeType,
}

impl Ready {
    /// The way of a host's control thread from a checked artifact to the first tick.
    pub fn new(loader: &Loader, artifact: &Artifact, base_directory: &Path) -> Self {
        let mut engine: Engine = loader.load_checked(artifact, FunctionImports::Refused).expect("the artifact is in order");
        let settings = registry::settings(engine.manifest());
        let runtime_type = registry::resolve(settings.requested_runtime(), registry::audio::TYPE.id).runtime_type;
        assert!(engine.initialise().is_ok(), "its defaults can be set");
        assert!(assets::load(&mut engine, &settings, base_directory).is_ok(), "its assets are there");
        let binding = (runtime_type.bind)(runtime_type, &settings, &engine);
        Self { program: Program::new(engine, binding, FIRST_LAYOUT, None), runtime_type }
    }

    /// The same for a text.
    pub fn of(loader: &Loader, text: &Text) -> Self {
        Self::new(loader, &text.artifact(), &text.base_directory)
    }

    /// One tick as the tick thread does it, apart from where its output goes: it is copied out, checked and dropped.
    pub fn tick(&mut self) {
        assert!(self.program.tick_rt().is_ok(), "the program runs");
        if self.runtime_type.id == registry::audio::TYPE.id {
            let mut output = [0.0; BLOCK_FRAMES];
            for channel in 0..LANE_CHANNELS {
                std::hint::black_box(self.program.read_output_rt(channel, &mut output));
            }
            std::hint::black_box(&output);
        }
    }

    /// Time that one tick may take, in nanoseconds.
    pub fn tick_ns(&self) -> f64 {
        let frames = if self.runtime_type.id == registry::audio::TYPE.id { BLOCK_FRAMES } else { 1 };
        frames as f64 * 1e9 / f64::from(self.runtime_type.default_sample_rate_hz)
    }
}

impl Text {
    /// The way of a host's control thread from this text's checked artifact to the first tick.
    pub fn ready(&self, loader: &Loader, artifact: &Artifact) -> Ready {
        Ready::new(loader, artifact, &self.base_directory)
    }
}

/// The examples, in the order of their names.
pub fn examples() -> Vec<Text> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).expect("there are examples").flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "8f4e"));
    paths.sort();
    paths.iter().map(|path| Text::read(path)).collect()
}

/// The programs that other engines have versions of.
pub fn workloads() -> Vec<Text> {
    ["voices8", "voices64", "freeverb"].into_iter().map(workload).collect()
}

/// A short program: one sine, 22 lines.
pub fn sine() -> Text {
    workload("sine")
}

/// Programs of the sizes that the reference's compile times are known for.
pub fn generated() -> Vec<Text> {
    vec![Text::generated(1_000, 28), Text::generated(4_300, 122)]
}

/// A file of `tests/bench`.
pub fn workload(name: &str) -> Text {
    Text::read(&workload_path(name, "8f4e"))
}

pub fn workload_path(name: &str, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(name).with_extension(extension)
}
