//! Who has no key, a wrong one, one that is over, or one from elsewhere.

use crosslatch::access::secret::{Master, Token};
use serde_json::json;

use super::http::Client;
use super::people::*;
use super::process::{Server, command};
use super::venue::*;

#[test]
fn without_keys_everybody_on_this_machine_may_do_everything() {
    let (_data, server, mut client) = started();
    client.get("/v1/accounts/1/balances").with(200);
    client.get("/v1/audit").with(200);
    // From the first key on, nobody may without.
    let mut operator = key("operator", json!({"accounts": "all"}));
    let refused = client.post("/v1/api-keys", &operator).problem(400, "malformed", "scopes");
    assert!(refused["detail"].as_str().is_some_and(|it| it.contains("first key")), "{refused}");
    operator["scopes"] = json!(["operate", "read"]);
    let made = client.post("/v1/api-keys", &operator).with(200);
    client.get("/v1/assets").problem(401, "unauthenticated", "");
    let token = made["token"].as_str().expect("a token").parse().expect("of its form");
    Caller::at(server.address, token).get("/v1/audit").with(200);
}

#[test]
fn without_keys_nothing_else_than_loopback_is_listened_on() {
    let data = directory();
    let path = data.path().to_str().expect("a plain path");
    let args = ["serve", "--data", path, "--listen", "0.0.0.0:0"];
    let refused = command(&args).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("loopback") && said.contains("crosslatch key create"), "{said}");
    first_key(data.path(), "operator");
    let server = Server::start_on(data.path(), "0.0.0.0:0", &[]);
    Client::connect(server.loopback()).get("/v1/assets").problem(401, "unauthenticated", "");
}

#[test]
fn what_is_no_right_key_is_told_nothing_of_keys() {
    let venue = Venue::open_with(&[("failures_burst_max", 1_000)]);
    let seq = venue.seq();
    let stranger = Master::new([9; 32]).secret("operator", 1);
    let wrong = Token { name: "operator".into(), secret: stranger.clone() };
    let unknown = Token { name: "nobody".into(), secret: stranger };
    let wrong = Caller::at(venue.server.address, wrong).get("/v1/audit");
    let unknown = Caller::at(venue.server.address, unknown).get("/v1/audit");
    wrong.problem(401, "unauthenticated", "");
    assert_eq!(wrong.body, unknown.body, "whether the key exists is not to be seen");
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer realm=\"crosslatch\""));
    let mut client = venue.server.client();
    let body = deposit(700, 1, "ETH", "5").to_string();
    let token = venue.operator.reveal();
    for authorization in [
        "Bearer".to_owned(),
        "Bearer ".into(),
        format!("Basic {token}"),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {token}x"),
        format!("Bearer {}", token.replace("operator", "operatos")),
        token.clone(),
    ] {
        let headers = vec![
            ("authorization", authorization.clone()),
            ("content-type", "application/json".into()),
        ];
        let reply = send(&mut client, ("POST", "/v1/deposits"), &headers, body.as_bytes());
        reply.problem(401, "unauthenticated", "");
        assert!(!reply.text().contains(&token[20..]), "secrets are not repeated: {authorization}");
    }
    assert_eq!(venue.seq(), seq);
    let found = venue.operator().get(&format!("/v1/requests/{}", id(700)));
    found.problem(404, "unknown_request", "");
}

#[test]
fn a_key_is_of_use_until_it_is_revoked_rotated_or_expired() {
    let venue = Venue::open();
    let mut desk = venue.key("desk", json!({}));
    desk.get("/v1/accounts/1/balances").with(200);
    let rotated =
        venue.operator().post("/v1/api-keys/desk/rotate", &json!({"request_id": fresh()}));
    desk.get("/v1/accounts/1/balances").problem(401, "unauthenticated", "");
    desk.signed("GET", "/v1/accounts/1/balances", b"").problem(401, "unauthenticated", "");
    let token = rotated.with(200)["token"].as_str().expect("a token").parse().expect("its form");
    let mut desk = Caller::at(venue.server.address, token);
    desk.get("/v1/accounts/1/balances").with(200);
    let revoke = json!({"request_id": fresh()}).to_string();
    venue.operator().call("DELETE", "/v1/api-keys/desk", revoke.as_bytes()).with(200);
    let seq = venue.seq();
    for reply in [
        desk.get("/v1/accounts/1/balances"),
        desk.signed("GET", "/v1/accounts/1/balances", b""),
        desk.post("/v1/swaps", &swap(701, 1, 1)),
        desk.signed("POST", "/v1/swaps", swap(702, 1, 1).to_string().as_bytes()),
    ] {
        reply.problem(401, "unauthenticated", "");
    }
    let mut late = venue.key("late", json!({"expires_at": "2020-01-01T00:00:00Z"}));
    late.get("/v1/accounts/1/balances").problem(401, "unauthenticated", "");
    late.signed("GET", "/v1/assets", b"").problem(401, "unauthenticated", "");
    assert_eq!(venue.seq(), seq + 1, "the key, and nothing of who was refused");
    let again = venue.operator().post("/v1/api-keys", &key("desk", json!({})));
    again.problem(409, "already_exists", "name");
}

#[test]
fn a_key_is_of_use_from_its_networks_alone() {
    let venue = Venue::open();
    let mut here = venue.key("here", json!({"networks": ["127.0.0.0/8", "10.0.0.0/8"]}));
    here.get("/v1/accounts/1/balances").with(200);
    let mut there = venue.key("there", json!({"networks": ["192.0.2.0/24", "2001:db8::/32"]}));
    let seq = venue.seq();
    there.get("/v1/accounts/1/balances").problem(403, "forbidden", "");
    there.post("/v1/swaps", &swap(703, 1, 1)).problem(403, "forbidden", "");
    there.signed("GET", "/v1/assets", b"").problem(403, "forbidden", "");
    assert_eq!(venue.seq(), seq);
}

#[test]
fn keys_are_as_they_were_after_a_restart_and_in_no_backup() {
    let Venue { data, server, operator } = Venue::open();
    let at = tempfile::tempdir().expect("a directory");
    let mut caller = Caller::at(server.address, operator.clone());
    let to = at.path().join("copy");
    caller.post("/v1/backups", &json!({"to": to})).with(200);
    server.kill();
    let server = Server::start(data.path());
    let mut caller = Caller::at(server.address, operator);
    caller.get("/v1/audit").with(200);
    caller.signed("GET", "/v1/audit", b"").with(200);
    let master = std::fs::read(data.path().join("keys.master")).expect("it is there");
    for file in walk(&to) {
        let bytes = std::fs::read(&file).expect("a file");
        assert!(!bytes.windows(32).any(|window| window == &master[..]), "{}", file.display());
        assert_ne!(file.file_name().expect("a name"), "keys.master");
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_secret_goes_over_no_plain_connection_from_elsewhere() {
    let data = directory();
    let token = first_key(data.path(), "operator");
    let server = Server::start_on(data.path(), "0.0.0.0:0", &[]);
    let Some(outside) = own_address() else {
        eprintln!("this machine has no address but loopback: nothing to try");
        return;
    };
    let address = std::net::SocketAddr::new(outside, server.address.port());
    let mut caller = Caller::at(address, token.clone());
    let refused = caller.get("/v1/audit").problem(401, "unauthenticated", "");
    assert!(refused["detail"].as_str().is_some_and(|it| it.contains("TLS")), "{refused}");
    caller.signed("GET", "/v1/audit", b"").with(200);
    Caller::at(server.loopback(), token).get("/v1/audit").with(200);
}

/// An address of this machine that is not loopback, by which others would see it.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this only asks which way it would go.
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
