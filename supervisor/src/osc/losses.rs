//! Packets that the kernel had no room for: it counts them for each socket, in its table of sockets. Read when somebody asks
//! for the session's status; where there is no such table nothing is known to be lost.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// Bytes that the kernel is asked to keep for us: what comes in while a busy machine does not let us read. It may grant less.
const WANTED_BYTES: usize = 4 << 20;

/// Columns of the kernel's table, counted from 0: what the socket is, and what was lost.
const INODE_COLUMN: usize = 9;
const DROPS_COLUMN: usize = 12;

/// Asks the kernel to keep as much as it may.
pub fn widen(socket: &UdpSocket) {
    // The limit of the machine binds everybody but the administrator; without either what is there has to do.
    if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &WANTED_BYTES).is_err() {
        let _ = setsockopt(&socket.as_fd(), sockopt::RcvBuf, &WANTED_BYTES);
    }
}

/// What the socket is called in the kernel's table.
pub fn inode(socket: &UdpSocket) -> Option<u64> {
    Some(rustix::fs::fstat(socket).ok()?.st_ino)
}

/// How many packets it has lost.
pub fn lost(address: SocketAddr, inode: Option<u64>) -> u64 {
    let table = if address.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    let sockets = std::fs::read_to_string(table).unwrap_or_default();
    inode.and_then(|inode| find(&sockets, inode)).unwrap_or(0)
}

fn find(sockets: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    let lines = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut ours = lines.filter(|columns| columns.get(INODE_COLUMN) == Some(&inode.as_str()));
    ours.next()?.get(DROPS_COLUMN)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_drops_is_known() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, inode) = (socket.local_addr().unwrap(), inode(&socket));
        assert_eq!(lost(address, inode), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2_000 {
            sender.send_to(&[0; 8_000], address).unwrap();
        }
        let lost = lost(address, inode);
        assert!((1..2_000).contains(&lost), "{lost}");
    }
}
