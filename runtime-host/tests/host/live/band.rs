//! Programs for the tests, and what they must sound like.
//!
//! A band is a list of players. Each player counts: `phase` grows by `step` every tick, and element `seat` of the left output
//! is its phase. So every sample that is heard is the state of one item, and one wrong tick of one player shows.

use std::cell::RefCell;

use compiler_worker::native::NativeCompiler;
use ipc::artifact::Artifact;
use ipc::lane::{Block, SILENCE};
use ipc::message::{CompileGoal, CompileRequest};

/// Operations a tick may take: little, so that a runaway is caught soon.
const WORK_BUDGET: u64 = 100_000;

/// What goes wrong in a program, on top of its players.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The n-th tick of the program, from 1, and every one after it divides the smallest integer by -1.
    Overflow(i32),
    /// The n-th tick of the program, from 1, loops for ever.
    Runaway(i32),
    /// The init-only module divides the smallest integer by -1.
    InitOnly,
}

/// One module that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Player {
    pub name: String,
    pub seat: usize,
    pub step: i32,
    pub phase: i32,
    /// Its phase grows by this on top: a change of code.
    pub extra: i32,
    /// Length of an array that it has besides, and never touches.
    pub ballast: usize,
}

/// A program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Band {
    pub players: Vec<Player>,
    pub trouble: Option<Trouble>,
    /// An init-only module counts its runs in seat 127 (by way of a module that plays it).
    pub counts_initialisations: bool,
    /// Directives of the constants block.
    pub config: Vec<String>,
}

pub fn player(name: &str, seat: usize, step: i32) -> Player {
    Player { name: name.to_owned(), seat, step, phase: 0, extra: 0, ballast: 0 }
}

