// SPDX-License-Identifier: GPL-2.0-or-later
//! A message to the system's log: Node knows no datagram sockets of the unix kind.

use std::os::unix::net::UnixDatagram;

use napi::{Error, Result};
use napi_derive::napi;

/// Sends `message` as one datagram to the socket at `path`. It never waits: whoever reads the log may at that moment
/// wait for this very process. Fails if nobody listens there, or if the receiver is behind.
#[napi]
pub fn send_datagram(path: String, message: &[u8]) -> Result<()> {
    let send = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(message, &path)
    };
    send().map(drop).map_err(|error| Error::from_reason(format!("{path}: {error}")))
}
