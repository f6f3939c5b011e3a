//! Legs as callers write them: `[{from, to, asset, amount}, ...]`.

use smallvec::SmallVec;

use crate::config::SWAP_LEGS_MAX;
use crate::directory::Directory;
use crate::error::Malformed;
use crate::types::{AccountId, Leg};

use super::json::{self, Object, Value, within};
use super::names::Names;

/// The legs in the list `field`, each unread in `values`.
///
/// # Errors
/// The field at fault and the rule it breaks. How many there may be is for the caller to check;
/// of too many, not all are read.
pub(super) fn read(
    field: &str,
    values: Vec<Value<'_>>,
    directory: &Directory,
    names: &mut Names,
) -> Result<SmallVec<[Leg; 2]>, Malformed> {
    let mut legs = SmallVec::new();
    // One leg too many is enough for the refusal.
    for (index, value) in values.into_iter().take(SWAP_LEGS_MAX + 1).enumerate() {
        let leg = one(value, directory, names);
        legs.push(leg.map_err(|malformed| within(format_args!("{field}[{index}]"), malformed))?);
    }
    Ok(legs)
}

fn one(value: Value<'_>, directory: &Directory, names: &mut Names) -> Result<Leg, Malformed> {
    let mut object = Object::of(value).map_err(|why| Malformed::new("", why))?;
    let leg = Leg {
        from: AccountId::new(object.required("from", json::number)?),
        to: AccountId::new(object.required("to", json::number)?),
        asset: names.resolve(&object.required("asset", json::asset)?, directory),
        amount: object.required("amount", json::amount)?,
    };
    object.finish()?;
    Ok(leg)
}
