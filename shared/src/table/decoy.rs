//! Decoys: what is written in place of what is withheld from its receiver.
//!
//! A sender could tell by the time of an answer that a write was left out. So something of the same size is written to the
//! same partition, which is as busy: `USER#receiver` / `HID#kind#sender`, one item for each kind of write and sender, over
//! the last one. Nobody reads it.

use super::calls::Table;
use super::item::Item;
use super::keys;
use crate::clock::Ms;
use crate::id::UserId;

/// How long it is kept, for want of a shorter time that would save anything.
const LIFETIME_MS: Ms = 60_000;

impl Table {
    /// An item of a receiver's as it is written in its decoy.
    pub(super) fn decoy(&self, mut item: Item, receiver: &UserId, kind: &str, sender: &UserId) -> Item {
        item.extend(keys::decoy(receiver, kind, sender).attributes());
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        item
    }
}
