//! The control socket against good, clumsy and hostile clients (FAULTS rows 31 to 37), each test with a serving process of
//! its own. Rule of every test: what one client does costs that client, and nobody else.

#[path = "../src/control/mod.rs"]
mod control;

#[path = "control_socket/fixture.rs"]
mod fixture;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use control::limits::*;
use control::protocol::*;
use control::{Client, ClientError, Notice};
use fixture::{PATIENCE, Random, Raw, Served, directory};

/// Memory a hostile client may cost for as long as it is connected (FAULTS row 32).
const ALLOWED_GROWTH_BYTES: u64 = 4 << 20;

/// Not a test: what the serving processes run.
#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn serve() {
    fixture::serve();
}

/// Asks for an answer that must come whatever else happens.
fn ping(client: &mut Client) -> ControlStatus {
    client.call(&Ping {}).expect("a well-behaved client is answered").control
}

fn name(name: &str) -> RuntimeName {
    RuntimeName::new(name).unwrap()
}

// ----------------------------------------------------------------------------------------------- the conversation

#[test]
fn a_client_says_hello_and_is_answered() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    assert_eq!((client.welcome().protocol, client.welcome().build.as_str()), (PROTOCOL_VERSION, "test"));
    assert_eq!(client.welcome().pid, served.process.id());
    assert_eq!(ping(&mut client).clients, 1);
    let refused = client.call(&Status { runtime: None }).unwrap_err();
    assert!(matches!(refused, ClientError::Refused(ref error) if error.name() == ErrorCode::WrongState), "{refused}");
}

#[test]
fn without_a_session_the_client_says_so() {
    let directory = directory();
    let error = Client::connect(&fixture::address(&directory), "test").unwrap_err();
    assert!(matches!(error, ClientError::NoSession { .. }), "{error}");
    assert!(error.to_string().starts_with("no session `default` is running"), "{error}");
}

#[test]
fn another_protocol_version_is_refused_in_clear_words() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut raw = served.raw();
    raw.say(r#"{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":2,"client":"x","new":[]}}"#);
    let reply = raw.reply();
    assert_eq!(reply["error"]["data"]["name"], "protocol_mismatch");
    assert_eq!(reply["error"]["message"], "this supervisor (0.0.0 test) speaks protocol 1, not 2: use the client that came with it");
    assert!(raw.is_closed());
    ping(&mut served.client());
}

#[test]
fn whoever_does_not_begin_with_hello_is_closed() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    for (line, error) in [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "hello_first"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"hello"}"#, "invalid_params"),
        ("GET / HTTP/1.1", "parse_error"),
    ] {
        let mut raw = served.raw();
        raw.say(line);
        assert_eq!(raw.error_name(), error, "{line}");
        assert!(raw.is_closed(), "{line}");
    }
    let mut raw = served.greeted();
    raw.say(r#"{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1,"client":"again"}}"#);
    assert_eq!(raw.error_name(), "wrong_state");
    raw.say(r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    assert_eq!(raw.reply()["id"], 2, "and goes on");
}

#[test]
fn a_client_that_stops_sending_still_reads_its_answers() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut raw = served.greeted();
    for id in 1..=100 {
        raw.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"get","params":{{"runtime":"a","items":["1"]}}}}"#));
    }
    raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answered = (1..=100).filter(|&id| raw.reply()["id"] == id).count();
    assert_eq!(answered, 100, "in order");
    assert!(raw.is_closed());
}