impl Band {
    pub fn of(players: impl IntoIterator<Item = Player>) -> Self {
        Self { players: players.into_iter().collect(), ..Self::default() }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn in_trouble(self, trouble: Trouble) -> Self {
        self.with(|band| band.trouble = Some(trouble))
    }

    pub fn source(&self) -> String {
        let mut text = String::from("8f4e/v1\n\nconstants env\n; @config audioRuntime.audioOutBufferLAddress out:left\n");
        self.config.iter().for_each(|line| text += &format!("; @config {line}\n"));
        text += "const SAMPLE_RATE 48000\nconstantsEnd\n\nentry main\n";
        for player in &self.players {
            text += &module(player);
        }
        if self.counts_initialisations {
            text += "module setup\n#initOnly\nint runs 0\n";
            if self.trouble == Some(Trouble::InitOnly) {
                text += "int least -2147483648\nint q\npush &q\npush least\npush -1\ndiv\nstore\n";
            }
            text += "push &runs\npush runs\npush 1\nadd\nstore\nmoduleEnd\n";
            text += "module register\n";
            text += &play("setup:runs", 127);
            text += "moduleEnd\n";
        }
        text += &self.trouble.map(trouble).unwrap_or_default();
        text += "module out\nfloat[] left 128\nmoduleEnd\nentryEnd\n\nfunction buffer\n#export\ncall main\nfunctionEnd\n";
        if self.config.iter().any(|line| line.ends_with("callback told")) {
            text += "function told\n#export\nparam int status\nparam int first\nparam int second\nfunctionEnd\n";
        }
        text
    }

    pub fn artifact(&self) -> Artifact {
        compile(&self.source())
    }
}

/// Compiles a source text as the worker does.
pub fn compile(source: &str) -> Artifact {
    compile_with_budget(source, WORK_BUDGET)
}

/// The same with another work budget; 0 for none.
pub fn compile_with_budget(source: &str, work_budget: u64) -> Artifact {
    thread_local!(static COMPILER: RefCell<NativeCompiler> = RefCell::default());
    let request = CompileRequest {
        id: 1,
        source: source.as_bytes().to_vec(),
        goal: CompileGoal::Native,
        memory_regions: Vec::new(),
        environment: Vec::new(),
        previous: None,
        work_budget,
        generation: 1,
    };
    let mut artifact = compiler_worker::compile(&request).unwrap_or_else(|error| panic!("{error}\n{source}"));
    artifact.native = COMPILER.with(|compiler| compiler.borrow_mut().compile(&artifact.wasm)).unwrap();
    artifact
}

fn module(player: &Player) -> String {
    let Player { name, seat, step, phase, extra, ballast } = player;
    let ballast = if *ballast > 0 { format!("int[] ballast {ballast}\n") } else { String::new() };
    let extra = if *extra != 0 { format!("push {extra}\nadd\n") } else { String::new() };
    format!("module {name}\n{ballast}int step {step}\nint phase {phase}\npush &phase\npush phase\npush step\nadd\n{extra}store\n")
        + &play("phase", *seat)
        + "moduleEnd\n"
}

/// Puts an integer into element `seat` of the output.
fn play(item: &str, seat: usize) -> String {
    let value = match item.split_once(':') {
        Some(_) => format!("push &{item}\nload\n"),
        None => format!("push {item}\n"),
    };
    format!("push &out:left\npush {}\nadd\n{value}castToFloat\nstore\n", 4 * seat)
}

fn trouble(trouble: Trouble) -> String {
    match trouble {
        Trouble::Overflow(tick) => format!(
            "module trouble\nint x {}\nint q\npush &x\npush x\npush -2147483647\nmax\npush 1\nsub\nstore\npush &q\npush x\npush -1\ndiv\nstore\nmoduleEnd\n",
            i32::MIN + tick
        ),
        Trouble::Runaway(tick) => format!(
            "module trouble\nint fuse {tick}\nint q\npush &fuse\npush fuse\npush 1\nsub\nstore\npush fuse\nequalToZero\nif\n\
             loop 2000000000\npush &q\npush q\npush 1\nadd\nstore\nloopEnd\nifEnd\nmoduleEnd\n"
        ),
        Trouble::InitOnly => String::new(),
    }
}

/// What a band sounds like, tick by tick, and what an edit leaves of it.
#[derive(Clone, Debug)]
pub struct Model {
    pub band: Band,
    /// Phase and step of each player.
    pub state: Vec<(i32, i32)>,
    pub left: [f32; 128],
    pub initialisations: i32,
}

impl Model {
    /// A band that has just been loaded.
    pub fn new(band: &Band) -> Self {
        let state = band.players.iter().map(|player| (player.phase, player.step)).collect();
        let initialisations = i32::from(band.counts_initialisations);
        Self { band: band.clone(), state, left: [0.0; 128], initialisations }
    }

    /// The next tick.
    pub fn tick(&mut self) -> Block {
        for (player, (phase, step)) in self.band.players.iter().zip(&mut self.state) {
            *phase = phase.wrapping_add(*step).wrapping_add(player.extra);
            self.left[player.seat] = *phase as f32;
        }
        if self.band.counts_initialisations {
            self.left[127] = self.initialisations as f32;
        }
        let mut block = SILENCE;
        block[0] = self.left;
        block
    }

    pub fn ticks(&mut self, count: usize) -> Vec<Block> {
        (0..count).map(|_| self.tick()).collect()
    }

    /// Goes on as another band: players of the same name keep their phase, and their step unless its default changed.
    pub fn edit(&mut self, band: &Band) {
        let state = band.players.iter().map(|new| {
            let Some(index) = self.band.players.iter().position(|old| old.name == new.name) else { return (new.phase, new.step) };
            let (old, (phase, step)) = (&self.band.players[index], self.state[index]);
            (if new.phase == old.phase { phase } else { new.phase }, if new.step == old.step { step } else { new.step })
        });
        self.state = state.collect();
        self.band = band.clone();
    }

    pub fn player(&mut self, name: &str) -> &mut (i32, i32) {
        let index = self.band.players.iter().position(|player| player.name == name).unwrap();
        &mut self.state[index]
    }
}
