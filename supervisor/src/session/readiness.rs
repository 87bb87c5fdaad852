//! Tells the service manager that started us how we are (sd_notify(3)): ready, alive, stopping. Without one, nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The way to the service manager.
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear from us: half of what it waits at most.
    interval: Option<Duration>,
    next: Instant,
}

impl ServiceManager {
    /// As the environment says: `NOTIFY_SOCKET` (a path, or `@` and an abstract name) and `WATCHDOG_USEC`.
    pub fn from_environment() -> Self {
        let address = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| address(&name));
        let socket = address.and_then(|address| UnixDatagram::unbound().ok().map(|socket| (socket, address)));
        if let Some((socket, _)) = &socket {
            // A manager that does not listen is not waited for.
            let _ = socket.set_nonblocking(true);
        }
        let microseconds = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse::<u64>().ok());
        let interval = microseconds.filter(|_| socket.is_some()).map(|microseconds| Duration::from_micros((microseconds / 2).max(1)));
        Self { socket, interval, next: Instant::now() }
    }

    pub fn ready(&self) {
        self.say("READY=1");
    }

    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Says that we are alive when it is time. Returns how long that will do.
    pub fn keep_alive(&mut self, now: Instant) -> Option<Duration> {
        let interval = self.interval?;
        if now >= self.next {
            self.say("WATCHDOG=1");
            self.next = now + interval;
        }
        Some(self.next.saturating_duration_since(now))
    }

    fn say(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

fn address(name: &str) -> Option<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None => SocketAddr::from_pathname(name).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_that_we_are_ready_and_alive_no_more_often_than_it_wants() {
        let path = std::env::temp_dir().join(format!("continuo-notify-{}", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        let now = Instant::now();
        let address = address(path.to_str().unwrap()).unwrap();
        let mut ours = ServiceManager { socket: Some((socket, address)), interval: Some(Duration::from_secs(5)), next: now };
        ours.ready();
        assert_eq!(ours.keep_alive(now), Some(Duration::from_secs(5)));
        assert_eq!(ours.keep_alive(now + Duration::from_secs(2)), Some(Duration::from_secs(3)));
        ours.stopping();
        let heard = || {
            let mut buffer = [0u8; 64];
            let length = manager.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!([heard(), heard(), heard()], ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
        std::fs::remove_file(path).unwrap();
    }
}
