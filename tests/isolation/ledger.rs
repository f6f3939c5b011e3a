//! The plain checker of a bank: the receipts in the order of their seqs say what the state was at each
//! seq, so every answer can be held against the truth.
//!
//! An answer is *of* a seq: that of its commit, or that of the state that it saw. The rules:
//!
//! * no answer is of a seq that was over when its question was asked: of all that anybody had been
//!   answered by then, the highest is not above it (below it, if it committed);
//! * no answer is of a seq that is not durable when it is given;
//! * what was seen is what was there, all of it at that one seq;
//! * what a transaction had read was still so right before it committed;
//! * who was short of funds was short, by so much, at the seq named;
//! * a receipt is where it was said to be, and what an asset comes to never changes.
//!
//! ```text
//! asks 3                                 client 3 asks
//! settled 3 SEQ DURABLE ID               it committed
//! transacted 3 SEQ DURABLE ID SEEN       the same of a transaction, and what it had read
//! saw 3 SEQ DURABLE SEEN                 a read; SEEN is place:available,held for each balance
//! short 3 SEQ DURABLE PLACE BY AT PAYS   refused: so much too little at that seq for what it pays
//! resolved 3 SEQ DURABLE TOKEN HOW AT    refused: the hold had ended so, at that seq
//! refused 3 SEQ DURABLE CODE             refused for another reason
//! ```

use std::collections::BTreeMap;

use crosslatch::access::Caller;
use crosslatch::request::{Action, Command, Receipt};
use crosslatch::types::{AccountId, Amount, AssetId, Balance, Leg, Token};

/// What each balance came to, by its place.
type State = Vec<Balance>;
/// What a request adds to balances, by their places.
type Deltas = BTreeMap<usize, i128>;

/// How balances are numbered.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    pub accounts: u64,
    pub assets: u32,
}

impl Places {
    pub fn of(self, account: AccountId, asset: AssetId) -> usize {
        account.get() as usize * self.assets as usize + asset.get() as usize
    }

    pub fn count(self) -> usize {
        self.accounts as usize * self.assets as usize
    }

    /// What legs come to.
    pub fn net(self, legs: &[Leg]) -> Deltas {
        let mut net = Deltas::new();
        for leg in legs {
            let amount = leg.amount.get() as i128;
            *net.entry(self.of(leg.from, leg.asset)).or_default() -= amount;
            *net.entry(self.of(leg.to, leg.asset)).or_default() += amount;
        }
        net
    }
}

/// The states that receipts make, one after the other.
pub struct Ledger {
    places: Places,
    receipts: Vec<Receipt>,
    /// What was there after each seq, from 0.
    states: Vec<State>,
    /// What open holds have set aside and will move.
    holds: BTreeMap<Token, Deltas>,
}

impl Ledger {
    pub fn new(places: Places) -> Self {
        let nothing = vec![Balance::default(); places.count()];
        Self { places, receipts: Vec::new(), states: vec![nothing], holds: BTreeMap::new() }
    }

    /// Adds the receipt of the next seq.
    ///
    /// # Errors
    /// It cannot be.
    pub fn add(&mut self, receipt: Receipt) -> Result<(), String> {
        let seq = receipt.commit_seq.get();
        let expected = self.states.len() as u64;
        if seq != expected {
            return Err(format!("seq {seq} follows seq {}", expected - 1));
        }
        let mut state = self.states.last().expect("the first").clone();
        self.apply(&mut state, &receipt).map_err(|why| format!("{why} at {receipt:?}"))?;
        for leg in &receipt.legs {
            let of = |account| self.places.of(account, leg.leg.asset);
            let payer = (of(leg.leg.from), leg.from);
            for (place, change) in [payer, (of(leg.leg.to), leg.to)] {
                let before = self.states[seq as usize - 1][place].total();
                if (change.before, change.after) != (before, state[place].total()) {
                    return Err(format!("balance {place} did not change so: {receipt:?}"));
                }
            }
        }
        self.states.push(state);
        self.receipts.push(receipt);
        Ok(())
    }

