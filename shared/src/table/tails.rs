//! What is dropped after the time up to which everything is. It has an item of its own, which no sender reads.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::AttributeValue;

use super::calls::Table;
use super::item::{self, Item};
use super::keys;
use super::kind::MessageKind;
use crate::error::{Error, Result};
use crate::id::{MessageId, UserId};

/// So many messages may be dropped of those that are too young to be dropped with their time: 270 KB of the item that
/// holds them.
const MAX_TAIL: usize = 10_000;

/// What is dropped beyond the time up to which all is, of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tails {
    /// By what the item is known.
    pub mark: String,
    /// Of private messages.
    pub unicast: BTreeSet<MessageId>,
    /// Of group messages.
    pub multicast: BTreeSet<MessageId>,
}

impl Tails {
    /// Whether one item has room for them.
    pub(super) fn fits(&self) -> bool {
        self.len() <= MAX_TAIL
    }

    fn len(&self) -> usize {
        self.unicast.len() + self.multicast.len()
    }

    /// The tails that an item holds, if it is one that holds tails.
    pub(super) fn read(item: &Item) -> Result<Option<Self>> {
        if !item.contains_key("tailMark") {
            return Ok(None);
        }
        let ids = |kind: MessageKind| {
            let ids = item::read_set(item, kind.tail())?.iter().map(|id| MessageId::parse(id));
            item::parsed(kind.tail(), ids.collect())
        };
        let mark = item::read_text(item, "tailMark")?.to_owned();
        Ok(Some(Self { mark, unicast: ids(MessageKind::Unicast)?, multicast: ids(MessageKind::Multicast)? }))
    }
}

impl Table {
    /// Put the item with the tails. Whether there is anything in it.
    pub(super) async fn put_tails(&self, user: &UserId, tails: &Tails) -> Result<bool> {
        match tails.len() {
            0 => return Ok(false),
            1..=MAX_TAIL => {}
            _ => return Err(Error::unavailable("dropping messages", "too many of the last half minute")),
        }
        let mut item = keys::tails(user, &tails.mark).attributes();
        item.insert("tailMark".to_owned(), item::text(&tails.mark));
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), self.retention_ms()));
        for (kind, ids) in [(MessageKind::Unicast, &tails.unicast), (MessageKind::Multicast, &tails.multicast)] {
            if !ids.is_empty() {
                let ids = ids.iter().map(ToString::to_string).collect();
                item.insert(kind.tail().to_owned(), AttributeValue::Ss(ids));
            }
        }
        self.put(item).send().await.map_err(|error| Error::unavailable("PutItem", error))?;
        Ok(true)
    }

    /// Delete items with tails that the state does not name.
    pub async fn delete_tails(&self, user: &UserId, marks: &[String]) -> Result<()> {
        self.delete_all(marks.iter().map(|mark| keys::tails(user, mark)).collect()).await
    }
}
