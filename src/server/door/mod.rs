//! The door: who asks, whether they may, and how much of it.
//!
//! ```text
//! request ─► what the call needs (rights) ─► key (bearer, or signature) ─► network ─► scope ─► rate
//!               401 unauthenticated ◄───────────┘   403 forbidden ◄──┴─────────┘   429 ◄──┘
//!         ─► handler, with a visitor: the caller that its requests carry, the accounts that it may see
//! ```
//!
//! While a venue has no key, whoever reaches it may do everything, and it listens on loopback only. From
//! the first key on, everybody needs one.
//!
//! Nothing that is answered here says whether a key of some name exists: where there is none, the same is
//! computed and the same is said. What was refused here never reached the engine, and left no trace in
//! the journal. That a key's accounts are debited by nobody else is checked once more, and finally, where
//! requests are sequenced.

mod enter;
mod rates;
pub mod rights;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::access::secret::{Master, Secret, Token};
use crate::access::signature::{Signed, is_timely};
use crate::access::{Accounts, ApiKey, Caller, KeyNumber};
use crate::clock::{Clock, SystemClock};
use crate::config::EdgeLimits;
use crate::directory::{Directory, Issued};
use crate::error::Error;
use crate::metrics::{EdgeMetrics, TurnedAway};
use crate::types::AccountId;

use super::connections::Peer;
use super::problem::Problem;
use rates::{Failures, KeyUse, KeyUses, TooMuch};
use rights::Need;

pub(super) use enter::{Read, SOCKET_PROTOCOL, challenge, enter};
pub use rates::InFlight;

/// The verifier of no key.
const NOBODY: [u8; 32] = [0; 32];

/// Everything that is known at the door.
pub struct Door {
    data: PathBuf,
    /// Read when it is needed first: a venue without keys has none.
    master: OnceLock<Master>,
    uses: KeyUses,
    failures: Failures,
    clock: Arc<dyn Clock>,
    metrics: EdgeMetrics,
    window_ms: u64,
    /// Whether anybody may look at the metrics.
    metrics_open: bool,
}

/// Who asks, once that is settled. Requests carry its [`Caller`], reads ask it what they may show.
#[derive(Clone, Debug)]
pub struct Visitor(Who);

#[derive(Clone, Debug)]
enum Who {
    /// Anybody on this machine, while there are no keys; or the program itself.
    Trusted,
    /// Anybody, of a call that is for everybody.
    Anybody,
    /// The owner of a key.
    Owner { issued: Issued, of: Arc<KeyUse> },
}

/// Why somebody does not get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 401: no key, or not the right one.
    Unauthenticated(String),
    /// 403: the key may not.
    Forbidden(String),
    /// 429.
    RateLimited {
        /// Of what there was too much.
        why: String,
        /// Whole seconds after which it may be tried again.
        after_seconds: u64,
    },
}

impl Door {
    /// The door of a server on that data directory.
    pub fn new(data: &Path, limits: &EdgeLimits, metrics_open: bool) -> Self {
        Self {
            data: data.into(),
            master: OnceLock::new(),
            uses: KeyUses::default(),
            failures: Failures::new(limits),
            clock: Arc::new(SystemClock),
            metrics: EdgeMetrics::new(),
            window_ms: limits.signature_window_ms,
            metrics_open,
        }
    }

    /// The master of all keys, made at the first use. Reads and writes the disk: not for a tokio worker,
    /// but for the first call.
    ///
    /// # Errors
    /// [`Error::Storage`]: it can neither be read nor made.
    pub fn master(&self) -> Result<&Master, Error> {
        if let Some(master) = self.master.get() {
            return Ok(master);
        }
        let master = Master::open(&self.data).map_err(|error| Error::Storage(error.to_string()))?;
        Ok(self.master.get_or_init(|| master))
    }

    /// Whether a call that needs that is for everybody, with or without a key.
    pub(super) fn is_open_to_all(&self, need: Need) -> bool {
        need == Need::Public || need == Need::Metrics && self.metrics_open
    }

