//! Being scraped costs no memory, however often.

use super::http::Client;
use super::process::Server;

/// Scrapes before the first look: buffers, caches and the allocator have what they need.
const WARM_UP: usize = 500;
/// Scrapes between the looks: one every 15 seconds for a day is 5,760.
const SCRAPES: usize = 5_760;
/// A scrape has some 100 KB. If a hundredth of each stayed, 5,760 of them would come to as much as this.
const GROWS_BYTES_MAX: f64 = 6e6;

fn resident(text: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    line.expect("it is shown").parse().expect("a number")
}

#[test]
fn a_day_of_scrapes_leaves_memory_as_it_was() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let mut client = Client::connect(server.address);
    let mut scrape = |times: usize| {
        let texts = (0..times).map(|_| client.get("/metrics"));
        let last = texts.inspect(|reply| assert_eq!(reply.status, 200)).last().expect("a scrape");
        (resident(last.text()), last.body.len())
    };
    let (before, bytes) = scrape(WARM_UP);
    let (after, bytes_after) = scrape(SCRAPES);
    eprintln!(
        "resident: {before} bytes, after {SCRAPES} scrapes {after}; a scrape has {bytes_after} bytes"
    );
    assert!(bytes > 10_000 && bytes_after < bytes + 1_000, "{bytes} bytes, then {bytes_after}");
    assert!(after - before < GROWS_BYTES_MAX, "{before} bytes before, {after} after");
}