    fn apply(&mut self, state: &mut State, receipt: &Receipt) -> Result<(), String> {
        match &receipt.command {
            Command::Swap(swap) => free(state, &self.places.net(swap.legs())),
            Command::Transact(transact) => free(state, &self.places.net(&transact.transfers)),
            Command::Deposit(deposit) => {
                let place = self.places.of(deposit.account, deposit.asset);
                free(state, &Deltas::from([(place, deposit.amount.get() as i128)]))
            }
            Command::Prepare(prepare) => {
                let net = self.places.net(prepare.swap.legs());
                let debits: Deltas = net.clone().into_iter().filter(|(_, by)| *by < 0).collect();
                free(state, &debits)?;
                held(state, &negative(&debits))?;
                self.holds.insert(Token::of(receipt.request_id), net);
                Ok(())
            }
            Command::Resolve(resolve) => {
                let net = self.holds.remove(&resolve.token).ok_or("there is no such hold")?;
                let (debits, credits) = net.into_iter().partition(|(_, by)| *by < 0);
                held(state, &debits)?;
                let back = negative(&debits);
                free(state, if resolve.action == Action::Commit { &credits } else { &back })
            }
            Command::PutAsset(_) | Command::PutAccount { .. } => Ok(()),
            other => Err(format!("nobody asks for {}", other.kind())),
        }
    }

    pub fn len(&self) -> usize {
        self.receipts.len()
    }

    /// What there is of each asset.
    pub fn totals(&self, seq: usize) -> Vec<u128> {
        let assets = self.places.assets as usize;
        let mut totals = vec![0; assets];
        for (place, balance) in self.states[seq].iter().enumerate() {
            totals[place % assets] += balance.total().get();
        }
        totals
    }

    fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// Compares what was seen with what was there.
    fn compare(&self, seq: u64, seen: &[&str]) -> Result<(), String> {
        for seen in seen {
            let (place, balance) = balance_of(seen).ok_or("unreadable")?;
            let there = self.states[seq as usize][place];
            if there != balance {
                let [available, held] = [there.available, there.held];
                return Err(format!("saw {seen}, but at seq {seq} there was {available},{held}"));
            }
        }
        Ok(())
    }
}

fn negative(deltas: &Deltas) -> Deltas {
    deltas.iter().map(|(place, by)| (*place, -by)).collect()
}

fn free(state: &mut State, deltas: &Deltas) -> Result<(), String> {
    deltas.iter().try_for_each(|(place, by)| add(&mut state[*place].available, *by))
}

fn held(state: &mut State, deltas: &Deltas) -> Result<(), String> {
    deltas.iter().try_for_each(|(place, by)| add(&mut state[*place].held, *by))
}

fn add(amount: &mut Amount, by: i128) -> Result<(), String> {
    let sum = amount.get().checked_add_signed(by).ok_or_else(|| format!("{amount} {by:+}"))?;
    *amount = Amount::new(sum);
    Ok(())
}

pub fn in_words(place: usize, balance: Balance) -> String {
    format!("{place}:{},{}", balance.available, balance.held)
}

fn balance_of(text: &str) -> Option<(usize, Balance)> {
    let (place, parts) = text.split_once(':')?;
    let (available, held) = parts.split_once(',')?;
    let amount = |text: &str| text.parse().ok();
    Some((place.parse().ok()?, Balance { available: amount(available)?, held: amount(held)? }))
}

/// Goes through a history.
pub struct Auditor<'a> {
    ledger: &'a Ledger,
    /// By client: the highest seq of any answer that was given before it asked.
    asked_after: BTreeMap<u64, u64>,
    highest: u64,
    /// By first word: how many.
    pub answers: BTreeMap<String, usize>,
    /// How many were of a later seq than had to be: something happened meanwhile.
    pub overtaken: usize,
}

