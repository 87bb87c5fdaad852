//! The command line: one file per command. A command reads its files, opens a session, and listens to what it reports.

mod bounce;
mod check;
mod client;
mod compile;
mod devices;
mod doctor;
mod midi;
mod play;
mod replay;
mod restart_limits;
mod routes;
mod run;
mod session_file;
mod source;
mod up;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::control::{ClientError, ListenError};
use crate::exit;
use crate::policy::Verdict;
use crate::render;
use crate::session::{Audience, ConductError, Job, Session, SessionError, SourceError, conduct};

/// A native live-coding engine: programs in the 8f4e language, each in a process of its own, mixed into one output.
#[derive(Parser)]
#[command(name = "continuo", version, after_help = exit::HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Play(play::Arguments),
    Up(up::Arguments),
    Check(check::Arguments),
    Compile(compile::Arguments),
    Run(run::Arguments),
    Bounce(bounce::Arguments),
    Replay(replay::Arguments),
    Devices(devices::Arguments),
    Doctor(doctor::Arguments),
    #[command(flatten)]
    Client(client::Verb),
    #[command(name = crate::session::ROLE_COMMAND, hide = true)]
    Role(crate::role::Arguments),
}

/// Why a command could not do its work, before or after its session.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    /// The command line or a file it names is not usable.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Conduct(#[from] ConductError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl CommandError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Input(_) | Self::Source(_) => Verdict::Input,
            Self::Client(ClientError::NoSession { .. }) => Verdict::Input,
            // A name that is taken is the user's to change.
            Self::Conduct(ConductError::Control(ListenError::Owned { .. })) => Verdict::Input,
            Self::Session(_) | Self::Conduct(_) | Self::Client(_) => Verdict::Environment,
        }
    }
}

/// Runs the command that the command line names.
pub fn main() -> ExitCode {
    crate::session::die_of_faults();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(answer) => return explain(&answer),
    };
    let outcome = match command {
        Command::Role(arguments) => return crate::role::run(arguments),
        Command::Play(arguments) => play::execute(&arguments),
        Command::Up(arguments) => up::execute(&arguments),
        Command::Check(arguments) => check::execute(&arguments),
        Command::Compile(arguments) => compile::execute(&arguments),
        Command::Run(arguments) => run::execute(&arguments),
        Command::Bounce(arguments) => bounce::execute(&arguments),
        Command::Replay(arguments) => replay::execute(&arguments),
        Command::Devices(arguments) => devices::execute(&arguments),
        Command::Doctor(arguments) => doctor::execute(&arguments),
        Command::Client(verb) => client::execute(&verb),
    };
    let verdict = outcome.unwrap_or_else(|error| {
        render::tell(&format!("error: {error}"));
        error.verdict()
    });
    render::finish();
    let verdict = if render::is_lost() { verdict.max(Verdict::Environment) } else { verdict };
    exit::code(verdict).into()
}

/// Shows what the command line's parser has to say: help or the version as results, mistakes to people.
fn explain(answer: &clap::Error) -> ExitCode {
    let written = answer.print().and_then(|()| std::io::stdout().flush());
    if answer.use_stderr() {
        return exit::code(Verdict::Input).into();
    }
    render::note(written);
    exit::code(if render::is_lost() { Verdict::Environment } else { Verdict::Fine }).into()
}

/// Opens a session and runs a job in it to its end.
fn run_job(job: &Job, audience: &mut dyn Audience) -> Result<Verdict, CommandError> {
    let session = Session::open(job)?;
    Ok(conduct(&session, job, audience)?)
}

/// Checks the files that are to be written before anything is started: each can be, and none is one of the programs that are
/// read, or another one of them.
fn check_outputs(outputs: &[&Path], programs: &[PathBuf]) -> Result<(), CommandError> {
    for (index, output) in outputs.iter().enumerate() {
        check_output(output, programs)?;
        if let Some(other) = outputs.iter().take(index).find(|other| is_same_file(output, other)) {
            let (output, other) = (output.display(), other.display());
            return Err(CommandError::Input(format!("{output} and {other} are one file; each output needs a file of its own")));
        }
    }
    Ok(())
}

/// Whether two paths, of files that exist or not, lead to one file. Devices and pipes hold nothing that could be overwritten.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino()),
        (Err(_), Err(_)) => {
            one.file_name() == other.file_name() && folder_of(one).canonicalize().ok() == folder_of(other).canonicalize().ok()
        }
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// The folder that a file is in or is to be in.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Checks a file that is to be written: its folder must exist, and it must not be one of the programs that are read.
fn check_output(output: &Path, programs: &[PathBuf]) -> Result<(), CommandError> {
    let folder = folder_of(output);
    if !folder.is_dir() {
        return Err(CommandError::Input(format!("{}: the folder {} does not exist", output.display(), folder.display())));
    }
    if output.is_dir() {
        return Err(CommandError::Input(format!("{} is a folder; name a file", output.display())));
    }
    if programs.iter().any(|program| is_same_file(output, program)) {
        return Err(CommandError::Input(format!("{} is the program itself; it would be overwritten", output.display())));
    }
    Ok(())
}

