//! Tails: the dropped messages after the time up to which everything is dropped. They have their own item, which no sender
//! reads.

use aws_sdk_dynamodb::types::AttributeValue;

use super::calls::Table;
use super::item::{self, Item};
use super::keys;
use super::kind::MessageKind;
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::rules::dropped::Tail;

/// The most messages in the tails of a user, 270 KB of their item.
pub(super) const MAX_TAIL: usize = 10_000;

/// The dropped messages of each kind after the time up to which everything is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tails {
    /// The mark of the item, by which the state names it.
    pub mark: String,
    /// The private messages.
    pub unicast: Tail,
    /// The group messages.
    pub multicast: Tail,
}

impl Tails {
    /// Returns whether one item has room for them.
    pub(super) fn fits(&self) -> bool {
        self.len() <= MAX_TAIL
    }

    fn len(&self) -> usize {
        self.unicast.ids.len() + self.multicast.ids.len()
    }

    fn is_empty(&self) -> bool {
        [&self.unicast, &self.multicast].iter().all(|tail| **tail == Tail::default())
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
        Ok(Some(Self { mark, unicast: tail(MessageKind::Unicast)?, multicast: tail(MessageKind::Multicast)? }))
    }
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
