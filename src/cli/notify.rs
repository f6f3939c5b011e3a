//! What systemd is told of a service of `Type=notify`: that it is ready, what it is at, that it stops,
//! that it still turns.
//!
//! The protocol is one datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.
//! Elsewhere there is no such variable, and nothing is told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// A watchdog is told so many times in the time that it waits.
const TIMES_A_WATCH: u32 = 3;

/// Tells it, where somebody wants to be told. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Notifier {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watch: Option<Duration>,
}

impl Notifier {
    /// As this process's environment wants it.
    pub(super) fn from_environment() -> Self {
        let pid = std::process::id();
        Self::from_variables(|name| std::env::var(name).ok(), pid)
    }

    /// As variables want it that are looked up in `variable`, for the process `pid`.
    fn from_variables(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        let Some(address) = variable("NOTIFY_SOCKET").as_deref().and_then(address) else {
            return Self::default();
        };
        let socket = UnixDatagram::unbound().and_then(|socket| {
            // A listener that does not listen must not hold anybody up.
            socket.set_nonblocking(true)?;
            Ok(Arc::new((socket, address)))
        });
        let is_ours = variable("WATCHDOG_PID").is_none_or(|text| text.parse() == Ok(pid));
        let micros = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok());
        let watch = micros.filter(|micros| *micros > 0 && is_ours).map(Duration::from_micros);
        Self { socket: socket.ok(), watch }
    }

    /// How often the watchdog wants to hear something, if there is one.
    pub(super) fn watch_every(&self) -> Option<Duration> {
        self.watch.map(|watch| watch / TIMES_A_WATCH)
    }

    /// Recovered, and answering.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// What it is at.
    pub(super) fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", one_line(status)));
    }

    /// It stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping: what is in flight is answered first");
    }

    /// It still turns.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, text: &str) {
        if let Some((socket, address)) = self.socket.as_deref()
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// A path, or after an `@` a name of Linux's abstract sockets.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if text.starts_with('/') => SocketAddr::from_pathname(text).ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(pairs: &[(&str, &str)]) -> Notifier {
        let find = |name: &str| {
            let pair = pairs.iter().find(|(known, _)| *known == name)?;
            Some(pair.1.to_owned())
        };
        Notifier::from_variables(find, 42)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_happens_is_told_in_order_at_a_path_and_at_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("crosslatch-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, variable) in [
            (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}")),
        ] {
            let notifier = notifier(&[("NOTIFY_SOCKET", &variable)]);
            notifier.status("a\nb");
            notifier.ready("all well");
            notifier.alive();
            notifier.stopping();
            assert_eq!(heard(&socket), "STATUS=a b");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=all well");
            assert_eq!(heard(&socket), "WATCHDOG=1");
            assert!(heard(&socket).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn the_watchdog_is_told_thrice_in_its_time_if_it_means_this_process() {
        let socket = ("NOTIFY_SOCKET", "@x");
        let every = |pairs: &[(&str, &str)]| notifier(pairs).watch_every();
        let usec = ("WATCHDOG_USEC", "30000000");
        assert_eq!(every(&[socket, usec]), Some(Duration::from_secs(10)));
        assert_eq!(every(&[socket, usec, ("WATCHDOG_PID", "42")]), Some(Duration::from_secs(10)));
        assert_eq!(every(&[socket, usec, ("WATCHDOG_PID", "7")]), None);
        assert_eq!(every(&[socket, ("WATCHDOG_USEC", "0")]), None);
        assert_eq!(every(&[usec]), None);
        // Nobody listens: nothing happens.
        notifier(&[]).ready("x");
        notifier(&[("NOTIFY_SOCKET", "relative")]).ready("x");
        notifier(&[socket]).ready("x");
    }
}