/// A positive, finite number of seconds, at most a day.
fn seconds(text: &str) -> Result<f64, String> {
    const LONGEST_SECONDS: f64 = 86_400.0;
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds, such as 10 or 2.5".to_owned())?;
    if seconds > 0.0 && seconds <= LONGEST_SECONDS { Ok(seconds) } else { Err("it must be more than 0 and at most 86400".to_owned()) }
}

/// How long a session plays on without its supervisor: at most a day; 0 is not at all.
fn grace(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds, such as 30".to_owned())?;
    if (0.0..=MAX_GRACE_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("it must be 0 to {MAX_GRACE_SECONDS} seconds"))
    }
}

/// Where to listen for OSC: `ADDRESS:PORT`, or a port of this machine alone.
fn osc_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| text.parse().map_err(|_| "it must be a port, such as 9000, or an address, such as 0.0.0.0:9000".to_owned()))
}

/// Longest grace period in seconds: nobody wants to hear it for longer than a day.
const MAX_GRACE_SECONDS: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_those_who_take_limits_on_restarts_says_how_high_they_may_be() {
        for name in ["play", "up"] {
            let mut command = Cli::command();
            let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            let (deaths, seconds) = (restart_limits::MAX_DEATHS, restart_limits::MAX_WINDOW_SECONDS);
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(help.contains(&format!("At most {deaths} deaths each, and 1 to {seconds} seconds")), "{help}");
        }
    }

    #[test]
    fn every_command_teaches_with_an_example_and_every_argument_says_what_it_is() {
        let cli = Cli::command();
        let shown = cli.get_subcommands().filter(|command| !command.is_hide_set());
        for command in shown {
            let name = command.get_name();
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.starts_with("Example") && example.contains(&format!("continuo {name}")), "`{name}` shows no example");
            let mute: Vec<_> = command.get_arguments().filter(|argument| argument.get_help().is_none()).map(clap::Arg::get_id).collect();
            assert!(command.get_about().is_some() && mute.is_empty(), "`{name}` does not say what these are: {mute:?}");
        }
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert_eq!(seconds("2.5"), Ok(2.5));
        for wrong in ["0", "-1", "nan", "inf", "86401", "x", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_grace_period_is_none_or_finite() {
        assert_eq!((grace("0"), grace("0.5")), (Ok(Duration::ZERO), Ok(Duration::from_millis(500))));
        for wrong in ["-1", "nan", "inf", "86401", "x", ""] {
            assert!(grace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_alone_is_one_of_this_machine() {
        assert_eq!(osc_address("9000"), Ok(SocketAddr::from(([127, 0, 0, 1], 9000))));
        assert_eq!(osc_address("0.0.0.0:1"), Ok(SocketAddr::from(([0, 0, 0, 0], 1))));
        assert!(osc_address("[::1]:9000").is_ok());
        for wrong in ["", "localhost", "70000", "127.0.0.1", "1.2.3.4:x"] {
            assert!(osc_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_outputs_are_two_files() {
        let folder = std::env::temp_dir();
        let (same, other) = (folder.join("continuo-same"), folder.join("continuo-other"));
        let again = folder.join(".").join("continuo-same");
        let refused = check_outputs(&[&other, &same, &again], &[]).unwrap_err();
        assert!(refused.to_string().contains("continuo-same") && refused.verdict() == Verdict::Input, "{refused}");
        assert!(check_outputs(&[&same, &other], &[]).is_ok());
        assert!(check_outputs(&[Path::new("/dev/null"), Path::new("/dev/null")], &[]).is_ok());
    }

    #[test]
    fn an_output_that_is_a_program_is_refused() {
        let program = std::env::temp_dir().join(format!("continuo-output-test-{}.8f4e", std::process::id()));
        std::fs::write(&program, "8f4e/v1\n").unwrap();
        assert!(check_output(&program, std::slice::from_ref(&program)).is_err());
        assert!(check_output(&program.with_extension("wav"), std::slice::from_ref(&program)).is_ok());
        assert!(check_output(Path::new("/nowhere/at/all.wav"), &[]).is_err());
        let link = program.with_extension("link");
        std::fs::hard_link(&program, &link).unwrap();
        assert!(check_output(&link, std::slice::from_ref(&program)).is_err(), "under another name");
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_file(&program).unwrap();
    }
}
