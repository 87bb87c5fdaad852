//! From a request to run a program to all that its tick thread needs: artifact, engine, initial state, runtime.

use std::sync::Once;

use ipc::artifact::{Artifact, DefaultBytes};
use ipc::message::{HostReply, Refusal, StartRuntime};

use ipc::segment::SessionId;

use super::assets;
use super::engine::{Engine, FunctionImports, LoadError, Loader};
use super::failure::Failure;
use super::live::layouts::FIRST_LAYOUT;
use super::live::prepare::open_state;
use super::program::Program;
use crate::realtime::flush_denormals;
use crate::registry::runtime::{Assembly, Runtime};
use crate::registry::{self, RuntimeType};

/// Whether the process has had its first trap; see [`Loader::rehearse_trap`].
static REHEARSED: Once = Once::new();

/// A runtime that is ready to tick.
pub struct Prepared {
    pub runtime_type: &'static RuntimeType,
    pub runtime: Box<dyn Runtime>,
    pub program: Box<Program>,
    /// What its memories start from.
    pub image: Vec<DefaultBytes>,
}

/// Prepares a runtime: loads its artifact, initialises its memory, fills in its assets, binds it to its type. `reply` is
/// told when the artifact's segment may go and what the performer should know.
///
/// Programs run on the calling thread here (defaults and init-only modules), so it needs a stack for them.
pub fn prepare(loader: &Loader, session: &SessionId, start: &StartRuntime, reply: &mut dyn FnMut(HostReply)) -> Result<Prepared, Refusal> {
    let runtime_type = find_type(&start.runtime_type)?;
    let artifact = Artifact::read(&start.artifact).map_err(|e| LoadError::from(e).to_refusal())?;
    reply(HostReply::Loaded { segment: start.artifact.name.clone() });
    rehearse(&artifact);
    let mut engine = loader.load_checked(&artifact, FunctionImports::Refused).map_err(|e| e.to_refusal())?;
    let settings = registry::settings(engine.manifest());
    initialise(&mut engine, runtime_type)?;
    assets::load(&mut engine, &settings, &start.base_directory)?;
    let binding = (runtime_type.bind)(runtime_type, &settings, &engine);
    if binding.export.is_none() {
        reply(HostReply::Log { runtime: start.runtime.clone(), line: nothing_to_call(runtime_type) });
    }
    let state = start.state.as_ref().map(|state| open_state(state, session, engine.manifest())).transpose()?;
    let runtime = (runtime_type.build)(&Assembly { start, resume: None }).map_err(|e| plain_refusal(e.to_string()))?;
    let program = Box::new(Program::new(engine, binding, FIRST_LAYOUT, state));
    Ok(Prepared { runtime_type, runtime, program, image: artifact.image })
}

/// The runtime type of this name.
pub fn find_type(name: &str) -> Result<&'static RuntimeType, Refusal> {
    registry::find(name).ok_or_else(|| plain_refusal(format!("there is no runtime type `{name}` in this build")))
}

/// Has the process's first trap behind it, if it has not been yet.
pub fn rehearse(artifact: &Artifact) {
    REHEARSED.call_once(|| {
        Loader::rehearse_trap(artifact);
    });
}

/// Fills the memories with their defaults and runs the init-only modules.
pub fn initialise(engine: &mut Engine, runtime_type: &RuntimeType) -> Result<(), Refusal> {
    // As later on the tick thread, so that what runs at the start computes the same numbers.
    let _flushed = runtime_type.flushes_denormals.then(flush_denormals);
    engine.initialise().map_err(|failure| initialisation_refusal(failure, engine))
}

/// A refusal because the machine lacks something; the program is not to blame.
pub fn machine_refusal(message: String) -> Refusal {
    Refusal { is_machine: true, ..plain_refusal(message) }
}

/// A refusal that blames no line.
pub fn plain_refusal(message: String) -> Refusal {
    Refusal { message, line: None, is_damaged: false, is_machine: false }
}

fn initialisation_refusal(failure: Failure, engine: &Engine) -> Refusal {
    let fault = failure.to_fault(engine.manifest(), 0, 0);
    let message = format!("the program failed while it was initialised: {}", fault.kind.explanation());
    Refusal { message, line: fault.line, is_damaged: false, is_machine: false }
}

/// Says that a program has no export that its runtime type calls.
pub fn nothing_to_call(ty: &RuntimeType) -> String {
    format!(
        "the program has no export `{}` that can be called without arguments, so the runtime `{}` runs nothing of it",
        ty.tick_export, ty.id
    )
}
