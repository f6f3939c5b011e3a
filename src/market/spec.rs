//! What a market is: which assets, in which steps, for which fees.

use super::order::{Kind, Lots, NewOrder, Price, Side};
use super::{charge, fees};
use crate::config::{ASSET_NAME_BYTES_MAX, SUPPLY_MAX};
use crate::error::Malformed;
use crate::types::{AccountId, AssetId};

/// A market's set-up. It never changes; a market can only be halted and resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarketSpec {
    /// The venue's short name, as in `ETH-SOL`: letters, digits, `.`, `_`, `-`.
    pub name: Box<str>,
    /// What is bought and sold.
    pub base: AssetId,
    /// What it is paid with.
    pub quote: AssetId,
    /// Prices, in quote's smallest units per lot, are multiples of this.
    pub tick_size: u64,
    /// Base's smallest units in a lot; quantities are multiples of this.
    pub lot_size: u64,
    /// What a maker pays, in ten-thousandths of what moves in quote; negative for a rebate.
    pub maker_fee_bps: i16,
    /// The same for a taker.
    pub taker_fee_bps: i16,
    /// Whom fees go to.
    pub fee_account: AccountId,
    /// The least that a limit order must be worth, in quote's smallest units; 0 for no such limit.
    pub min_notional: u128,
    /// How far from the last trade's price a limit may be, in ten-thousandths of it; 0 for no limit.
    pub price_band_bps: u32,
}

/// How the rates of two parties to a trade, and the whole fee, are limited.
const FEE_BPS_MAX: i16 = 10_000;

impl MarketSpec {
    /// Checks what can be known without any state.
    ///
    /// # Errors
    /// The field at fault and the rule it breaks.
    pub fn validate(&self) -> Result<(), Malformed> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let name = &self.name;
        let malformed = |field: &str, why: String| Err(Malformed::new(field, why));
        if name.is_empty() || name.len() > ASSET_NAME_BYTES_MAX || !name.bytes().all(fits) {
            let max = ASSET_NAME_BYTES_MAX;
            let why = format!("is not 1 to {max} letters, digits, '.', '_' or '-'");
            return malformed("market", why);
        }
        if self.base == self.quote {
            return malformed("quote", "is the base asset; a market trades two".into());
        }
        for (field, size) in [("tick_size", self.tick_size), ("lot_size", self.lot_size)] {
            if size == 0 {
                return malformed(field, "is zero; give at least 1".into());
            }
        }
        let fees = [("maker_fee_bps", self.maker_fee_bps), ("taker_fee_bps", self.taker_fee_bps)];
        for (field, fee) in fees {
            if !(-FEE_BPS_MAX..=FEE_BPS_MAX).contains(&fee) {
                return malformed(field, format!("is not within {FEE_BPS_MAX} either way"));
            }
        }
        if self.maker_fee_bps + self.taker_fee_bps < 0 {
            let why = "with taker_fee_bps is below zero: a rebate is paid out of the other's fee";
            return malformed("maker_fee_bps", why.into());
        }
        Ok(())
    }

    /// What a fill of `lots` at `price` moves, in quote's smallest units.
    pub fn notional(price: Price, lots: Lots) -> u128 {
        u128::from(price.0) * u128::from(lots.0)
    }

    /// The same quantity in base's smallest units.
    pub fn base_units(&self, lots: Lots) -> u128 {
        u128::from(self.lot_size) * u128::from(lots.0)
    }

    /// The asset that an order of that side pays with.
    pub fn pays(&self, side: Side) -> AssetId {
        match side {
            Side::Buy => self.quote,
            Side::Sell => self.base,
        }
    }

    /// The asset that an order of that side receives.
    pub fn receives(&self, side: Side) -> AssetId {
        match side {
            Side::Buy => self.base,
            Side::Sell => self.quote,
        }
    }

    /// What an order that comes may come to pay at most, in the smallest units of what it pays with: what is
    /// reserved for it. `None` if that is more than there can be.
    pub fn reserve(&self, order: &NewOrder) -> Option<u128> {
        let NewOrder { side, price, lots, .. } = *order;
        let Kind::Market { funds } = order.kind else {
            return self.held_at_most(side, price, lots, 0);
        };
        if side == Side::Sell {
            return self.held_at_most(side, price, lots, 0);
        }
        let rate = self.taker_fee_bps.max(0).unsigned_abs();
        let all = fees::with_fee(Self::notional(price, lots), rate, 0);
        let units = all.into_iter().chain(funds).min();
        units.filter(|units| *units <= SUPPLY_MAX)
    }

    /// The same of an order that may take and then rest. `carry`: of what it was charged so far.
    pub fn held_at_most(&self, side: Side, price: Price, lots: Lots, carry: u16) -> Option<u128> {
        let units = match side {
            Side::Sell => self.base_units(lots),
            Side::Buy => {
                // They add up to no less than zero, so neither does the larger.
                let rate = self.taker_fee_bps.max(self.maker_fee_bps).unsigned_abs();
                fees::with_fee(Self::notional(price, lots), rate, carry)?
            }
        };
        (units <= SUPPLY_MAX).then_some(units)
    }

    /// What of a market order's funds may move, if the fee is to be paid out of them, too.
    pub fn spendable(&self, funds: u128) -> u128 {
        fees::without_fee(funds, self.taker_fee_bps.max(0).unsigned_abs())
    }

    /// What a resting order has set aside, in the smallest units of what it pays with.
    pub fn held(&self, side: Side, price: Price, left: Lots, carry: u16) -> u128 {
        match side {
            Side::Sell => self.base_units(left),
            Side::Buy => {
                let notional = Self::notional(price, left);
                notional + charge(notional, self.maker_fee_bps.max(0).unsigned_abs(), carry).0
            }
        }
    }
}
