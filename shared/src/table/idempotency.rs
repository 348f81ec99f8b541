//! Idempotency records: the results of sends with a `requestId`.
//!
//! `USER#sender` / `SENT#requestId`, or `POST#requestId` for a send of the back end in the sender's name, holds the
//! message's id and timestamp, a digest of address and content, `repeated` once a repeat goes on with it, and `done` once the
//! message has been delivered. A record lives for ten minutes.

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::calls::Table;
use super::expression::Expression;
use super::item::{self, Item};
use super::keys;
use super::kind::Author;
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::frame::Address;
use crate::id::{MessageId, RequestId, UserId};

/// How long a record lives.
const LIFETIME_MS: Ms = 10 * 60 * 1000;

/// The digest of a send. A repeat has the same one. It has 128 bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// Returns the digest of an address and a content.
    pub fn of(to: &Address, content: &RawValue) -> Self {
        const NAMESPACE: Uuid = Uuid::from_u128(0x3f0a_9c1e_52d4_4b6f_8a0e_0c6a_5b7d_91e4);
        let (kind, id) = match to {
            Address::User(user) => ("unicast", user.as_str()),
            Address::Group(group) => ("multicast", group.as_str()),
        };
        let text = format!("{kind}/{id}/{}", content.get());
        Self(Uuid::new_v5(&NAMESPACE, text.as_bytes()).simple().to_string())
    }
}

/// The record of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRecord {
    /// The message's id.
    pub id: MessageId,
    /// When it reached the gateway.
    pub timestamp: Ms,
    /// The digest of its address and content.
    pub digest: Digest,
    /// Whether it has been delivered. If not, its function may have died before that.
    pub done: bool,
}

impl Table {
    /// Records a send before it begins. Returns the earlier record if there is one; nothing is written then.
    pub async fn record_send(
        &self,
        sender: &UserId,
        author: Author,
        request: &RequestId,
        record: &SendRecord,
    ) -> Result<Option<SendRecord>> {
        let key = keys::send_record(sender, author, request);
        let mut item = key.attributes();
        item.insert("id".to_owned(), item::text(record.id.to_string()));
        item.insert("timestamp".to_owned(), item::number(record.timestamp));
        item.insert("digest".to_owned(), item::text(&record.digest.0));
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        if self.put_if_free(item).await? {
            return Ok(None);
        }
        match self.get(&key).await? {
            Some(item) => read(&item).map(Some),
            None => Err(Error::unavailable("PutItem", "the idempotency record vanished while it was read")),
        }
    }

    /// Forgets a send that was refused, unless a repeat goes on with it.
    pub async fn forget_send(&self, sender: &UserId, author: Author, request: &RequestId, id: MessageId) -> Result<()> {
        let delete = self
            .delete(&keys::send_record(sender, author, request))
            .condition_expression("id = :id AND attribute_not_exists(repeated)")
            .expression_attribute_values(":id", item::text(id.to_string()));
        self.conditionally("DeleteItem", || delete.clone().send()).await.map(|_| ())
    }

    /// Keeps the record of a send for a repeat that goes on with it. Returns false if it has been forgotten.
    pub async fn keep_send(&self, sender: &UserId, author: Author, request: &RequestId, id: MessageId) -> Result<bool> {
        let mut change = Expression::default();
        let repeated = change.path(["repeated"]);
        change.set(&repeated, AttributeValue::Bool(true));
        let (path, id) = (change.path(["id"]), change.value(item::text(id.to_string())));
        change.require(format!("{path} = {id}"));
        self.change(&keys::send_record(sender, author, request), change).await
    }

    /// Marks a send as delivered.
    pub async fn mark_delivered(&self, sender: &UserId, author: Author, request: &RequestId) -> Result<()> {
        let mut change = Expression::default();
        let done = change.path(["done"]);
        change.set(&done, AttributeValue::Bool(true));
        change.require("attribute_exists(pk)");
        self.change(&keys::send_record(sender, author, request), change).await.map(|_| ())
    }
}

fn read(item: &Item) -> Result<SendRecord> {
    Ok(SendRecord {
        id: item::read_id(item, "id")?,
        timestamp: item::read_number(item, "timestamp")?,
        digest: Digest(item::read_text(item, "digest")?.to_owned()),
        done: item.contains_key("done"),
    })
}
