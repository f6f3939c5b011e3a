//! A request made ready: checked and netted, with what the coordinator adds to it.

use super::ops::{Moves, Op, Ops, Phase, Side, netted};
use crate::access::Caller;
use crate::error::Malformed;
use crate::market::Settlement;
use crate::request::{Action, Command, Hold, Purpose, Request, Resolve, Transfer};
use crate::types::{AccountId, Amount, BalanceKey, Leg, RequestId, Time};

/// A request made ready on its caller's thread: checked, netted, digested.
#[derive(Clone, Debug)]
pub struct Txn {
    /// The caller's id; of an expiry the id of the request that made the hold.
    pub id: RequestId,
    /// Hash of everything but the id: the same id with another digest is refused.
    pub digest: u64,
    /// See [`Request::deadline`].
    pub deadline: Time,
    /// See [`Request::caller`].
    pub caller: Caller,
    /// Whether its key may not ask for it: of an id that was seen before it is not even told how it went.
    /// The coordinator sets it.
    pub barred: bool,
    /// What to do.
    pub command: Command,
    /// Which shards own something that it touches: bit *n* for shard *n*.
    pub shards: u64,
    /// When the hold that this makes ends by itself. The coordinator sets it.
    pub expires_at: Time,
    /// The hold that this ends. The coordinator adds it.
    hold: Option<Box<Hold>>,
    /// The netted debits and credits, where legs share a balance; `None` where the legs are them.
    netted: Option<Box<[Op]>>,
    /// What a market's request has part in. The coordinator adds it.
    part: Option<Box<Part>>,
}

/// What a market's request does to balances, as far as that is known.
#[derive(Clone, Debug)]
enum Part {
    /// It is to be reserved; the market has not seen the request.
    Reserves(Reserve),
    /// The market has said what the request comes to.
    Settles(Settlement),
}

/// What is reserved before a market sees an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Whose balance, of what.
    pub pays: BalanceKey,
    /// How much.
    pub units: Amount,
    /// What the same account receives: it needs a link there.
    pub receives: BalanceKey,
}

impl Txn {
    /// Checks and nets a request for an engine of `shards` shards.
    ///
    /// # Errors
    /// The field at fault: what [`Command::validate`] finds, legs that cancel out, or legs whose
    /// sum on one balance exceeds 128 bits.
    pub fn new(request: Request, digest: u64, shards: usize) -> Result<Self, Malformed> {
        let Request { id, deadline, caller, command } = request;
        command.validate()?;
        let netted = match &command {
            Command::Swap(swap) => netted("legs", swap.legs())?,
            Command::Prepare(prepare) => netted("legs", prepare.swap.legs())?,
            Command::Transact(transact) => netted("transfers", &transact.transfers)?,
            _ => None,
        };
        let expires_at = Time::NEVER;
        let mut txn = Self {
            id,
            digest,
            deadline,
            caller,
            barred: false,
            command,
            shards: 0,
            expires_at,
            hold: None,
            netted,
            part: None,
        };
        txn.shards = txn.shard_mask(shards);
        Ok(txn)
    }

    /// The engine's own request to end a hold whose time is over.
    pub fn expiry(hold: Box<Hold>, shards: usize) -> Self {
        let resolve = Resolve { token: hold.token, action: Action::Expire };
        let mut txn = Self {
            id: hold.token.request(),
            digest: 0,
            deadline: Time::NEVER,
            caller: Caller::Trusted,
            barred: false,
            command: Command::Resolve(resolve),
            shards: 0,
            expires_at: Time::NEVER,
            hold: None,
            netted: None,
            part: None,
        };
        txn.attach(hold, shards);
        txn
    }

    /// The engine's own request to end an order whose time is over.
    pub fn order_expiry(order: RequestId) -> Self {
        Self {
            id: order,
            digest: 0,
            deadline: Time::NEVER,
            caller: Caller::Trusted,
            barred: false,
            command: Command::ExpireOrder(order),
            shards: 0,
            expires_at: Time::NEVER,
            hold: None,
            netted: None,
            part: None,
        }
    }

    /// Adds what has to be reserved before a market can see it.
    ///
    /// # Panics
    /// If it is no market's.
    pub fn reserve(&mut self, reserve: Reserve, shards: usize) {
        assert!(self.command.is_of_market());
        self.part = Some(Box::new(Part::Reserves(reserve)));
        self.shards = self.shard_mask(shards);
    }

    /// Adds what the market makes of it: only then are its operations known.
    ///
    /// # Panics
    /// If it is no market's.
    pub fn settle(&mut self, settlement: Settlement, shards: usize) {
        assert!(self.command.is_of_market());
        self.part = Some(Box::new(Part::Settles(settlement)));
        self.shards = self.shard_mask(shards);
    }

    /// Forgets what was to be reserved: its market says it anew.
    pub fn reserve_nothing(&mut self) {
        (self.part, self.shards) = (None, 0);
    }

    /// A market's request without what was added to it since.
    pub fn as_it_came(&self) -> Self {
        let Self { id, digest, deadline, caller, barred, expires_at, .. } = *self;
        Self {
            id,
            digest,
            deadline,
            caller,
            barred,
            command: self.command.clone(),
            shards: 0,
            expires_at,
            hold: None,
            netted: None,
            part: None,
        }
    }

