//! What a service manager hears of a server: this test is one.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::launch::{Launched, serve};
use super::people::populate;

/// How long a test waits for a word before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a word in time");
    String::from_utf8(buffer[..length].to_vec()).expect("text")
}

/// The next word that is not the watchdog's.
fn told(socket: &UnixDatagram) -> String {
    loop {
        let word = heard(socket);
        if word != "WATCHDOG=1" {
            return word;
        }
    }
}

#[test]
fn ready_comes_after_recovery_and_stopping_before_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a patience");
    let data = dir.path().join("data");
    let start = || {
        let mut command = serve(&data);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "60000");
        Launched::ready(command)
    };
    for seq in [0, 8] {
        let server = start();
        assert_eq!(told(&socket), "STATUS=recovering");
        let ready = told(&socket);
        let expected = format!("READY=1\nSTATUS=ready on http://{} and grpc://", server.address);
        assert!(ready.starts_with(&expected) && ready.ends_with(&format!("seq {seq})")), "{ready}");
        // It turns: the watchdog hears of it again and again.
        for _ in 0..3 {
            assert_eq!(heard(&socket), "WATCHDOG=1");
        }
        if seq == 0 {
            populate(&mut server.client());
        }
        let (status, _) = server.stop();
        assert_eq!(status.code(), Some(0));
        assert!(told(&socket).starts_with("STOPPING=1\n"), "seq {seq}");
    }
}
