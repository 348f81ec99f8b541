//! Decoys: items that are written instead of a name of a missed message, or of an invitation, that is withheld from its
//! receiver. (A withheld message is stored itself, see [`super::messages`].)
//!
//! A missing write would make the answer faster, and the sender could measure that. So an item of the same size is written
//! to the same partition, which is equally busy: `USER#receiver` / `HID#kind#sender`. There is one item for each kind of
//! write and sender, and each write overwrites it. No code reads it.

use super::calls::Table;
use super::item::Item;
use super::keys;
use crate::clock::Ms;
use crate::id::UserId;

/// How long a decoy is kept. A shorter time would save nothing.
pub(super) const LIFETIME_MS: Ms = 60_000;

impl Table {
    /// Turns an item of a receiver into its decoy.
    pub(super) fn decoy(&self, mut item: Item, receiver: &UserId, kind: &str, sender: &UserId) -> Item {
        item.extend(keys::decoy(receiver, kind, sender).attributes());
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        item
    }
}
