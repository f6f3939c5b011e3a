//! Being scraped costs no memory, however often.

use super::http::Client;
use super::process::Server;

/// Scrapes before the first look: buffers, caches and the allocator have what they need.
const WARM_UP: usize = 2_000;
/// Resident memory goes up and down by up to 15 MB as the allocator likes; what counts is the least of so many
/// scrapes, and even that moves.
const LOOK: usize = 2_000;
/// Scrapes between the looks: one every 15 seconds for a day is 5,760, this is nearly two.
const SCRAPES: usize = 10_000;
/// Of the 75 KB that a scrape has not a twentieth may stay: twice what the allocator does to the difference.
const STAYS_BYTES_MAX: f64 = 3_500.0;

/// One connection, as Prometheus has one.
struct Scraper(Client);

impl Scraper {
    /// The resident memory that a scrape says, and how long it is.
    fn scrape(&mut self) -> (f64, usize) {
        let reply = self.0.get("/metrics");
        assert_eq!(reply.status, 200);
        let lines = reply.text().lines();
        let mut line = lines.filter_map(|line| line.strip_prefix("process_resident_memory_bytes "));
        let resident = line.next_back().expect("it is shown").parse().expect("a number");
        (resident, reply.body.len())
    }

    /// The least resident memory, and the length, of so many.
    fn least(&mut self, times: usize) -> (f64, usize) {
        let scrapes: Vec<_> = (0..times).map(|_| self.scrape()).collect();
        let least = scrapes.iter().map(|(resident, _)| *resident).fold(f64::INFINITY, f64::min);
        (least, scrapes.last().expect("some").1)
    }
}

#[test]
fn a_day_of_scrapes_leaves_memory_as_it_was() {
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let mut scraper = Scraper(Client::connect(server.address));
    scraper.least(WARM_UP);
    let (before, bytes) = scraper.least(LOOK);
    scraper.least(SCRAPES - LOOK);
    let (after, bytes_after) = scraper.least(LOOK);
    eprintln!("resident: {before} bytes, {SCRAPES} scrapes of {bytes} bytes later {after}");
    assert!(bytes > 10_000 && bytes_after < bytes + 1_000, "{bytes} bytes, then {bytes_after}");
    let stays = (after - before) / SCRAPES as f64;
    assert!(stays < STAYS_BYTES_MAX, "{before} bytes before, {after} after");
}
