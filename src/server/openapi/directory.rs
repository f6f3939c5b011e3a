//! What the document says of assets, accounts and links.

use crate::server::accounts::{AccountBody, LinkBody};
use crate::server::assets::Assets;
use crate::server::receipt::{AssetBody, NoLinkBody, PutAccountBody};
use crate::types::{AccountId, ChainId};

use super::About;
use super::requests::{AccountRequest, AssetRequest, NewLinkRequest};
use super::schemas::Name;

const TAG: &str = "directory";

pub fn put_asset(call: &mut About<'_>) {
    call.named(
        TAG,
        "putAsset",
        "Creates an asset",
        "The same again is accepted; another description under the name is `already_exists`.",
    );
    call.part::<Name>("asset", "Its name.");
    call.takes::<AssetRequest>();
    call.settles("AssetReceipt", |all| vec![all.of::<AssetBody>()]);
    call.refuses(&["already_exists"]);
}

pub fn list_assets(call: &mut About<'_>) {
    call.named(TAG, "listAssets", "All assets", "In the order in which they were created.");
    call.gives::<Assets>("The assets.");
}

pub fn get_asset(call: &mut About<'_>) {
    call.named(TAG, "getAsset", "An asset", "");
    call.part::<Name>("asset", "Its name.");
    call.gives::<AssetBody>("The asset.");
    call.refuses(&["unknown_asset"]);
}

pub fn put_account(call: &mut About<'_>) {
    call.named(
        TAG,
        "putAccount",
        "Creates an account, or adds links to it",
        "Never removes a link. An address that is linked to another account is `already_linked`.",
    );
    call.part::<AccountId>("account", "Its number.");
    call.takes::<AccountRequest>();
    call.settles("AccountReceipt", |all| vec![all.of::<PutAccountBody>()]);
    call.refuses(&["unknown_chain", "already_linked"]);
}

pub fn get_account(call: &mut About<'_>) {
    call.named(TAG, "getAccount", "An account with its links", "");
    call.part::<AccountId>("account", "Its number.");
    call.gives::<AccountBody>("The account.");
    call.refuses(&["unknown_account"]);
}

pub fn add_link(call: &mut About<'_>) {
    call.named(TAG, "addLink", "Adds one link to an account that exists", "");
    call.part::<AccountId>("account", "Its number.");
    call.takes::<NewLinkRequest>();
    call.settles("AccountReceipt", |all| vec![all.of::<PutAccountBody>()]);
    call.refuses(&["unknown_account", "unknown_chain", "already_linked"]);
}

pub fn remove_link(call: &mut About<'_>) {
    call.named(
        TAG,
        "removeLink",
        "Removes an account's link on a chain",
        "Removing what is not there is accepted.",
    );
    call.part::<AccountId>("account", "Its number.");
    call.part::<ChainId>("chain_id", "The chain whose link goes.");
    call.has_key();
    call.settles("NoLinkReceipt", |all| vec![all.of::<NoLinkBody>()]);
    call.refuses(&["unknown_account"]);
}

pub fn get_link(call: &mut About<'_>) {
    call.named(
        TAG,
        "getLink",
        "The account behind an address",
        "With its balances on that chain, all from one snapshot.",
    );
    call.part::<ChainId>("chain_id", "The chain.");
    call.part::<crate::address::Address>("address", "The address, in any spelling of it.");
    call.gives::<LinkBody>("The account.");
    call.refuses(&["unknown_chain", "unknown_link"]);
}
