//! The logs. Each message is stored once, in the log of its receiver or group.

use serde_json::value::RawValue;

use super::calls::Table;
use super::item::{self, Item};
use super::{MissedRef, groups, keys};
use crate::error::{Error, Result};
use crate::frame::{Address, Message};
use crate::id::{GroupId, MessageId, UserId};
use crate::rules::coverage::Span;

/// The place from which the next read of a log goes on.
#[derive(Debug)]
pub struct Resume(Item);

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
    /// Writes a message to its log. This is the only write of a message. A repeat changes nothing.
    pub async fn log(&self, message: &Message) -> Result<()> {
        let request = self.put(self.message_item(message));
        request.send().await.map(|_| ()).map_err(|error| Error::unavailable("PutItem", error))
    }

    /// Writes a decoy instead of a message to the log of its receiver, see `decoy`.
    pub async fn log_decoy(&self, message: &Message, receiver: &UserId) -> Result<()> {
        let item = self.decoy(self.message_item(message), receiver, "MSG", &message.sender);
        let request = self.put(item);
        request.send().await.map(|_| ()).map_err(|error| Error::unavailable("PutItem", error))
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
        let bytes: usize = items.iter().map(|item| item::read_text(item, "content").map_or(0, str::len)).sum();
        let position = items.last().map(read_id).transpose()?;
        let live = items.iter().filter_map(|item| self.read_live(item, log).transpose());
        let mut messages: Vec<Message> = live.collect::<Result<_>>()?;
        messages.retain(|message| span.contains(message.id.time_ms()));
        let group_exists = (has_meta && next.is_none()).then_some(meta.is_some());
        let beside = bytes - messages.iter().map(|message| message.content.get().len()).sum::<usize>();
        Ok(LogPage { messages, rest: next.map(Resume), position, group_exists, beside })
    }

    /// Returns a message of a group, if both still exist.
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

    fn message_item(&self, message: &Message) -> Item {
        let mut item = keys::message(&message.to, message.id).attributes();
        item.insert("id".to_owned(), item::text(message.id.to_string()));
        item.insert("sender".to_owned(), item::text(message.sender.as_str()));
        item.insert("content".to_owned(), item::text(message.content.get()));
        item.insert("timestamp".to_owned(), item::number(message.timestamp));
        item.insert("expiresAt".to_owned(), Self::expires_at(message.id.time_ms(), self.retention_ms()));
        item
    }

    fn read_live(&self, item: &Item, log: &Address) -> Result<Option<Message>> {
        self.is_live(item)?.then(|| read_message(item, log)).transpose()
    }
}

fn read_id(item: &Item) -> Result<MessageId> {
    item::parsed("id", MessageId::parse(item::read_text(item, "id")?))
}

fn read_message(item: &Item, log: &Address) -> Result<Message> {
    let content = RawValue::from_string(item::read_text(item, "content")?.to_owned());
    Ok(Message {
        id: read_id(item)?,
        sender: item::parsed("sender", UserId::parse(item::read_text(item, "sender")?))?,
        to: log.clone(),
        content: item::parsed("content", content)?,
        timestamp: item::read_number(item, "timestamp")?,
    })
}
