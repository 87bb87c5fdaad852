//! An independent JACK client that plays MIDI: `jack-midi-send CLIENT`.
//!
//! Registers the port `CLIENT:out` and says so on its standard output. A line of its input is one message: how many frames
//! after the one before it, then its bytes in decimal; the first one counts from when it is read. Says `sent` once everything
//! that came in one go is on its way. Ends when its standard input does. Obeys `JACK_DEFAULT_SERVER`.

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use jack::{Client, ClientOptions, Control, MidiOut, Port, ProcessHandler, ProcessScope, RawMidi};

/// A message: frames since the last one, and its bytes.
type Message = (u64, Vec<u8>);

struct Sending {
    output: Port<MidiOut>,
    messages: Receiver<Message>,
    waiting: VecDeque<Message>,
    /// Frames since this client began, and those at which the last message was sent.
    frame: u64,
    last: u64,
    sent: Sender<()>,
}

impl ProcessHandler for Sending {
    fn process(&mut self, _: &Client, scope: &ProcessScope) -> Control {
        // A test tool on a synchronous server: it may allocate here, it only makes the server late.
        let (begin, end) = (self.frame, self.frame + u64::from(scope.n_frames()));
        self.frame = end;
        while let Ok(message) = self.messages.try_recv() {
            if self.waiting.is_empty() {
                self.last = self.last.max(begin);
            }
            self.waiting.push_back(message);
        }
        let mut writer = self.output.writer(scope);
        while let Some((after, bytes)) = self.waiting.front() {
            let at = (self.last + after).max(begin);
            if at >= end || writer.write(&RawMidi { time: (at - begin) as u32, bytes }).is_err() {
                return Control::Continue;
            }
            self.last = at;
            self.waiting.pop_front();
            if self.waiting.is_empty() {
                let _ = self.sent.send(());
            }
        }
        Control::Continue
    }
}

fn main() {
    let name = std::env::args().nth(1).expect("usage: jack-midi-send CLIENT");
    let (client, _) = Client::new(&name, ClientOptions::NO_START_SERVER).expect("the server answers");
    let output = client.register_port("out", MidiOut::default()).expect("a port can be registered");
    let ((queue, messages), (sent, all_sent)) = (channel(), channel());
    let sending = Sending { output, messages, waiting: VecDeque::new(), frame: 0, last: 0, sent };
    let _active = client.activate_async((), sending).expect("the client can be activated");
    let say = |word: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "{word}").and_then(|()| out.flush()).expect("somebody listens");
    };
    say("ready");
    std::thread::spawn(move || all_sent.iter().for_each(|()| say("sent")));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().expect("a number"));
        let after = numbers.next().expect("a line has a number");
        queue.send((after, numbers.map(|byte| byte as u8).collect())).expect("the client sends");
    }
}
