//! The child's side of a start: connect to the supervisor that started us, exchange greetings, become the role.

use std::process::ExitCode;

use ipc::channel::{self, Hello, PROTOCOL_VERSION};
use ipc::message::Role;
use ipc::segment::SessionId;

use crate::exit;

/// Identity of this build; all processes of a session are of the same one.
pub const BUILD: &str = env!("CONTINUO_BUILD");

/// Runs this process in a role until its supervisor lets go of it. `doorway` and `session` are what the supervisor gave us.
pub fn run(role: &str, doorway: &str, session: &str) -> ExitCode {
    let Some(role) = Role::ALL.into_iter().find(|known| known.name() == role) else {
        return refuse(&format!("there is no role `{role}`"));
    };
    let Some(session) = SessionId::parse(session) else {
        return refuse(&format!("`{session}` does not name a session"));
    };
    name_process(role);
    abort_on_panic();
    let hello = Hello { protocol: PROTOCOL_VERSION, build: BUILD.to_owned(), role };
    let (sender, receiver) = match channel::connect(doorway, &hello) {
        Ok(connection) => connection,
        Err(error) => return refuse(&format!("{}: {error}", role.name())),
    };
    match role {
        Role::CompilerWorker => compiler_worker::run(sender, receiver, session),
        Role::DeviceHost => runtime_host::device::run(sender, receiver, session),
        Role::RuntimeHost => runtime_host::host::run(sender, receiver, session),
    }
}

/// A panic on any thread of a child ends the child: a crash is a case the supervisor handles, half a process is not.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
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
    eprintln!("continuo: {why}");
    exit::ENVIRONMENT.into()
}
