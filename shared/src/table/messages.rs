//! The logs. Each message is stored once, in the log of its receiver or group. A message that is withheld from its receiver
//! is stored in the same partition, at a key that no read for the receiver covers.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use serde_json::value::RawValue;

use super::calls::{MAX_ATTEMPTS, Table, Transaction};
use super::expression::Expression;
use super::item::{self, Item};
use super::keys::Key;
use super::{MissedRef, groups, keys};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::frame::{Address, Body, Message};
use crate::id::{GroupId, MessageId, UserId};
use crate::rules::coverage::Span;

/// The place from which the next read of a log goes on.
#[derive(Debug)]
pub struct Resume(pub(super) Item);

/// Where a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The log of its receiver or group.
    Log,
    /// Beside the log of the receiver, from whom it is withheld. Only the sender's history returns it.
    Hidden,
}

impl Place {
    fn other(self) -> Self {
        match self {
            Self::Log => Self::Hidden,
            Self::Hidden => Self::Log,
        }
    }
}

/// The result of the write of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The message is stored, now or by an earlier attempt.
    Stored,
    /// The message was recalled since an earlier attempt. It stays so.
    Recalled,
}

impl Written {
    fn of(is_recalled: bool) -> Self {
        if is_recalled { Self::Recalled } else { Self::Stored }
    }
}

/// A part of a log, oldest first.
#[derive(Debug)]
pub struct LogPage {
    /// The messages of the span, without expired ones.
    pub messages: Vec<Message>,
    /// The start of the rest of the span, if there may be more.
    pub rest: Option<Resume>,
    /// The last message that was read, even if it is not among `messages`.
    pub position: Option<MessageId>,
    /// Whether the group of the log exists, if that was read.
    pub group_exists: Option<bool>,
    /// The bytes of the contents that were read but are not in `messages`: expired, or behind the span.
    pub beside: usize,
}