#[test]
fn events_reach_those_who_asked_for_them() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let (mut all, mut some, mut none) = (served.client(), served.client(), served.client());
    all.call(&Subscribe { topics: vec![Topic::Log, Topic::Meters], runtime: None }).unwrap();
    let subscription = some.call(&Subscribe { topics: vec![Topic::Log], runtime: Some(name("bass")) }).unwrap();
    assert_eq!(subscription, Subscription { topics: vec![Topic::Log], runtime: Some(name("bass")) });
    for runtime in ["drums", "bass"] {
        none.call(&List { runtime: name(runtime), limit: Some(2) }).unwrap();
    }
    let heard = |client: &mut Client| match client.notice_within(PATIENCE).unwrap() {
        Some(Notice::Event(event)) => event.runtime().unwrap().to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!([heard(&mut all), heard(&mut all), heard(&mut all), heard(&mut all)], ["drums", "drums", "bass", "bass"]);
    assert_eq!([heard(&mut some), heard(&mut some)], ["bass", "bass"]);
    for client in [&mut all, &mut some, &mut none] {
        ping(client);
        assert_eq!(client.notice_within(Duration::ZERO).unwrap(), None, "nothing else has come before the answer");
    }
    let left = all.call(&Unsubscribe { topics: Some(vec![Topic::Meters]) }).unwrap();
    assert_eq!(left.topics, [Topic::Log]);
    assert!(all.call(&Unsubscribe { topics: None }).unwrap().topics.is_empty());
}

#[test]
fn the_answer_to_shutdown_arrives_before_the_end() {
    let directory = directory();
    let mut served = Served::start(&directory).unwrap();
    let _input = served.process.stdin.take(); // Waiting would close it, and its end would end the process early.
    let mut client = served.client();
    assert_eq!(client.call(&Shutdown {}).unwrap().deadline_ms, 1);
    assert!(matches!(client.call(&Ping {}), Err(ClientError::Closed | ClientError::Io(_))));
    assert!(served.process.wait().unwrap().success());
    assert!(!served.address.directory.exists(), "socket, lock and directory are gone");
}

#[test]
fn a_wrong_or_oversized_answer_becomes_an_error() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let mut refused = |count: &str| match client.call(&Get { runtime: name("a"), items: vec![ItemName::new(count).unwrap()] }) {
        Ok(values) => Ok(values.values[0].values.len()),
        Err(ClientError::Refused(error)) => Err(error.name()),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(refused("100000"), Ok(100_000));
    assert_eq!(refused("1000000"), Err(ErrorCode::TooLarge));
    let error = client.call(&Stop { runtime: name("a") }).unwrap_err();
    assert!(matches!(error, ClientError::Refused(ref error) if error.name() == ErrorCode::Internal), "{error}");
}

// -------------------------------------------------------------------------------------------------- whose session

#[test]
fn the_second_supervisor_learns_who_is_the_first() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let why = Served::start(&directory).err().expect("the name is taken");
    let expected = format!("session `default` already runs (process {})", served.process.id());
    assert!(why.starts_with(&expected), "{why}");
    ping(&mut served.client());
}

#[test]
fn what_a_killed_supervisor_left_is_replaced() {
    let directory = directory();
    let mut served = Served::start(&directory).unwrap();
    served.process.kill().unwrap();
    served.process.wait().unwrap();
    assert!(served.address.socket().exists() && served.address.lock().exists());
    assert!(matches!(Client::connect(&served.address, "test"), Err(ClientError::NoSession { .. })));
    let next = Served::start(&directory).unwrap();
    ping(&mut next.client());
}

#[test]
fn a_socket_is_not_replaced_while_another_holds_the_lock() {
    let directory = directory();
    let address = fixture::address(&directory);
    std::fs::create_dir(&address.directory).unwrap();
    let lock = std::fs::File::create(address.lock()).unwrap();
    lock.lock().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(address.socket()).unwrap();
    assert!(Served::start(&directory).is_err());
    UnixStream::connect(address.socket()).expect("the other's socket is untouched");
    drop(lock);
    ping(&mut Served::start(&directory).unwrap().client());
}

#[test]
fn something_else_in_the_place_of_the_socket_is_left_alone() {
    let directory = directory();
    let address = fixture::address(&directory);
    std::fs::create_dir(&address.directory).unwrap();
    std::fs::write(address.socket(), "precious").unwrap();
    let why = Served::start(&directory).err().expect("there is no place for the socket");
    assert!(why.contains("is in the way of the control socket"), "{why}");
    assert_eq!(std::fs::read_to_string(address.socket()).unwrap(), "precious");
}