    /// What is reserved for it, while that is all that is known.
    pub fn reserved(&self) -> Option<&Reserve> {
        match self.part.as_deref() {
            Some(Part::Reserves(reserve)) => Some(reserve),
            _ => None,
        }
    }

    /// What the market made of it, once it has said.
    #[inline]
    pub fn settlement(&self) -> Option<&Settlement> {
        match self.part.as_deref() {
            Some(Part::Settles(settlement)) => Some(settlement),
            _ => None,
        }
    }

    /// Adds the hold that this ends: only then are its operations known.
    ///
    /// # Panics
    /// If it is another hold than the one named, or of another purpose.
    pub fn attach(&mut self, hold: Box<Hold>, shards: usize) {
        let Command::Resolve(resolve) = &self.command else {
            unreachable!("only a resolution ends a hold")
        };
        assert!(resolve.token == hold.token && resolve.action.fits(&hold.purpose));
        self.netted = match &hold.purpose {
            Purpose::Swap(swap) => {
                netted("legs", swap.legs()).expect("checked when it was prepared")
            }
            Purpose::Withdrawal(_) => None,
        };
        self.expires_at = hold.expires_at;
        self.hold = Some(hold);
        self.shards = self.shard_mask(shards);
    }

    /// The hold that this ends, once the coordinator has added it.
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_deref()
    }

    /// The legs that this moves or sets aside; empty for a command without any.
    pub fn legs(&self) -> &[Leg] {
        match (&self.command, &self.hold) {
            (Command::Swap(swap), _) => swap.legs(),
            (Command::Prepare(prepare), _) => prepare.swap.legs(),
            (Command::Transact(transact), _) => &transact.transfers,
            (_, Some(hold)) => match &hold.purpose {
                Purpose::Swap(swap) => swap.legs(),
                Purpose::Withdrawal(_) => &[],
            },
            _ => &[],
        }
    }

    /// The operations, in the order of the legs' first mention, payer before payee. No two share a
    /// balance.
    #[inline]
    pub fn ops(&self) -> Ops<'_> {
        if let Command::Swap(swap) = &self.command {
            let moves = match &self.netted {
                Some(netted) => Moves::Netted(netted.iter()),
                None => Moves::legs(swap.legs()),
            };
            return Ops::new(moves, Phase::Whole);
        }
        Ops::new(self.rare_moves(), self.phase())
    }

    /// The operations that change a balance, and so have a row, in the order in which the rows
    /// stand everywhere.
    #[inline]
    pub fn row_ops(&self) -> impl Iterator<Item = Op> + Clone + '_ {
        self.ops().filter(|op| op.side.has_row())
    }

    fn rare_moves(&self) -> Moves<'_> {
        if let Some(part) = &self.part {
            return match &**part {
                Part::Reserves(Reserve { pays, units, receives }) => {
                    let reserve = Op::new(*pays, Side::SetAside, *units);
                    Moves::Two([reserve, Op::new(*receives, Side::Check, Amount::ZERO)].into_iter())
                }
                Part::Settles(settlement) => Moves::Settled(settlement.moves.iter()),
            };
        }
        if let Some(netted) = &self.netted {
            return Moves::Netted(netted.iter());
        }
        let one = |transfer: &Transfer, side| {
            let key = BalanceKey { account: transfer.account, asset: transfer.asset };
            Moves::One(Some(Op::new(key, side, transfer.amount)))
        };
        match &self.command {
            Command::Deposit(to) => one(to, Side::Credit),
            Command::Withdraw(from) => one(from, Side::Debit),
            Command::Resolve(_) => match self.hold.as_ref().map(|hold| &hold.purpose) {
                Some(Purpose::Withdrawal(from)) => one(from, Side::Debit),
                Some(Purpose::Swap(swap)) => Moves::legs(swap.legs()),
                None => Moves::One(None),
            },
            Command::Swap(_) | Command::Prepare(_) | Command::Transact(_) => {
                Moves::legs(self.legs())
            }
            // What a market's request does is not known yet.
            Command::Order(_)
            | Command::Amend(_)
            | Command::Cancel(_)
            | Command::ExpireOrder(_)
            | Command::CancelAll { .. }
            | Command::PutAsset(_)
            | Command::PutAccount { .. }
            | Command::RemoveLink { .. }
            | Command::PutMarket(_)
            | Command::SwitchMarket { .. }
            | Command::PutKey(_)
            | Command::RevokeKey(_)
            | Command::Operate(_) => Moves::One(None),
        }
    }

    fn phase(&self) -> Phase {
        match &self.command {
            Command::Prepare(prepare) => Phase::Prepare { exclusive: prepare.exclusive },
            Command::Withdraw(_) => Phase::Prepare { exclusive: false },
            Command::Resolve(resolve) => match resolve.action {
                Action::Commit | Action::Confirm => Phase::Commit,
                Action::Rollback | Action::Cancel | Action::Expire => Phase::Undo,
            },
            _ => Phase::Whole,
        }
    }

    fn shard_mask(&self, shards: usize) -> u64 {
        let of = |account: AccountId| account.shard(shards);
        let mut mask = self.ops().fold(0, |mask, op| mask | 1 << of(op.key.account));
        if let Command::Transact(transact) = &self.command {
            let reads = transact.reads.iter().map(|read| read.subject.shard(shards));
            let writes = transact.writes.iter().map(|write| write.key.shard(shards));
            mask = reads.chain(writes).fold(mask, |mask, shard| mask | 1 << shard);
        }
        mask
    }
}
