//! The sockets of control wires: whoever reads one gets a sample of its own wire or none, whatever the writer was doing when it
//! stopped.

use ipc::wires::{get_rt, put_rt};
use loom::thread;

use crate::memory::{Memory, Process};

const SOCKET: usize = 0;
/// Steps that giving a socket to another wire, and a second sample, take.
const STEPS: u32 = 4;

#[test]
fn a_socket_that_is_given_to_another_wire_shows_neither_the_samples_of_the_other() {
    for steps in 0..=STEPS {
        loom::model(move || {
            let memory = Memory::new(&[SOCKET, SOCKET + 8], &[]);
            put_rt(&Process::living(&memory), SOCKET, 1, 0.5);
            let writer = Process::dying_after(&memory, steps);
            let host = thread::spawn(move || {
                put_rt(&writer, SOCKET, 2, 2.0);
                put_rt(&writer, SOCKET, 2, 3.0);
            });
            let reader = Process::living(&memory);
            assert!(matches!(get_rt(&reader, SOCKET, 1), None | Some(0.5)));
            assert!(matches!(get_rt(&reader, SOCKET, 2), None | Some(2.0 | 3.0)));
            host.join().unwrap();
            let last = match steps {
                0..=2 => None,
                3 => Some(2.0),
                _ => Some(3.0),
            };
            assert_eq!(get_rt(&reader, SOCKET, 2), last, "the writer died after {steps} steps");
        });
    }
}
