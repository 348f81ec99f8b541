//! What is written in place of what is withheld from its receiver.
//!
//! Whoever sends could tell by the time of an answer that a write was left out. So something of the same size is written
//! with the sender himself: `USER#sender` / `WITHHELD#kind`, one item for each kind of write, over the last one. Nobody
//! reads it.

use super::item::Item;
use super::{Table, keys};
use crate::clock::Ms;
use crate::id::UserId;

/// How long it is kept, for want of a shorter time that would save anything.
const LIFETIME_MS: Ms = 60_000;

impl Table {
    /// An item of a receiver's as it is written with the sender from whom it is withheld.
    pub(super) fn withheld(&self, mut item: Item, sender: &UserId, kind: &str) -> Item {
        item.extend(keys::withheld(sender, kind).attributes());
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        item
    }
}