#[test]
fn nobody_else_may_enter_even_a_directory_that_was_open() {
    let directory = directory();
    let address = fixture::address(&directory);
    std::fs::create_dir(&address.directory).unwrap();
    std::fs::set_permissions(&address.directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    let served = Served::start(&directory).unwrap();
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(served.address.directory.clone()), 0o700);
    assert_eq!(mode(served.address.socket()), 0o600);
}

/// Needs root, to become somebody else; without it, only says so.
#[test]
fn another_user_is_disconnected_and_counted() {
    if !rustix::process::getuid().is_root() {
        println!("not checked: only root can become another user");
        return;
    }
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    for path in [directory.path().to_owned(), served.address.directory.clone(), served.address.socket()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let socket = served.address.socket();
    let stranger = std::thread::spawn(move || {
        // SAFETY: the raw system call takes three plain numbers and changes the credentials of this thread only, which ends
        // after the connection.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        assert_eq!(changed, 0);
        Raw::new(UnixStream::connect(socket).unwrap()).is_closed()
    });
    assert!(stranger.join().unwrap());
    let status = served.wait_for(&mut client, |status| status.refused_peers == 1);
    assert_eq!((status.accepted, status.clients), (1, 1));
}

// ------------------------------------------------------------------------------------------------ hostile clients

#[test]
fn garbage_costs_only_its_own_connection() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let mut raw = served.greeted();
    for n in 1..MAX_MALFORMED_IN_A_ROW {
        raw.say(if n % 2 == 0 { "\u{0}\u{1}garbage" } else { "[1,2" });
        assert_eq!(raw.error_name(), "parse_error");
    }
    raw.say(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(raw.reply()["id"], 1, "a client that finds back to the protocol is welcome");
    for _ in 0..MAX_MALFORMED_IN_A_ROW {
        raw.stream.write_all(b"\xff\xfe\n").unwrap();
        assert_eq!(raw.error_name(), "parse_error");
    }
    assert_eq!(raw.error_name(), "garbage");
    assert!(raw.is_closed());
    assert_eq!(ping(&mut client).malformed, u64::from(2 * MAX_MALFORMED_IN_A_ROW - 1));
}

#[test]
fn nesting_is_refused_before_anything_is_built_from_it() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let mut raw = served.greeted();
    let before = served.resident_bytes();
    for depth in [MAX_JSON_DEPTH + 1, 10_000, 1_000_000] {
        raw.say(&"[".repeat(depth));
        assert_eq!(raw.error_name(), "too_deep", "{depth}");
    }
    // Wide instead of deep: a megabyte of empty arrays is read without building one of them.
    raw.say(&format!(r#"{{"jsonrpc":"2.0","id":9,"method":"ping","extra":[{}[]]}}"#, "[],".repeat(340_000)));
    assert_eq!(raw.reply()["id"], 9);
    drop(raw);
    ping(&mut client);
    let growth = served.resident_bytes().saturating_sub(before);
    assert!(growth < ALLOWED_GROWTH_BYTES, "grew by {growth} bytes");
}

#[test]
fn a_line_of_a_gibibyte_is_cut_and_memory_stays_flat() {
    const PIECE_BYTES: usize = 64 << 10;
    const LINE_BYTES: usize = 1 << 30;
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    ping(&mut client);
    let before = served.resident_bytes();
    for attempt in 1..=8 {
        let mut raw = served.greeted();
        let mut sent = 0;
        while sent < LINE_BYTES && raw.stream.write_all(&[b'x'; PIECE_BYTES]).is_ok() {
            sent += PIECE_BYTES;
        }
        assert!(sent < 2 * MAX_LINE_BYTES, "{sent} bytes were taken");
        assert_eq!(raw.error_name(), "too_large");
        assert!(raw.is_closed());
        assert_eq!(ping(&mut client).too_large, attempt);
        let growth = served.resident_bytes().saturating_sub(before);
        assert!(growth < ALLOWED_GROWTH_BYTES, "grew by {growth} bytes");
    }
}

#[test]
fn half_lines_wait_without_disturbing_anybody() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let before = served.descriptors();
    let mut halves: Vec<Raw> = (0..20).map(|_| served.greeted()).collect();
    let line = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for &byte in line {
        for half in &mut halves {
            half.stream.write_all(&[byte]).unwrap();
        }
        ping(&mut client);
    }
    for half in halves.iter_mut().take(10) {
        half.stream.write_all(b"\n").unwrap();
        assert_eq!(half.reply()["id"], 1);
    }
    drop(halves); // Ten of them in the middle of their line.
    served.wait_for(&mut client, |status| status.clients == 1);
    assert_eq!(served.descriptors(), before);
}

#[test]
fn a_thousand_connections_leave_the_first_one_served() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum.map_or(Some(4_096), |most| Some(most.min(4_096))), ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let mut client = served.client();
    ping(&mut client);
    let (before_bytes, before_descriptors) = (served.resident_bytes(), served.descriptors());
    let mut crowd = Vec::new();
    for n in 0..1_000 {
        crowd.push(UnixStream::connect(served.address.socket()).unwrap());
        if n % 10 == 0 {
            ping(&mut client);
        }
    }
    let status = served.wait_for(&mut client, |status| status.accepted + status.refused_busy == 1_001);
    assert_eq!(status.clients, MAX_CLIENTS as u64);
    assert_eq!(status.refused_busy, 1_001 - MAX_CLIENTS as u64);
    let mut last = Raw::new(crowd.pop().unwrap());
    assert_eq!(last.error_name(), "busy");
    assert!(last.is_closed());
    assert!(served.resident_bytes().saturating_sub(before_bytes) < ALLOWED_GROWTH_BYTES);
    drop(crowd);
    served.wait_for(&mut client, |status| status.clients == 1);
    assert_eq!(served.descriptors(), before_descriptors);
    ping(&mut served.client());
}

