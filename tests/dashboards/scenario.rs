//! What no load does: holds that are kept, rolled back and left to expire, withdrawals, transactions in each
//! other's way, requests that wait, wrong ones. On a server on which a load has set up its accounts and assets.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::Client;

/// Two of the load's accounts.
const ALICE: u64 = 11;
const BOB: u64 = 12;

/// Somebody who does all of that, over HTTP.
pub struct Scenario {
    client: Client,
    other: Client,
    next: u64,
}

impl Scenario {
    pub fn new(server: SocketAddr) -> Self {
        let (client, other) = (Client::connect(server), Client::connect(server));
        Self { client, other, next: 1 }
    }

    fn id(&mut self) -> String {
        self.next += 1;
        format!("01900000-0000-7000-8000-{:012x}", self.next)
    }

    fn legs() -> Value {
        json!([{"from": ALICE, "to": BOB, "asset": "A0", "amount": "1"},
               {"from": BOB, "to": ALICE, "asset": "A1", "amount": "1"}])
    }

    /// Each of it once.
    pub fn round(&mut self) {
        self.holds();
        self.withdrawals();
        self.waits();
        self.transactions();
        self.wrong();
    }

    /// Holds that stay when all is over: a swap's for as long as there may be, and a withdrawal's.
    pub fn leave_holds(&mut self) {
        let id = self.id();
        let body = json!({"request_id": id, "legs": Self::legs(), "expires_in_ms": 3_600_000});
        self.client.post("/v1/prepared", &body).with(200);
        let id = self.id();
        self.client.post("/v1/withdrawals", &self.withdrawal(&id)).with(200);
    }

    fn prepare(&mut self, expires_in_ms: u64, exclusive: bool) -> String {
        let token = self.id();
        let body = json!({"request_id": token, "legs": Self::legs(),
                          "expires_in_ms": expires_in_ms, "exclusive": exclusive});
        self.client.post("/v1/prepared", &body).with(200);
        token
    }

    fn resolve(&mut self, token: &str, how: &str) {
        let path = format!("/v1/prepared/{token}/{how}");
        let id = self.id();
        self.client.post(&path, &json!({"request_id": id})).with(200);
    }

    fn holds(&mut self) {
        for how in ["commit", "rollback"] {
            let token = self.prepare(60_000, false);
            self.resolve(&token, how);
        }
        // This one expires.
        self.prepare(1, false);
    }

    fn withdrawal(&self, id: &str) -> Value {
        json!({"request_id": id, "account": ALICE, "asset": "A0", "amount": "1",
               "reference": format!("tx-{id}")})
    }

    fn withdrawals(&mut self) {
        for how in ["confirm", "cancel"] {
            let id = self.id();
            self.client.post("/v1/withdrawals", &self.withdrawal(&id)).with(200);
            let resolution = self.id();
            let path = format!("/v1/withdrawals/{id}/{how}");
            self.client.post(&path, &json!({"request_id": resolution})).with(200);
        }
    }

    /// A swap stands behind an exclusive hold until that is committed.
    fn waits(&mut self) {
        let token = self.prepare(60_000, true);
        let swap = json!({"request_id": self.id(), "legs": Self::legs()});
        let resolution = json!({"request_id": self.id()});
        std::thread::scope(|scope| {
            let other = &mut self.other;
            // It may come before or after the commit: over many rounds it is both.
            let waiting = scope.spawn(move || other.post("/v1/swaps", &swap).with(200));
            let path = format!("/v1/prepared/{token}/commit");
            self.client.post(&path, &resolution).with(200);
            waiting.join().expect("it is answered");
        });
    }

    /// The second one has read what the first one changed.
    fn transactions(&mut self) {
        let key = "bGltaXQ=";
        let seen = self.client.get(&format!("/v1/keys/{key}")).with(200)["version"].clone();
        for status in [200, 409] {
            let body = json!({"request_id": self.id(), "reads": [{"key": key, "version": seen}],
                              "writes": [{"key": key, "value": "MTAw"}], "transfers": []});
            self.client.post("/v1/transactions", &body).with(status);
        }
    }

    /// More than anybody has, and what makes no sense.
    fn wrong(&mut self) {
        let leg = |from: u64, to: u64, asset: &str| {
            json!({"from": from, "to": to, "asset": asset,
                   "amount": "1000000000000000000000000000000"})
        };
        let legs = json!([leg(ALICE, BOB, "A0"), leg(BOB, ALICE, "A1")]);
        let body = json!({"request_id": self.id(), "legs": legs});
        self.client.post("/v1/swaps", &body).with(422);
        self.client.post("/v1/swaps", &json!({"legs": 7})).with(400);
        let order = format!("/v1/orders/{}", self.id());
        let body = json!({"request_id": self.id()});
        self.client.json("DELETE", &order, &body).with(404);
    }
}