impl<'a> Auditor<'a> {
    pub fn new(ledger: &'a Ledger) -> Self {
        let (asked_after, answers) = (BTreeMap::new(), BTreeMap::new());
        Self { ledger, asked_after, highest: 0, answers, overtaken: 0 }
    }

    /// Checks a line of the history.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn check(&mut self, line: &str) -> Result<(), String> {
        let broken = |why: String| format!("{line}: {why}");
        let words: Vec<&str> = line.split(' ').collect();
        let client = number(words[1]).map_err(broken)?;
        if words[0] == "asks" {
            self.asked_after.insert(client, self.highest);
            return Ok(());
        }
        *self.answers.entry(words[0].to_owned()).or_default() += 1;
        self.answer(client, &words).map_err(broken)
    }

    fn answer(&mut self, client: u64, words: &[&str]) -> Result<(), String> {
        let (seq, durable) = (number(words[2])?, number(words[3])?);
        let after = *self.asked_after.get(&client).ok_or("nobody asked")?;
        let oldest = after + u64::from(["settled", "transacted"].contains(&words[0]));
        if seq < oldest {
            return Err(format!("seq {after} had been answered before it was asked"));
        }
        if seq > durable || durable > self.ledger.last() {
            return Err(format!("it is not durable: {durable} of {}", self.ledger.last()));
        }
        self.overtaken += usize::from(seq > oldest);
        self.highest = self.highest.max(seq);
        self.is_true(seq, words[0], &words[4..])
    }

    fn is_true(&self, seq: u64, what: &str, words: &[&str]) -> Result<(), String> {
        let receipt = |seq: u64| &self.ledger.receipts[seq as usize - 1];
        match what {
            "settled" | "transacted" => {
                if receipt(seq).request_id.to_string() != words[0] {
                    return Err(format!("another has its seq: {:?}", receipt(seq)));
                }
                self.ledger.compare(seq - 1, &words[1..])
            }
            "saw" => self.ledger.compare(seq, words),
            "short" => {
                let (place, at) = (number(words[0])? as usize, number(words[2])?);
                let has = self.ledger.states[at as usize][place].available.get();
                let [by, pays] = [words[1], words[3]].map(str::parse::<u128>);
                let is_short = by.is_ok_and(|by| pays.is_ok_and(|pays| by > 0 && has + by == pays));
                if is_short && at == seq { Ok(()) } else { Err(format!("it had {has}")) }
            }
            "resolved" => match &receipt(number(words[2])?).command {
                Command::Resolve(resolve)
                    if resolve.token.to_string() == words[0]
                        && resolve.action.resolution().name() == words[1] =>
                {
                    Ok(())
                }
                other => Err(format!("it was not: {other:?}")),
            },
            "refused" => Ok(()),
            other => Err(format!("{other}?")),
        }
    }
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|error| format!("{word}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosslatch::types::{CommitSeq, RequestId, Time};
    use smallvec::SmallVec;

    use crate::support::{ETH, SOL, deposit, leg, prepare, resolve, swap};

    /// Two accounts with 100 of each asset after seq 4; at seq 5, account 0 gives 60 ETH for 1 SOL;
    /// at seq 6 account 1 sets 50 SOL aside; at seq 7 it has them back.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(Places { accounts: 2, assets: 2 });
        let funds = [(0, ETH), (0, SOL), (1, ETH), (1, SOL)];
        let funds = funds.map(|(number, asset)| deposit(number, asset, 100));
        let exchange = swap([leg(0, 1, ETH, 60), leg(1, 0, SOL, 1)]);
        let hold = prepare([leg(1, 0, SOL, 50), leg(0, 1, ETH, 1)], 5, false);
        let end = resolve(Token::of(RequestId::new(6)), Action::Expire);
        for (command, seq) in funds.into_iter().chain([exchange, hold, end]).zip(1..) {
            ledger.add(receipt(command, seq)).expect("it can be");
        }
        ledger
    }

    fn receipt(command: Command, seq: u64) -> Receipt {
        Receipt {
            caller: Caller::Trusted,
            request_id: RequestId::new(seq.into()),
            commit_seq: CommitSeq::new(seq),
            time: Time::default(),
            command,
            legs: SmallVec::new(),
            change: None,
            hold: None,
            settlement: None,
        }
    }

    /// The first complaint about a history.
    fn complaint(history: &str) -> Option<String> {
        let ledger = ledger();
        let mut auditor = Auditor::new(&ledger);
        let lines = history.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| auditor.check(line)).find_map(Result::err)
    }

    fn id(seq: u128) -> RequestId {
        RequestId::new(seq)
    }

    #[test]
    fn the_truth_is_accepted() {
        let (five, six, token) = (id(5), id(6), Token::of(id(6)));
        let history = format!(
            "asks 1
             asks 2
             saw 2 4 4 0:100,0 3:100,0
             transacted 1 5 5 {five} 0:100,0 1:100,0
             asks 1
             short 1 5 6 0 2 5 42
             asks 2
             settled 2 6 7 {six}
             asks 3
             saw 3 6 7 0:39,1 1:101,0 2:160,0 3:49,50
             asks 2
             resolved 2 7 7 {token} expired 7"
        );
        assert_eq!(complaint(&history), None);
    }

    #[test]
    fn lies_are_found() {
        let (five, token) = (id(5), Token::of(id(6)));
        let lies = [
            ("one leg without the other", "saw 1 5 5 0:40,0 1:100,0".to_owned()),
            ("what was not there yet", "saw 1 4 5 0:40,0 1:101,0".into()),
            ("what was never answered", format!("settled 1 5 5 {}", id(9))),
            ("not durable", format!("settled 1 5 4 {five}")),
            ("durable, but lost since", format!("settled 1 5 99 {five}")),
            ("had read something else", format!("transacted 1 5 5 {five} 0:99,0")),
            ("had enough", "short 1 4 5 0 2 4 42".into()),
            ("short by another amount", "short 1 5 6 0 3 5 42".into()),
            ("short at another seq than it saw", "short 1 6 7 0 2 5 42".into()),
            ("ended otherwise", format!("resolved 1 7 7 {token} committed 7")),
        ];
        for (lie, line) in lies {
            assert!(complaint(&format!("asks 1\n{line}")).is_some(), "{lie}: {line}");
        }
    }

    #[test]
    fn the_past_is_found() {
        // Client 1 was told of seq 5 before client 2 asked.
        let before = format!("asks 1\nasks 3\nsettled 1 5 5 {}\nasks 2", id(5));
        let old = "4 5 0:100,0 1:100,0";
        assert_eq!(complaint(&format!("{before}\nsaw 3 {old}")), None, "it had asked before");
        assert!(complaint(&format!("{before}\nsaw 2 {old}")).is_some());
        assert!(complaint(&format!("{before}\nrefused 2 4 5 lock_timeout")).is_some());
        // Two that commit one after the other cannot have seqs the other way round.
        assert!(complaint(&format!("{before}\nsettled 2 4 5 {}", id(4))).is_some());
        assert!(complaint(&format!("{before}\nsettled 2 5 5 {}", id(5))).is_some());
    }

    #[test]
    fn what_cannot_be_is_no_ledger() {
        let after = |command, seq| ledger().add(receipt(command, seq));
        assert!(after(deposit(0, ETH, 1), 8).is_ok());
        assert!(after(deposit(0, ETH, 1), 9).is_err(), "seq 8 is missing");
        assert!(after(swap([leg(0, 1, ETH, 41), leg(1, 0, SOL, 1)]), 8).is_err(), "it has 40");
        let twice = resolve(Token::of(id(6)), Action::Commit);
        assert!(after(twice, 8).is_err(), "it has expired");
    }
}