#[test]
fn without_descriptors_a_client_is_told_busy_and_the_next_one_is_served_again() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    client.call(&Freeze { runtime: name("a") }).unwrap(); // Takes all descriptors there are.
    for _ in 0..10 {
        let mut refused = served.raw();
        assert_eq!(refused.error_name(), "busy");
        assert!(refused.is_closed());
        ping(&mut client);
    }
    client.call(&Run { runtime: name("a") }).unwrap();
    assert_eq!(ping(&mut served.client()).refused_busy, 10);
}

#[test]
fn a_subscriber_that_never_reads_is_told_and_closed_and_others_miss_nothing() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let (mut client, mut publisher) = (served.client(), served.client());
    client.call(&Subscribe { topics: vec![Topic::Log], runtime: None }).unwrap();
    let mut lazy = served.greeted();
    lazy.say(r#"{"jsonrpc":"2.0","id":1,"method":"subscribe","params":{"topics":["log"]}}"#);
    assert_eq!(lazy.reply()["id"], 1);
    let (before, mut published) = (served.resident_bytes(), 0);
    while ping(&mut publisher).lagged == 0 {
        publisher.call(&List { runtime: name("a"), limit: Some(50) }).unwrap();
        published += 50;
        for n in 0..50 {
            match client.notice_within(PATIENCE).unwrap() {
                Some(Notice::Event(event)) => match *event {
                    Event::Log(line) => assert!(line.line.starts_with(&format!("{n} ")), "in order"),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        assert!(published < 100_000, "it never lags");
    }
    assert!(served.resident_bytes().saturating_sub(before) < ALLOWED_GROWTH_BYTES);
    let mut heard = 0;
    let last = loop {
        let line = lazy.reply();
        if line["method"] == "lagged" {
            break line;
        }
        heard += 1;
    };
    let dropped = last["params"]["dropped"].as_u64().unwrap();
    assert!(dropped > EVENT_QUEUE as u64 / 2 && heard + dropped <= published, "{heard} heard, {dropped} dropped, {published} published");
    assert!(lazy.is_closed());
    assert_eq!(ping(&mut client).lagged, 1);
}

#[test]
fn a_client_that_never_reads_its_answers_is_not_read_any_further() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let before = served.resident_bytes();
    let mut deaf = served.greeted();
    deaf.stream.set_nonblocking(true).unwrap();
    let line = br#"{"jsonrpc":"2.0","id":1,"method":"get","params":{"runtime":"a","items":["10000"]}}
"#;
    let mut sent = 0;
    // As long as anything is taken, or room may yet appear because the server is behind.
    let mut answered = ping(&mut client).requests;
    loop {
        match deaf.stream.write(line) {
            Ok(_) => sent += 1,
            Err(_) => {
                let now = (0..20).map(|_| ping(&mut client).requests).last().unwrap();
                if now == answered + 20 {
                    break;
                }
                answered = now;
            }
        }
        assert!(sent < 1_000_000, "everything is taken");
    }
    assert!(served.resident_bytes().saturating_sub(before) < 2 * ALLOWED_GROWTH_BYTES);
}

#[test]
fn a_flood_of_requests_is_answered_in_full_and_others_are_served_meanwhile() {
    const REQUESTS: usize = 2_000;
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let mut flood = served.greeted();
    let mut writer = flood.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for id in 0..REQUESTS {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"unsubscribe"}}"#);
            writer.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    });
    for id in 0..REQUESTS {
        assert_eq!(flood.reply()["id"], id, "none is lost, in order");
        if id % 50 == 0 {
            ping(&mut client);
        }
    }
    writing.join().unwrap();
}