impl Table {
    /// Writes a message. This is the only write of a message. A message that exists is left as it is, since it may have been
    /// recalled: the SDK repeats a write whose answer is lost.
    pub async fn write_message(&self, message: &Message, place: Place) -> Result<Written> {
        let put = self
            .put(self.message_item(message, place))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for attempt in 0..MAX_ATTEMPTS {
            let Err(error) = Box::pin(put.clone().send()).await else { return Ok(Written::Stored) };
            match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    return Ok(Written::of(failed.item().is_some_and(is_recalled)));
                }
                Some(PutItemError::TransactionConflictException(_)) => self.pause(attempt).await,
                _ => return Err(Error::unavailable("PutItem", error)),
            }
        }
        Err(Error::unavailable("PutItem", "other transactions stay in the way"))
    }

    /// Writes a message once more, whose first attempt did not finish. The first attempt may have written it to the other
    /// place, and it may have been recalled there. Then nothing is written.
    pub async fn rewrite_message(&self, message: &Message, place: Place) -> Result<Written> {
        let Address::User(_) = &message.to else { return self.write_message(message, place).await };
        let other = message_key(&message.to, message.id, place.other());
        let writes = vec![
            self.put_part(self.message_item(message, place), Some("attribute_not_exists(pk)"))?,
            self.check_part(&other, "attribute_not_exists(recalledAt)", HashMap::new())?,
        ];
        match self.transact(writes).await? {
            Transaction::Done => Ok(Written::Stored),
            Transaction::Refused(parts) if parts[1] => Ok(Written::Recalled),
            Transaction::Refused(_) => {
                let found = self.get(&message_key(&message.to, message.id, place)).await?;
                Ok(Written::of(found.as_ref().is_none_or(is_recalled)))
            }
        }
    }

    /// Returns an entry, from both of its places.
    pub async fn stored_message(&self, log: &Address, id: MessageId) -> Result<Vec<(Place, Message)>> {
        let places = match log {
            Address::User(_) => vec![Place::Log, Place::Hidden],
            Address::Group(_) => vec![Place::Log],
        };
        let keys: Vec<(Place, Key)> = places.into_iter().map(|place| (place, message_key(log, id, place))).collect();
        let items = self.get_all(keys.iter().map(|(_, key)| key.clone()).collect()).await?;
        let mut stored = Vec::with_capacity(items.len());
        for (place, key) in keys {
            if let Some(item) = items.iter().find(|item| key.is_of(item)) {
                stored.extend(self.read_live(item, log)?.map(|entry| (place, entry)));
            }
        }
        Ok(stored)
    }

    /// Takes the content out of a message, if it is in that place. A first recall keeps its time.
    pub async fn recall(&self, log: &Address, id: MessageId, place: Place, at: Ms) -> Result<()> {
        let mut change = Expression::default();
        let [content, recalled_at] = ["content", "recalledAt"].map(|name| change.path([name]));
        change.set_if_absent(&recalled_at, item::number(at));
        change.remove(&content);
        change.require("attribute_exists(pk)");
        self.change(&message_key(log, id, place), change).await.map(|_| ())
    }

    /// Reads a span of a log, at most `limit` items. With `to_end` the read of a group's log goes on behind the span up to
    /// META, without another call. So it also returns whether the group exists.
    pub async fn read_log(
        &self,
        log: &Address,
        span: Span,
        to_end: bool,
        limit: i32,
        rest: Option<Resume>,
    ) -> Result<LogPage> {
        let first = MessageId::first_at(span.from);
        let (range, has_meta) = match log {
            Address::Group(group) if to_end => (keys::messages_and_meta(group, first), true),
            _ => (keys::messages(log, first, MessageId::last_at(span.to)), false),
        };
        let (mut items, next) = self.query(&range, Some(limit), rest.map(|resume| resume.0)).await?;
        let meta = items.pop_if(|last| groups::is_meta(last));
        let next = next.filter(|_| meta.is_none());
        let bytes: usize = items.iter().map(content_bytes).sum();
        let position = items.last().map(read_id).transpose()?;
        let live = items.iter().filter_map(|item| self.read_live(item, log).transpose());
        let mut messages: Vec<Message> = live.collect::<Result<_>>()?;
        messages.retain(|message| span.contains(message.id.time_ms()));
        let group_exists = (has_meta && next.is_none()).then_some(meta.is_some());
        let beside = bytes - messages.iter().map(Message::content_bytes).sum::<usize>();
        Ok(LogPage { messages, rest: next.map(Resume), position, group_exists, beside })
    }

    /// Returns an entry of a group's log, if both still exist.
    pub async fn group_message(&self, group: &GroupId, id: MessageId) -> Result<Option<Message>> {
        let log = Address::Group(group.clone());
        let items = self.get_all(vec![keys::meta(group), keys::message(&log, id)]).await?;
        let group_exists = items.iter().any(groups::is_meta);
        let message = items.iter().find(|item| item.contains_key("sender")).filter(|_| group_exists);
        message.map_or(Ok(None), |item| self.read_live(item, &log))
    }

    /// Returns the messages of these names that still exist, in order.
    pub async fn missed_messages(&self, user: &UserId, missed: &[MissedRef]) -> Result<Vec<Message>> {
        let keys = missed.iter().map(|missed| keys::message(&missed.log(user), missed.id)).collect();
        let items = self.get_all(keys).await?;
        let mut messages = Vec::with_capacity(items.len());
        for item in &items {
            let id = read_id(item)?;
            let Some(missed) = missed.iter().find(|missed| missed.id == id) else { continue };
            messages.extend(self.read_live(item, &missed.log(user))?);
        }
        messages.sort_unstable_by_key(|message: &Message| message.id);
        Ok(messages)
    }

    fn message_item(&self, message: &Message, place: Place) -> Item {
        let mut item = message_key(&message.to, message.id, place).attributes();
        item.insert("id".to_owned(), item::text(message.id.to_string()));
        item.insert("sender".to_owned(), item::text(message.sender.as_str()));
        match (&message.body, &message.to) {
            (Body::Content(content), to) => {
                item.insert("content".to_owned(), item::text(content.get()));
                if let Address::User(receiver) = to {
                    let conversation = keys::conversation(&message.sender, receiver);
                    item.insert(keys::CONVERSATION.to_owned(), item::text(conversation));
                }
            }
            (Body::Recall { of }, _) => {
                item.insert("recalls".to_owned(), item::text(of.to_string()));
            }
            (Body::Recalled { .. }, _) => {}
        }
        item.insert("timestamp".to_owned(), item::number(message.timestamp));
        item.insert("expiresAt".to_owned(), Self::expires_at(message.id.time_ms(), self.retention_ms()));
        item
    }

    pub(super) fn read_live(&self, item: &Item, log: &Address) -> Result<Option<Message>> {
        self.is_live(item)?.then(|| read_message(item, log)).transpose()
    }
}

pub(super) fn read_id(item: &Item) -> Result<MessageId> {
    item::read_id(item, "id")
}

fn message_key(log: &Address, id: MessageId, place: Place) -> Key {
    match (place, log) {
        (Place::Hidden, Address::User(receiver)) => keys::hidden(receiver, id),
        (Place::Hidden, Address::Group(_)) | (Place::Log, _) => keys::message(log, id),
    }
}

fn content_bytes(item: &Item) -> usize {
    item::read_text(item, "content").map_or(0, str::len)
}

fn is_recalled(item: &Item) -> bool {
    item.contains_key("recalledAt")
}

pub(super) fn read_message(item: &Item, log: &Address) -> Result<Message> {
    Ok(Message {
        id: read_id(item)?,
        sender: read_sender(item)?,
        to: log.clone(),
        body: read_body(item)?,
        timestamp: item::read_number(item, "timestamp")?,
    })
}

pub(super) fn read_sender(item: &Item) -> Result<UserId> {
    item::parsed("sender", UserId::parse(item::read_text(item, "sender")?))
}

fn read_body(item: &Item) -> Result<Body> {
    if item.contains_key("recalls") {
        return Ok(Body::Recall { of: item::read_id(item, "recalls")? });
    }
    if let Some(at) = item::read_optional_number(item, "recalledAt")? {
        return Ok(Body::Recalled { at });
    }
    let content = RawValue::from_string(item::read_text(item, "content")?.to_owned());
    Ok(Body::Content(item::parsed("content", content)?))
}
