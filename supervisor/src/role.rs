//! The child's side of a start: map the crash page, connect to the supervisor that started us, exchange greetings, give up what
//! the role does not need, become the role.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ipc::channel::{self, Hello, PROTOCOL_VERSION};
use ipc::crash::{self, Phase};
use ipc::message::Role;
use ipc::rendezvous::{Connection, Lifeline, Vigil};
use ipc::segment::SessionId;

use crate::containment::{self, Grants};
use crate::exit;
use crate::session::Membership;

/// Identity of this build; all processes of a session are of the same one.
pub const BUILD: &str = if crash::HAS_FAULTS { concat!(env!("CONTINUO_BUILD"), "-faults") } else { env!("CONTINUO_BUILD") };

/// What a child is told on its command line.
#[derive(clap::Args)]
pub struct Arguments {
    role: String,
    /// Where to connect to.
    doorway: String,
    /// The session's id.
    session: String,
    /// The runtime it is started for.
    #[arg(allow_hyphen_values = true)]
    runtime: Option<String>,
    /// Name of the crash page.
    #[arg(long)]
    page: Option<String>,
    /// A folder it may write files into.
    #[arg(long)]
    writable: Vec<PathBuf>,
    /// How long it plays on when its supervisor has died, in milliseconds.
    #[arg(long, default_value_t = 0)]
    grace_ms: u64,
}

/// Runs this process in a role until its supervisor lets go of it.
pub fn run(arguments: Arguments) -> ExitCode {
    let Some(role) = Role::ALL.into_iter().find(|known| known.name() == arguments.role) else {
        return refuse(&format!("there is no role `{}`", arguments.role));
    };
    let Some(session) = SessionId::parse(&arguments.session) else {
        return refuse(&format!("`{}` does not name a session", arguments.session));
    };
    if let Some(page) = &arguments.page
        && let Err(error) = crash::install(page)
    {
        return refuse(&format!("{}: {error}", role.name()));
    }
    let lifeline = Lifeline::to_parent();
    let Some(membership) = Membership::join(&session) else {
        return refuse(&format!("{}: its session is over", role.name()));
    };
    // Before anything that may crash, and before the engine, which hands on to these handlers.
    containment::crash::install();
    name_process(role);
    if let Some(runtime) = &arguments.runtime {
        crash::set_runtime(runtime);
    }
    let hello = Hello { protocol: PROTOCOL_VERSION, build: BUILD.to_owned(), role };
    let (sender, receiver) = match channel::connect(&arguments.doorway, &hello) {
        Ok(connection) => connection,
        Err(error) => return refuse(&format!("{}: {error}", role.name())),
    };
    let plays_on = arguments.grace_ms > 0 && role != Role::CompilerWorker;
    let period = Duration::from_millis(arguments.grace_ms);
    let grace = plays_on.then(move || Vigil::new(std::env::temp_dir(), hello, period, lifeline).into_grace());
    containment::enter(role, &Grants { writable: arguments.writable });
    crash::phase_rt(Phase::Idle);
    let code = match role {
        Role::CompilerWorker => compiler_worker::run(sender, receiver, session),
        Role::DeviceHost => {
            // Hosts do so themselves, once they are set up.
            runtime_host::realtime::lock_memory();
            runtime_host::device::run_with_grace(Connection { sender, receiver }, session, grace)
        }
        Role::RuntimeHost => runtime_host::host::run_with_grace(Connection { sender, receiver }, session, grace),
    };
    membership.leave();
    code
}

/// Gives the process a name of its own in `top` and `ps`: it was executed as /proc/self/exe.
fn name_process(role: Role) {
    let name = match role {
        Role::CompilerWorker => c"continuo-worker",
        Role::DeviceHost => c"continuo-device",
        Role::RuntimeHost => c"continuo-host",
    };
    let _ = rustix::thread::set_name(name);
}

fn refuse(why: &str) -> ExitCode {
    // Whoever started us may not listen any more.
    let _ = writeln!(std::io::stderr(), "continuo: {why}");
    exit::ENVIRONMENT.into()
}

#[cfg(test)]
#[allow(dead_code, reason = "its tests are run here, and what Cargo runs is not")]
#[path = "../build.rs"]
mod build;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_dies_on_demand_says_so() {
        assert_eq!(BUILD.ends_with("-faults"), crash::HAS_FAULTS);
    }
}