    /// The key that a bearer's token belongs to.
    ///
    /// # Errors
    /// [`Refused::Unauthenticated`], or too many of these.
    pub fn bearer(
        &self,
        token: &str,
        peer: &Peer,
        directory: &Directory,
    ) -> Result<Issued, Refused> {
        if !peer.is_private() {
            let why = "a bearer token is taken over TLS only, and from this machine; it has been \
                       seen on the way: rotate the key, then use TLS, or sign";
            return Err(self.failed(peer, why.into()));
        }
        let token: Token =
            token.parse().map_err(|why| self.failed(peer, format!("the token {why}")))?;
        let found = directory.key_by_name(&token.name);
        let verifier = found.as_ref().map_or(NOBODY, |issued| issued.key.verifier);
        let is_right = token.secret.fits(&verifier);
        self.owner(found.filter(|_| is_right), peer)
    }

    /// The first half of a signed request, before its body is read.
    ///
    /// # Errors
    /// [`Refused::Unauthenticated`]: the time of signing is not now. Or too many of these.
    pub fn timely(&self, timestamp: &str, peer: &Peer) -> Result<(), Refused> {
        let now_ms = self.clock.wall().millis();
        if is_timely(timestamp, now_ms, self.window_ms) {
            return Ok(());
        }
        let window = self.window_ms;
        let why = format!(
            "the time of signing must be within {window} ms of the server's, which is {now_ms}, in \
             milliseconds since 1970"
        );
        Err(self.failed(peer, why))
    }

    /// The key that a request is signed with.
    ///
    /// # Errors
    /// As [`Door::timely`].
    pub fn signed(
        &self,
        name: &str,
        signature: &str,
        signed: &Signed<'_>,
        peer: &Peer,
        directory: &Directory,
    ) -> Result<Issued, Refused> {
        self.timely(signed.timestamp, peer)?;
        let found = directory.key_by_name(name);
        let (generation, verifier) = match &found {
            Some(issued) => (issued.key.generation, issued.key.verifier),
            None => (1, NOBODY),
        };
        // A server that has no master has no key that could sign.
        let secret = self.master.get().map(|master| master.secret(name, generation));
        let secret = secret.unwrap_or(Secret::new(NOBODY));
        let is_own = secret.fits(&verifier);
        if found.is_some() && !is_own {
            tracing::warn!(
                key = name,
                "cannot check signatures: keys.master is not the one that the \
                key was made with; bearer tokens work, and `crosslatch key rotate` mends it"
            );
        }
        let is_right = signed.is_signed(signature, &secret) & is_own;
        self.owner(found.filter(|_| is_right), peer)
    }

    /// Whoever proved to have the secret may hear what is wrong with the key.
    fn owner(&self, found: Option<Issued>, peer: &Peer) -> Result<Issued, Refused> {
        let Some(issued) = found else {
            let why = "there is no such key, or its secret or signature is another";
            return Err(self.failed(peer, why.into()));
        };
        let name = &issued.key.name;
        if issued.revoked {
            return Err(self.failed(peer, format!("the key {name} is revoked")));
        }
        if !issued.stands_at(self.clock.wall()) {
            return Err(self.failed(peer, format!("the key {name} has expired")));
        }
        Ok(issued)
    }

    /// Counts a failure of somebody there: beyond a rate, nobody hears any more what was wrong.
    pub fn failed(&self, peer: &Peer, why: String) -> Refused {
        match self.failures.add(self.now(), peer.address.ip()) {
            Ok(()) => Refused::Unauthenticated(why),
            Err(wait) => Refused::RateLimited {
                why: "too many failed authentications from this address".into(),
                after_seconds: whole_seconds(wait),
            },
        }
    }

    /// Lets a key's owner in to what a call needs.
    ///
    /// # Errors
    /// [`Refused::Forbidden`]: not from there, or not that. [`Refused::RateLimited`].
    pub fn admit(
        &self,
        issued: Issued,
        need: Need,
        peer: &Peer,
    ) -> Result<(Visitor, InFlight), Refused> {
        let address = peer.address.ip();
        if !issued.key.is_allowed_from(address) {
            let why = format!("the key may not be used from {}", address.to_canonical());
            return Err(Refused::Forbidden(why));
        }
        if !need.is_met_by(issued.key.scopes) {
            let why = format!("this needs the scope {}, which the key has not", need.in_words());
            return Err(Refused::Forbidden(why));
        }
        let of = self.uses.of(issued.number);
        let visitor = Visitor(Who::Owner { issued, of });
        let flying = self.charge(&visitor, 1)?.expect("a key's owner is counted");
        Ok((visitor, flying))
    }

