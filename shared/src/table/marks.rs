//! Read marks: up to which message a user has read a conversation.
//!
//! `USER#u` / `READ#u#v` or `READ#g#g` holds `until`, the mark, and `told`, the part of it that the other user may know.
//! A mark expires with the last message that it covers.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::calls::{MAX_ATTEMPTS, Table};
use super::expression::Expression;
use super::item::{self, Item};
use super::keys::{self, Key, Range};
use crate::error::{Error, Result};
use crate::frame::Address;
use crate::id::{MessageId, UserId};

/// The most pages of marks that one call reads, each of 1 MiB. A user may have set marks for many others.
const MAX_PAGES: usize = 4;

impl Table {
    /// Moves a user's read mark forward. With `tell`, the other user may know it. Returns whether it moved.
    pub async fn mark_read(&self, user: &UserId, with: &Address, until: MessageId, tell: bool) -> Result<bool> {
        let mut change = Expression::default();
        // The write has the same size in both cases. No code reads `held`.
        let told = if tell { "told" } else { "held" };
        let [mark, told, expires_at] = ["until", told, "expiresAt"].map(|name| change.path([name]));
        change.set(&mark, item::text(until.to_string()));
        change.set(&expires_at, Self::expires_at(until.time_ms(), self.retention_ms()));
        change.set(&told, item::text(until.to_string()));
        let value = change.value(item::text(until.to_string()));
        change.require(format!("attribute_not_exists({mark}) OR {mark} < {value}"));
        self.change(&keys::mark(user, with), change).await
    }

    /// Returns a user's own marks of these conversations, which are sorted and of one kind. Reads the marks between the first
    /// and the last of them, at most 4 MiB.
    pub async fn marks(&self, user: &UserId, with: &[Address]) -> Result<BTreeMap<Address, MessageId>> {
        let (Some(first), Some(last)) = (with.first(), with.last()) else { return Ok(BTreeMap::new()) };
        let range = Range::between(keys::mark(user, first), keys::mark(user, last));
        let (mut items, mut next) = self.query(&range, None, None).await?;
        for _ in 1..MAX_PAGES {
            let Some(start) = next else { break };
            let (more, after) = self.query(&range, None, Some(start)).await?;
            items.extend(more);
            next = after;
        }
        let mut marks = BTreeMap::new();
        for one in with {
            let key = keys::mark(user, one);
            if let Some(item) = items.iter().find(|item| key.is_of(item))
                && self.is_live(item)?
            {
                marks.insert(one.clone(), item::read_id(item, "until")?);
            }
        }
        Ok(marks)
    }

    /// Returns how far each of these users lets `user` know that they have read their conversation. At most 100 users.
    pub async fn told_marks(&self, user: &UserId, others: &[UserId]) -> Result<BTreeMap<UserId, MessageId>> {
        let me = Address::User(user.clone());
        let keys: Vec<(&UserId, Key)> = others.iter().map(|other| (other, keys::mark(other, &me))).collect();
        let mut marks = BTreeMap::new();
        for item in self.get_eventually(keys.iter().map(|(_, key)| key.attributes()).collect()).await? {
            let of = keys.iter().find(|(_, key)| key.is_of(&item)).map(|(of, _)| (*of).clone());
            if let (Some(of), true, true) = (of, self.is_live(&item)?, item.contains_key("told")) {
                marks.insert(of, item::read_id(&item, "told")?);
            }
        }
        Ok(marks)
    }

    /// Returns the items of one batch. The read is eventually consistent.
    async fn get_eventually(&self, keys: Vec<Item>) -> Result<Vec<Item>> {
        let (mut found, mut left) = (Vec::new(), keys);
        for attempt in 0..MAX_ATTEMPTS {
            if left.is_empty() {
                return Ok(found);
            }
            let wanted = KeysAndAttributes::builder().set_keys(Some(left)).build();
            let wanted = wanted.map_err(|error| Error::unavailable("BatchGetItem", error))?;
            let answer = Box::pin(self.client.batch_get_item().request_items(&self.name, wanted).send()).await;
            let answer = answer.map_err(|error| Error::unavailable("BatchGetItem", error))?;
            found.extend(answer.responses.unwrap_or_default().into_values().flatten());
            left = answer.unprocessed_keys.unwrap_or_default().into_values().flat_map(|rest| rest.keys).collect();
            if !left.is_empty() {
                self.pause(attempt).await;
            }
        }
        Err(Error::unavailable("BatchGetItem", "keys stay unprocessed"))
    }
}
