//! SESSION.toml: what a session is set up with. Every mistake is told with its line; nothing is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc::limits::{DEFAULT_LEAD_BLOCKS, MAX_LEAD_BLOCKS, MAX_WIRES, SAMPLE_RATE_RANGE_HZ};
use ipc::midi::Ports;
use runtime_host::device::midi::input::{PORTS, score};
use serde::Deserialize;
use toml::Spanned;

use super::midi::TempoChoice;
use super::restart_limits::RestartsTable;
use crate::control::SessionName;
use crate::control::protocol::{Channels, MAX_GAIN, RuntimeName, WireEnd};
use crate::policy::RestartLimits;
use crate::policy::routes::{DEVICE_INPUT, Route};

/// How long everything plays on without its supervisor when the file does not say otherwise (DESIGN §10).
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Runtime types that can be the default.
const RUNTIME_TYPES: [&str; 4] = ["audio", "midi", "worker", "main"];

/// When changes wait for an acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledge {
    /// Those of class C.
    #[default]
    ClassC,
    /// All that lose any state.
    AnyLoss,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<Spanned<String>>,
    sample_rate: Option<Spanned<u32>>,
    lead: Option<Spanned<u32>>,
    device: Option<String>,
    default_runtime: Option<Spanned<String>>,
    #[serde(default)]
    acknowledge: Acknowledge,
    recording: Option<PathBuf>,
    stems: Option<PathBuf>,
    tapes: Option<PathBuf>,
    #[serde(default)]
    midi_in: Vec<Spanned<String>>,
    #[serde(default)]
    midi_out: Vec<Spanned<String>>,
    tempo: Option<Spanned<toml::Value>>,
    #[serde(default)]
    clock_out: bool,
    grace: Option<Spanned<f64>>,
    restarts: Option<Spanned<RestartsTable>>,
    osc: Option<Spanned<toml::Value>>,
    #[serde(default)]
    wires: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    runtime: Vec<RuntimeEntry>,
    #[serde(default)]
    route: Vec<RouteEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeEntry {
    name: Spanned<String>,
    file: Spanned<PathBuf>,
    gain: Option<Spanned<f64>>,
    output: Option<Spanned<String>>,
    #[serde(default)]
    mute: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteEntry {
    from: Spanned<String>,
    to: Spanned<String>,
    #[serde(default)]
    only: bool,
}

/// A session file that has been read and checked.
#[derive(Debug)]
pub struct SessionFile {
    pub name: Option<SessionName>,
    pub sample_rate: Option<u32>,
    pub lead: u32,
    pub device: Option<String>,
    pub default_runtime: Option<String>,
    pub acknowledge: Acknowledge,
    /// Where the sound is recorded from the start on.
    pub recording: Option<PathBuf>,
    /// Where each runtime is.
    pub stems: Option<PathBuf>,
    /// Where recordings may be begun later.
    pub tapes: Option<PathBuf>,
    /// What MIDI comes from and goes to.
    pub midi: Ports,
    pub tempo: Option<TempoChoice>,
    /// Whether MIDI clock goes out.
    pub clock_out: bool,
    /// How long everything plays on without its supervisor.
    pub grace: Duration,
    /// How often processes may die before they are left alone.
    pub restart_limits: RestartLimits,
    /// Where to listen for OSC.
    pub osc: Option<SocketAddr>,
    /// Which item follows which.
    pub wires: Vec<(WireEnd, WireEnd)>,
    pub runtimes: Vec<FileRuntime>,
    /// Who listens to whom.
    pub routes: Vec<Route>,
}

/// One runtime of a session file.
#[derive(Debug)]
pub struct FileRuntime {
    pub name: String,
    /// Relative paths start from the session file's folder.
    pub file: PathBuf,
    pub gain: f64,
    pub is_muted: bool,
    /// Channels of the device.
    pub output: Channels,
}

impl Default for SessionFile {
    /// What a session without a file is set up with.
    fn default() -> Self {
        Self {
            name: None,
            sample_rate: None,
            lead: DEFAULT_LEAD_BLOCKS,
            device: None,
            default_runtime: None,
            acknowledge: Acknowledge::default(),
            recording: None,
            stems: None,
            tapes: None,
            midi: Ports::default(),
            tempo: None,
            clock_out: false,
            grace: DEFAULT_GRACE,
            restart_limits: RestartLimits::default(),
            osc: None,
            wires: Vec::new(),
            runtimes: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// What is wrong with a session file, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {message}", path.display())]
pub struct SessionFileError {
    pub path: PathBuf,
    /// From 1.
    pub line: usize,
    pub message: String,
}

/// Reads the text of a session file at `path`.
pub fn parse(path: &Path, text: &str) -> Result<SessionFile, SessionFileError> {
    let line_of = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let wrong = |offset: usize, message: String| SessionFileError { path: path.to_owned(), line: line_of(offset), message };
    let file: File = toml::from_str(text).map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let name = file.name.as_ref().map(|name| SessionName::new(name.get_ref()).map_err(|error| wrong(name.span().start, error.to_string())));
    if let Some(rate) = &file.sample_rate
        && !SAMPLE_RATE_RANGE_HZ.contains(rate.get_ref())
    {
        let range = (SAMPLE_RATE_RANGE_HZ.start(), SAMPLE_RATE_RANGE_HZ.end());
        return Err(wrong(rate.span().start, format!("sample_rate must be {} to {} Hz", range.0, range.1)));
    }
    if let Some(lead) = &file.lead
        && !(1..=MAX_LEAD_BLOCKS).contains(lead.get_ref())
    {
        return Err(wrong(lead.span().start, format!("lead must be 1 to {MAX_LEAD_BLOCKS} blocks")));
    }
    if let Some(default) = &file.default_runtime
        && !RUNTIME_TYPES.contains(&default.get_ref().as_str())
    {
        return Err(wrong(default.span().start, format!("default_runtime must be one of {}", RUNTIME_TYPES.join(", "))));
    }
    let grace = match &file.grace {
        Some(grace) => super::grace(&grace.get_ref().to_string()).map_err(|why| wrong(grace.span().start, format!("grace: {why}")))?,
        None => DEFAULT_GRACE,
    };
    let restart_limits = match &file.restarts {
        Some(table) => table.get_ref().limits().map_err(|why| wrong(table.span().start, format!("restarts: {why}")))?,
        None => RestartLimits::default(),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    for names in [&file.midi_in, &file.midi_out] {
        if let Some(first_too_many) = names.get(PORTS) {
            return Err(wrong(first_too_many.span().start, format!("there are {PORTS} MIDI ports each way")));
        }
    }
    for name in &file.midi_in {
        super::midi::check_loop(name.get_ref()).map_err(|why| wrong(name.span().start, format!("midi_in: {why}")))?;
    }
    let from_folder = |name: &String| if score::is_file(name) { folder.join(name).display().to_string() } else { name.clone() };
    let midi = Ports {
        inputs: file.midi_in.iter().map(|name| from_folder(name.get_ref())).collect(),
        outputs: file.midi_out.iter().map(|name| name.get_ref().clone()).collect(),
        ..Ports::default()
    };
    let tempo = file.tempo.as_ref().map(|tempo| {
        // A number, or a word.
        let text = tempo.get_ref().as_str().map_or_else(|| tempo.get_ref().to_string(), str::to_owned);
        TempoChoice::parse(&text).map_err(|why| wrong(tempo.span().start, format!("tempo: {why}")))
    });
    let mut names = BTreeSet::new();
    let mut runtimes = Vec::new();
    for entry in &file.runtime {
        let name = entry.name.get_ref().clone();
        RuntimeName::new(name.clone()).map_err(|error| wrong(entry.name.span().start, error.to_string()))?;
        if !names.insert(name.clone()) {
            return Err(wrong(entry.name.span().start, format!("there is a runtime `{name}` already; each needs a name of its own")));
        }
        let gain = entry.gain.as_ref().map_or(1.0, |gain| *gain.get_ref());
        if !(0.0..=MAX_GAIN).contains(&gain) {
            return Err(wrong(entry.gain.as_ref().map_or(0, |gain| gain.span().start), format!("gain must be 0 to {MAX_GAIN}")));
        }
        let output = entry
            .output
            .as_ref()
            .map(|output| Channels::new(output.get_ref()).map_err(|error| wrong(output.span().start, format!("output: {error}"))));
        let output = output.transpose()?.unwrap_or(Channels::MAIN);
        let file = folder.join(entry.file.get_ref());
        if !file.is_file() {
            return Err(wrong(entry.file.span().start, format!("there is no file {}", file.display())));
        }
        runtimes.push(FileRuntime { name, file, gain, is_muted: entry.mute, output });
    }
    let mut routes: Vec<Route> = Vec::new();
    for entry in file.route {
        for end in [&entry.from, &entry.to] {
            let is_device = std::ptr::eq(end, &entry.from) && end.get_ref() == DEVICE_INPUT;
            if !is_device && !names.contains(end.get_ref()) {
                return Err(wrong(end.span().start, format!("there is no runtime `{}` in this file", end.get_ref())));
            }
        }
        let start = entry.from.span().start;
        let route = Route { from: entry.from.into_inner(), to: entry.to.into_inner(), is_only: entry.only };
        super::routes::check_new(&route, &routes).map_err(|why| wrong(start, why))?;
        routes.push(route);
    }
    let osc = file.osc.as_ref().map(|osc| osc_of(osc.get_ref()).map_err(|why| wrong(osc.span().start, format!("osc: {why}"))));
    if file.wires.len() > MAX_WIRES {
        return Err(wrong(0, format!("wires: a session has {MAX_WIRES} at most")));
    }
    let end = |text: &Spanned<String>| {
        let end =
            WireEnd::parse(text.get_ref()).map_err(|error| wrong(text.span().start, format!("wires: `{}`: {error}", text.get_ref())))?;
        if names.contains(end.runtime.as_str()) {
            return Ok(end);
        }
        Err(wrong(text.span().start, format!("wires: the file has no runtime `{}`", end.runtime)))
    };
    let wire = |(to, from): (&Spanned<String>, &Spanned<String>)| {
        let (to_end, from_end) = (end(to)?, end(from)?);
        if to_end == from_end {
            return Err(wrong(to.span().start, format!("wires: `{to_end}` cannot follow itself; name the item that it is to follow")));
        }
        Ok((to_end, from_end))
    };
    let (osc, wires) = (osc.transpose()?, file.wires.iter().map(wire).collect::<Result<_, _>>()?);
    Ok(SessionFile {
        name: name.transpose()?,
        sample_rate: file.sample_rate.map(Spanned::into_inner),
        lead: file.lead.map_or(DEFAULT_LEAD_BLOCKS, Spanned::into_inner),
        device: file.device,
        default_runtime: file.default_runtime.map(Spanned::into_inner),
        acknowledge: file.acknowledge,
        recording: file.recording.map(|recording| folder.join(recording)),
        stems: file.stems.map(|stems| folder.join(stems)),
        tapes: file.tapes.map(|tapes| folder.join(tapes)),
        midi,
        tempo: tempo.transpose()?,
        clock_out: file.clock_out,
        grace,
        restart_limits,
        osc,
        wires,
        runtimes,
        routes,
    })
}

/// A port, or an address in a string.
fn osc_of(value: &toml::Value) -> Result<SocketAddr, String> {
    match value {
        toml::Value::String(text) => super::osc_address(text),
        other => super::osc_address(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_file_says_everything_a_session_needs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("drums.8f4e"), "8f4e/v1\n").unwrap();
        let text = "name = \"gig\"\nsample_rate = 44100\nlead = 8\ndevice = \"null\"\nacknowledge = \"any-loss\"\n\n\
                    [[runtime]]\nname = \"drums\"\nfile = \"drums.8f4e\"\ngain = 0.5\nmute = true\noutput = \"3-4\"\n\
                    [[route]]\nfrom = \"@input\"\nto = \"drums\"\nonly = true\n";
        let session = parse(&folder.path().join("SESSION.toml"), text).unwrap();
        assert_eq!((session.sample_rate, session.lead, session.acknowledge), (Some(44_100), 8, Acknowledge::AnyLoss));
        assert_eq!(session.runtimes[0].file, folder.path().join("drums.8f4e"));
        assert_eq!(session.routes, [Route { from: "@input".to_owned(), to: "drums".to_owned(), is_only: true }]);
        assert!(session.runtimes[0].is_muted && session.runtimes[0].gain == 0.5);
        assert_eq!(session.runtimes[0].output, Channels { left: 3, right: 4 });
    }

    #[test]
    fn a_session_file_names_midi_ports_and_files_beside_it() {
        let text = "midi_in = [\"keystation\", \"tune.mid\", \"loop\"]\nmidi_out = [\"synth\"]\n";
        let midi = parse(Path::new("/music/SESSION.toml"), text).unwrap().midi;
        assert_eq!(midi.inputs, ["keystation", "/music/tune.mid", "loop"]);
        assert_eq!(midi.outputs, ["synth"]);
    }

    #[test]
    fn a_session_file_says_how_fast_it_goes_and_who_follows() {
        let read = |text| parse(Path::new("SESSION.toml"), text).map(|session| (session.tempo, session.clock_out)).unwrap();
        assert_eq!(read("lead = 4\n"), (None, false));
        assert_eq!(read("tempo = 174\nclock_out = true\n"), (Some(TempoChoice::Beats(174.0)), true));
        assert_eq!(read("tempo = 99.5\n"), (Some(TempoChoice::Beats(99.5)), false));
        assert_eq!(read("tempo = \"midi\"\n"), (Some(TempoChoice::Midi), false));
    }

    #[test]
    fn a_session_file_says_how_many_deaths_are_borne() {
        let read = |text| parse(Path::new("SESSION.toml"), text).unwrap().restart_limits;
        assert_eq!(read("lead = 4\n"), RestartLimits::default());
        let limits = read("[restarts]\nruntime = 2\nsession = 9\nseconds = 60\n");
        assert_eq!((limits.of_one.deaths, limits.of_one.window_ms), (2, 60_000));
        assert_eq!((limits.of_session.deaths, limits.of_session.window_ms), (9, 60_000));
        assert_eq!(read("[restarts]\nruntime = 2\n").of_session, RestartLimits::default().of_session);
    }

    #[test]
    fn a_session_file_says_where_osc_comes_in_and_which_item_follows_which() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.8f4e"), "8f4e/v1\n").unwrap();
        let runtimes = ["drums", "my visuals"].map(|name| format!("[[runtime]]\nname = \"{name}\"\nfile = \"a.8f4e\"\n"));
        let text = format!("osc = 9000\n{}\n[wires]\n\"my visuals.energy\" = \"drums.env:out\"\n", runtimes.concat());
        let path = folder.path().join("SESSION.toml");
        let session = parse(&path, &text).unwrap();
        assert_eq!(session.osc, Some(SocketAddr::from(([127, 0, 0, 1], 9_000))));
        let shown: Vec<_> = session.wires.iter().map(|(to, from)| (to.to_string(), from.to_string())).collect();
        assert_eq!(shown, [("my visuals.energy".to_owned(), "drums.env:out".to_owned())]);
        let named = parse(&path, "osc = \"0.0.0.0:9001\"\n").unwrap();
        assert_eq!(named.osc, Some(SocketAddr::from(([0, 0, 0, 0], 9_001))));
        let error = parse(&path, &text.replace("drums.env", "drum.env")).unwrap_err();
        assert_eq!((error.line, error.message.as_str()), (10, "wires: the file has no runtime `drum`"));
    }

    #[test]
    fn what_the_verbs_refuse_a_session_file_is_refused_for_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.8f4e"), "8f4e/v1\n").unwrap();
        let path = folder.path().join("SESSION.toml");
        let mistake = |text: &str| {
            let text = format!("[[runtime]]\nname = \"a\"\nfile = \"a.8f4e\"\n{text}");
            let error = parse(&path, &text).unwrap_err();
            (error.line, error.message)
        };
        let (line, message) = mistake("[wires]\n\"a.m:level\" = \"a.m:level\"\n");
        assert!(line == 5 && message.contains("`a.m:level` cannot follow itself"), "{line}: {message}");
        let route = "[[route]]\nfrom = \"a\"\nto = \"a\"\n";
        let (line, message) = mistake(&format!("{route}{route}only = true\n"));
        assert!(line == 8 && message.contains("from `a` to `a` already"), "{line}: {message}");
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let wrong = [
            ("name = \"gig\"\nsampel_rate = 1\n", 2, "sampel_rate"),
            ("\nlead = 99\n", 2, "lead"),
            ("name = \"../x\"\n", 1, "session"),
            ("lead = \"four\"\n", 1, "invalid type"),
            ("[[runtime]]\nname = \"a\"\nfile = \"nowhere.8f4e\"\n", 3, "nowhere.8f4e"),
            ("[[runtime]]\nname = \"a:b\"\nfile = \"x\"\n", 2, "runtime name"),
            ("default_runtime = \"quantum\"\n", 1, "audio"),
            ("[[runtime]]\nname = \"a\"\nfile = \"x\"\noutput = \"3-99\"\n", 4, "3-4"),
            ("\n[restarts]\nruntime = 9\nsession = 8\n", 2, "session"),
            ("[restarts]\nseconds = 0\n", 1, "seconds"),
            ("\ntempo = 5\n", 2, "beats a minute"),
            ("tempo = \"fast\"\n", 1, "beats a minute"),
            ("midi_out = [\"a\", \"b\", \"c\",\n\"d\", \"e\"]\n", 2, "4 MIDI ports"),
            ("[restarts]\nruntimes = 9\n", 2, "runtimes"),
            ("lead = 4\nosc = \"nowhere\"\n", 2, "osc"),
            ("lead = 4\nmidi_in = [\"loop:9\"]\n", 2, "loop:4"),
            ("osc = 70000\n", 1, "port"),
            ("[wires]\n\"drums\" = \"a.b\"\n", 2, "RUNTIME.MODULE:ITEM"),
            ("[wires]\n\"drums.x\" = 3\n", 2, "invalid type"),
            ("name = \n", 1, ""),
            ("[[route]]\nfrom = \"@input\"\nto = \"reverb\"\n", 3, "no runtime `reverb`"),
            ("[[route]]\nfrom = \"drums\"\nto = \"reverb\"\n", 2, "no runtime `drums`"),
        ];
        for (text, line, part) in wrong {
            let error = parse(Path::new("SESSION.toml"), text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    /// Session files are written by people; whatever is in one, it is read or refused with a line that it has.
    #[test]
    fn session_files() {
        const WHOLE: &str = "name = \"gig\"\nsample_rate = 44100\nlead = 8\ndevice = \"null\"\ndefault_runtime = \"worker\"\n\
                             acknowledge = \"any-loss\"\nrecording = \"tonight.wav\"\nmidi_in = [\"keys\"]\n\n[[runtime]]\nname = \"drums\"\n\
                             file = \"session_file.rs\"\ngain = 0.5\nmute = true\n[wires]\n\"drums.a\" = \"drums.b:c[0]\"\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/SESSION.toml");
        let seeds = [WHOLE, "lead = 4\n", "[[runtime]]\nname='''a'''\nfile=\"\\u0000\"", ""];
        let target = fuzz::Target {
            name: "session_files",
            seeds: seeds.map(|text| text.as_bytes().to_vec()).to_vec(),
            words: &["[[runtime]]\n", "[a.b.c]\n", "= nan\n", "= -inf\n", "= 1979-05-27\n", "{a=[", "\"\"\"", "0x", "#", "[[[[[[[["],
            max_bytes: 16 << 10,
            cases: 30_000,
            cpu: std::time::Duration::from_secs(2),
            bytes: 1 << 20,
            bytes_per_byte: 1_000,
        };
        target.run(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            match parse(&path, text) {
                Ok(session) => {
                    assert!((1..=MAX_LEAD_BLOCKS).contains(&session.lead));
                    assert!(session.runtimes.iter().all(|runtime| (0.0..=MAX_GAIN).contains(&runtime.gain)));
                }
                Err(error) => assert!((1..=text.split('\n').count()).contains(&error.line), "{error}"),
            }
        });
    }
}
