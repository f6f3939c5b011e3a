//! What the events of a book add up to, kept without looking at the book.
//!
//! "The events of one command say all that it changed": so from commands and events alone one must know
//! of every order how much is left of it, where it stands and at what price; and of every order, always,
//!
//! ```text
//! what came = what was traded + what ended otherwise + what is left
//! ```
//!
//! and of a book the same, each trade counted for both of its orders.

use hashbrown::HashMap;

use crosslatch::market::order::{Event, Lots, NewOrder, OrderId, Price, Refusal, Slot};

use crate::Rules;
use crate::command::Command;

/// One order's part.
#[derive(Clone, Copy, Default)]
struct Account {
    came: u128,
    traded: u128,
    ended: u128,
    left: Lots,
    stands: Option<(Slot, Price)>,
}

#[derive(Default)]
pub struct Ledger {
    accounts: HashMap<OrderId, Account>,
    /// Who stands in which slot.
    slots: Vec<Option<OrderId>>,
    came: u128,
    traded: u128,
    ended: u128,
    left: u128,
}

impl Ledger {
    /// Writes down what a command came to.
    pub fn enter(
        &mut self,
        command: &Command,
        answer: &Result<Option<Slot>, Refusal>,
        events: &[Event],
    ) {
        let Ok(restored) = answer else {
            return assert!(events.is_empty(), "a refused command has events");
        };
        match *command {
            Command::Place(order) => self.comes(order.id, order.lots),
            Command::Amend { id, lots, .. } => {
                if let Some(Event::Moved { .. }) = events.first() {
                    self.comes_again(id, lots, &events[0]);
                }
            }
            Command::Restore(order) => {
                self.comes(order.id, order.lots);
                self.rests(order.id, restored.expect("a slot"), order.price, order.lots);
            }
            Command::Cancel(_) | Command::CancelAll(_) | Command::Expire(_) => {}
        }
        for event in events {
            self.read(event);
        }
        if let Command::Amend { id, lots, .. } = *command
            && !matches!(events.first(), Some(Event::Moved { .. }))
        {
            self.check_left(id, lots);
        }
        self.check_end(command);
    }

    /// How much is left of all orders that stand.
    pub fn left(&self) -> u128 {
        self.left
    }

    /// Every order of the book, and nobody else, stands where the events said, with what they left.
    pub fn check_book(&self, book: &impl Rules) {
        assert_eq!(self.accounts.len(), book.len(), "orders by the events, and in the book");
        for (id, account) in &self.accounts {
            let (slot, order) = book.order(*id).expect("the events say that it stands");
            assert_eq!(order.lots, account.left, "left of {id:?}");
            assert_eq!(Some((slot, order.price)), account.stands, "place of {id:?}");
        }
    }

    fn read(&mut self, event: &Event) {
        match *event {
            Event::Filled { taker, maker, slot, price, lots, left } => {
                self.trades(taker, lots);
                self.trades(maker, lots);
                self.check_place(maker, slot, price);
                self.check_left(maker, left);
                if left.0 == 0 {
                    self.leaves(maker);
                }
            }
            Event::Rested { id, slot, price, lots } => self.rests(id, slot, price, lots),
            Event::Reduced { id, slot, price, by, left } => {
                assert!(by.0 > 0 && left.0 > 0, "{event:?}");
                self.check_place(id, slot, price);
                self.ends(id, by);
                self.check_left(id, left);
            }
            // Read by `comes_again`, as what came must be known before.
            Event::Moved { .. } => {}
            Event::Removed { id, slot, price, lots, .. } => {
                self.check_place(id, slot, price);
                self.check_left(id, lots);
                self.ends(id, lots);
                self.leaves(id);
            }
            Event::TakerReduced { id, by, left } => {
                self.ends(id, by);
                self.check_left(id, left);
            }
            Event::Dropped { id, lots, .. } => {
                assert!(lots.0 > 0, "{event:?}");
                self.check_left(id, lots);
                self.ends(id, lots);
            }
        }
    }