#[test]
fn requests_that_wait_are_bounded_and_panic_gets_through() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let mut greedy = served.greeted();
    let push = |id| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"push","params":{{"runtime":"a","text":""}}}}"#);
    for id in 0..MAX_CHANGES_PER_CLIENT {
        greedy.say(&push(id));
    }
    greedy.say(&push(777));
    let reply = greedy.reply();
    assert_eq!((&reply["id"], &reply["error"]["data"]["name"]), (&777.into(), &"busy".into()));
    greedy.say(r#"{"jsonrpc":"2.0","id":"now","method":"panic"}"#);
    assert_eq!(greedy.reply()["id"], "now");
    assert_eq!(ping(&mut client).calls_waiting, MAX_CHANGES_PER_CLIENT as u64 + 1);
    client.call(&Cancel { change: ChangeId(1) }).unwrap(); // Answers all pushes.
    for id in 0..MAX_CHANGES_PER_CLIENT {
        assert_eq!(greedy.reply()["id"], id);
    }
    assert_eq!(ping(&mut client).calls_waiting, 1);
}

#[test]
fn clients_that_vanish_in_mid_request_leave_nothing_behind() {
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    ping(&mut client);
    let (before_bytes, before_descriptors) = (served.resident_bytes(), served.descriptors());
    for n in 0..1_000 {
        let mut raw = if n % 2 == 0 { served.raw() } else { served.greeted() };
        match n % 4 {
            0 => {}
            1 => raw.say(r#"{"jsonrpc":"2.0","id":1,"method":"push","params":{"runtime":"a","text":""}}"#),
            2 => raw.stream.write_all(br#"{"jsonrpc":"2.0","id":1,"meth"#).unwrap(),
            _ => raw.stream.write_all(br#"{"jsonrpc":"2.0","id":1,"meth"#).unwrap(),
        }
        drop(raw);
        if n % 20 == 19 {
            // Answers the pushes of clients that are gone.
            served.wait_for(&mut client, |status| status.clients == 1);
            client.call(&Cancel { change: ChangeId(n) }).unwrap();
        }
    }
    let status = served.wait_for(&mut client, |status| status.clients == 1 && status.calls_waiting == 1);
    assert_eq!(status.replies_dropped, 250, "a request that was made is carried out, its answer dropped");
    assert_eq!(served.descriptors(), before_descriptors);
    assert!(served.resident_bytes().saturating_sub(before_bytes) < ALLOWED_GROWTH_BYTES);
}

// ---------------------------------------------------------------------------------------------------- random lines

/// Lines to start from: every request of PROTOCOL.md.
fn requests() -> Vec<Vec<u8>> {
    let text = include_str!("../../PROTOCOL.md");
    text.lines().filter_map(|line| line.strip_prefix("→ ")).map(|line| line.as_bytes().to_vec()).collect()
}

/// Damages a line in one to four places.
fn mutate(random: &mut Random, requests: &[Vec<u8>]) -> Vec<u8> {
    const PIECES: [&[u8]; 12] =
        [b"{", b"}", b"[", b"]", b"\"", b"\\", b"\\ud800", b"null", b"1e999", b"-0", b"\xff", b"99999999999999999999"];
    let mut line = requests[random.below(requests.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(line.len());
        let end = (at + random.below(20)).min(line.len());
        match random.below(5) {
            0 => line[at] = random.below(256) as u8,
            1 => drop(line.drain(at..end)),
            2 => drop(line.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            3 => line.extend_from_within(at..end),
            _ => line = [&line[..at], &requests[random.below(requests.len())][..]].concat(),
        }
        if line.is_empty() {
            line.push(b'{');
        }
    }
    line.retain(|&byte| byte != b'\n');
    line
}

#[test]
fn no_line_makes_the_parser_panic_or_say_much() {
    let (mut random, requests) = (Random::new(), requests());
    let mut understood = 0;
    for _ in 0..100_000 {
        let line = mutate(&mut random, &requests);
        match parse(&line) {
            Ok(_) => understood += 1,
            Err(unreadable) => {
                let reply = reply_line(unreadable.id.as_ref(), &Err(unreadable.error));
                assert!(reply.len() < 4_096, "{}", String::from_utf8_lossy(&line));
                assert!(serde_json::from_slice::<serde_json::Value>(&reply).is_ok(), "{}", String::from_utf8_lossy(&line));
            }
        }
    }
    assert!(understood > 1_000, "most mutations must not be refused by the first check: {understood}");
}

#[test]
fn every_random_line_is_answered_or_ends_its_connection() {
    const LINES: usize = 2_000;
    let directory = directory();
    let served = Served::start(&directory).unwrap();
    let mut client = served.client();
    let (mut random, requests) = (Random::new(), requests());
    let mut raw = served.greeted();
    let (before, mut malformed_in_a_row) = (served.descriptors(), 0);
    for n in 0..LINES {
        let line = mutate(&mut random, &requests);
        let request = parse(&line);
        // Pushes wait for `cancel` here, and `shutdown` and `freeze` would do what they say.
        if matches!(request, Ok(Request { verb: Verb::Push(_) | Verb::Shutdown(_) | Verb::Freeze(_), .. })) {
            continue;
        }
        malformed_in_a_row = if request.is_ok() { 0 } else { malformed_in_a_row + 1 };
        raw.stream.write_all(&[&line[..], b"\n"].concat()).unwrap();
        let answer = raw.answer();
        assert!(answer["result"].is_object() || answer["error"].is_object(), "{answer}");
        assert!(request.is_ok() || answer["error"].is_object(), "{answer}");
        if malformed_in_a_row == MAX_MALFORMED_IN_A_ROW {
            assert_eq!(raw.error_name(), "garbage");
            assert!(raw.is_closed());
            (raw, malformed_in_a_row) = (served.greeted(), 0);
        }
        if n % 100 == 0 {
            ping(&mut client);
        }
    }
    served.wait_for(&mut client, |status| status.clients == 2);
    assert_eq!(served.descriptors(), before);
}