    /// Counts `n` requests of that visitor, in flight until what is returned is dropped; `None` where
    /// nobody counts.
    ///
    /// # Errors
    /// [`Refused::RateLimited`].
    pub fn charge(&self, visitor: &Visitor, n: u32) -> Result<Option<InFlight>, Refused> {
        let Who::Owner { issued, of } = &visitor.0 else { return Ok(None) };
        let limits = &issued.key.limits;
        let limited = |too_much| match too_much {
            TooMuch::Rate(wait) => Refused::RateLimited {
                why: format!("the key may ask {} times a second", limits.requests_per_second),
                after_seconds: whole_seconds(wait),
            },
            TooMuch::InFlight => Refused::RateLimited {
                why: format!("the key may have {} requests in flight", limits.in_flight),
                after_seconds: 1,
            },
        };
        KeyUse::take(of, self.now(), n, limits).map(Some).map_err(limited)
    }

    /// Whether who was let in would still be, for answers that go on and on: a key may have been
    /// revoked or rotated meanwhile, or have expired; or it is the first that there is.
    ///
    /// # Errors
    /// [`Refused::Unauthenticated`].
    pub fn still(&self, visitor: &Visitor, directory: &Directory) -> Result<(), Refused> {
        let why = match &visitor.0 {
            Who::Anybody => return Ok(()),
            Who::Trusted if directory.keys_len() == 0 => return Ok(()),
            Who::Trusted => "there are keys now; come again with one".into(),
            Who::Owner { issued, .. } => {
                let is_it = |now: &Issued| {
                    let same = now.key.generation == issued.key.generation;
                    same && !now.revoked && now.stands_at(self.clock.wall())
                };
                if directory.key(issued.number).as_ref().is_some_and(is_it) {
                    return Ok(());
                }
                format!(
                    "the key {} does not stand any more, or has another secret",
                    issued.key.name
                )
            }
        };
        let refused = Refused::Unauthenticated(why);
        self.count(&refused);
        Err(refused)
    }

    /// What is answered to who was turned away; counts them.
    pub(super) fn turned_away(&self, refused: Refused) -> Problem {
        self.count(&refused);
        refused.into()
    }

    /// Counts who was turned away.
    fn count(&self, refused: &Refused) {
        self.metrics.turned_away(match refused {
            Refused::Unauthenticated(_) => TurnedAway::Unauthenticated,
            Refused::Forbidden(_) => TurnedAway::Forbidden,
            Refused::RateLimited { .. } => TurnedAway::RateLimited,
        });
    }

    fn now(&self) -> u64 {
        self.clock.boot_nanos()
    }
}

fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000).max(1)
}

impl Visitor {
    /// Who may do everything.
    pub const TRUSTED: Self = Self(Who::Trusted);
    /// Who may do what anybody may.
    pub const ANYBODY: Self = Self(Who::Anybody);

    /// The key of whoever asks; `None` where there is none.
    pub fn key(&self) -> Option<KeyNumber> {
        match &self.0 {
            Who::Owner { issued, .. } => Some(issued.number),
            Who::Trusted | Who::Anybody => None,
        }
    }

    /// The key of whoever asks, as it was when they came in.
    pub fn api_key(&self) -> Option<&ApiKey> {
        match &self.0 {
            Who::Owner { issued, .. } => Some(&issued.key),
            Who::Trusted | Who::Anybody => None,
        }
    }

    /// The caller that requests carry.
    ///
    /// # Panics
    /// Nobody in particular asks: such calls change nothing.
    pub fn caller(&self) -> Caller {
        match &self.0 {
            Who::Trusted => Caller::Trusted,
            Who::Owner { issued, .. } => Caller::Key(issued.number),
            Who::Anybody => unreachable!("public calls change nothing"),
        }
    }

    /// Whether it may look at that account.
    pub fn may_see(&self, account: AccountId) -> bool {
        match &self.0 {
            Who::Trusted => true,
            Who::Owner { issued, .. } => issued.key.accounts.has(account),
            Who::Anybody => false,
        }
    }

    /// Whether it may look at what is nobody's in particular and not for everybody.
    pub fn sees_all(&self) -> bool {
        match &self.0 {
            Who::Trusted => true,
            Who::Owner { issued, .. } => issued.key.accounts == Accounts::All,
            Who::Anybody => false,
        }
    }
}
