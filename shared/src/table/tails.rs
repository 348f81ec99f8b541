//! Tails: the dropped messages after the time up to which everything is dropped. They have their own item, which no sender
//! reads. It also has the missed messages that blocks hold back.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;

use super::calls::Table;
use super::item::{self, Item};
use super::keys;
use super::kind::{Held, MessageKind};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::rules::dropped::Tail;

/// The most messages in the tail of one kind, and in both. So messages of one kind leave room for a page of the other.
/// 11,000 are 300 KB of their item.
pub(super) const MAX_TAIL: usize = 10_000;
pub(super) const MAX_TAILS: usize = 11_000;

/// The dropped messages of each kind after the time up to which everything is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tails {
    /// The mark of the item, by which the state names it.
    pub mark: String,
    /// The private messages.
    pub unicast: Tail,
    /// The group messages.
    pub multicast: Tail,
    /// The missed messages that blocks hold back.
    pub held: BTreeSet<Held>,
}

/// Returns whether one item has room for two tails of these lengths.
pub(super) fn has_room(lengths: [usize; 2]) -> bool {
    lengths.iter().all(|length| *length <= MAX_TAIL) && lengths.iter().sum::<usize>() <= MAX_TAILS
}

impl Tails {
    /// Returns whether one item has room for them.
    pub(super) fn fits(&self) -> bool {
        has_room([&self.unicast, &self.multicast].map(|tail| tail.ids.len()))
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && [&self.unicast, &self.multicast].iter().all(|tail| **tail == Tail::default())
    }

    /// Reads the tails of an item. Returns nothing if it is another kind of item.
    pub(super) fn read(item: &Item) -> Result<Option<Self>> {
        if !item.contains_key("tailMark") {
            return Ok(None);
        }
        let tail = |kind: MessageKind| {
            let ids = item::read_ids(item, kind.tail())?;
            let next =
                item.contains_key(kind.tail_next()).then(|| item::read_id(item, kind.tail_next())).transpose()?;
            Ok::<_, Error>(Tail { ids, next })
        };
        let mark = item::read_text(item, "tailMark")?.to_owned();
        let held = read_held(item)?;
        Ok(Some(Self { mark, unicast: tail(MessageKind::Unicast)?, multicast: tail(MessageKind::Multicast)?, held }))
    }
}

/// Reads the messages that blocks hold back, of an item with tails or with a page.
pub(super) fn read_held(item: &Item) -> Result<BTreeSet<Held>> {
    let held = item::read_set(item, "held")?.iter();
    held.map(|held| Held::decode(held).ok_or_else(|| item::corrupt("held"))).collect()
}

impl Table {
    /// Writes the item with the tails, unless they are empty. Returns whether it was written.
    pub(super) async fn put_tails(&self, user: &UserId, tails: &Tails) -> Result<bool> {
        if tails.is_empty() {
            return Ok(false);
        }
        if !tails.fits() {
            return Err(Error::unavailable("dropping messages", "too many messages of the last half minute"));
        }
        let mut item = keys::tails(user, &tails.mark).attributes();
        item.insert("tailMark".to_owned(), item::text(&tails.mark));
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), self.retention_ms()));
        if !tails.held.is_empty() {
            item.insert("held".to_owned(), AttributeValue::Ss(tails.held.iter().map(Held::encode).collect()));
        }
        for (kind, tail) in [(MessageKind::Unicast, &tails.unicast), (MessageKind::Multicast, &tails.multicast)] {
            if !tail.ids.is_empty() {
                let ids = tail.ids.iter().map(ToString::to_string).collect();
                item.insert(kind.tail().to_owned(), AttributeValue::Ss(ids));
            }
            if let Some(next) = tail.next {
                item.insert(kind.tail_next().to_owned(), item::text(next.to_string()));
            }
        }
        Box::pin(self.put(item).send()).await.map_err(|error| Error::unavailable("PutItem", error))?;
        Ok(true)
    }

    /// Deletes tails that the state does not name.
    pub async fn delete_tails(&self, user: &UserId, marks: &[String]) -> Result<()> {
        self.delete_all(marks.iter().map(|mark| keys::tails(user, mark)).collect()).await
    }
}