    fn comes(&mut self, id: OrderId, lots: Lots) {
        let account = Account { came: lots.0.into(), left: lots, ..Account::default() };
        let before = self.accounts.insert(id, account);
        assert!(before.is_none(), "{id:?} came while it stands");
        self.came += account.came;
        self.left += account.came;
    }

    /// What an amendment adds has come, and what it takes away has ended.
    fn comes_again(&mut self, id: OrderId, lots: Lots, moved: &Event) {
        let Event::Moved { id: moved, slot, price, lots: before } = *moved else {
            panic!("{moved:?} is no move");
        };
        assert_eq!(moved, id, "who moves");
        self.check_place(id, slot, price);
        self.check_left(id, before);
        self.slots[slot.0 as usize] = None;
        let account = self.account(id);
        account.stands = None;
        if lots >= before {
            let more = u128::from(lots.0 - before.0);
            account.came += more;
            account.left = lots;
            self.came += more;
            self.left += more;
        } else {
            self.ends(id, Lots(before.0 - lots.0));
        }
    }

    fn rests(&mut self, id: OrderId, slot: Slot, price: Price, lots: Lots) {
        assert!(lots.0 > 0, "{id:?} rests with nothing");
        self.check_left(id, lots);
        let account = self.account(id);
        assert!(account.stands.is_none(), "{id:?} stands already");
        account.stands = Some((slot, price));
        let index = slot.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        assert!(self.slots[index].is_none(), "{slot:?} is given to {id:?} and another");
        self.slots[index] = Some(id);
    }

    fn trades(&mut self, id: OrderId, lots: Lots) {
        assert!(lots.0 > 0, "{id:?} trades nothing");
        let account = self.account(id);
        account.traded += u128::from(lots.0);
        account.left.0 -= lots.0;
        self.traded += u128::from(lots.0);
        self.left -= u128::from(lots.0);
    }

    fn ends(&mut self, id: OrderId, lots: Lots) {
        let account = self.account(id);
        account.ended += u128::from(lots.0);
        account.left.0 -= lots.0;
        self.ended += u128::from(lots.0);
        self.left -= u128::from(lots.0);
    }

    /// An order that stood has nothing left.
    fn leaves(&mut self, id: OrderId) {
        let account = self.accounts.remove(&id).expect("it stood");
        assert_eq!(account.left, Lots(0), "{id:?} leaves");
        assert_eq!(account.came, account.traded + account.ended, "{id:?} leaves");
        let (slot, _) = account.stands.expect("it stood");
        self.slots[slot.0 as usize] = None;
    }

    /// Whoever came stands now, or nothing is left of it.
    fn check_end(&mut self, command: &Command) {
        if let Command::Place(NewOrder { id, .. }) | Command::Amend { id, .. } = *command
            && let Some(account) = self.accounts.get(&id).copied()
        {
            let Account { came, traded, ended, left, stands } = account;
            assert_eq!(came, traded + ended + u128::from(left.0), "{id:?} does not add up");
            if stands.is_none() {
                assert_eq!(left, Lots(0), "the rest of {id:?} is lost");
                self.accounts.remove(&id);
            }
        }
        assert_eq!(self.came, self.traded + self.ended + self.left, "the book does not add up");
    }

    fn check_place(&mut self, id: OrderId, slot: Slot, price: Price) {
        assert_eq!(self.account(id).stands, Some((slot, price)), "place of {id:?}");
    }

    fn check_left(&mut self, id: OrderId, left: Lots) {
        assert_eq!(self.account(id).left, left, "left of {id:?}");
    }

    fn account(&mut self, id: OrderId) -> &mut Account {
        self.accounts.get_mut(&id).unwrap_or_else(|| panic!("{id:?} is nowhere"))
    }
}
