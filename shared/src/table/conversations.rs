//! Conversations: the private messages of two users, by the index `conversation`, and the logs of groups, in either order.
//!
//! These reads are eventually consistent: a history may lack the newest messages for a moment.

use super::calls::{Table, answer_of_query};
use super::groups::{self, Meta};
use super::item;
use super::keys;
use super::messages::{self, Resume};
use crate::error::Result;
use crate::frame::{Address, Message};
use crate::id::{GroupId, MessageId, UserId};

/// The part of a conversation that is read, and the order.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The oldest message of the part.
    pub from: MessageId,
    /// The newest message of the part.
    pub to: MessageId,
    /// Whether the newest messages come first.
    pub newest_first: bool,
}

/// An entry of a conversation.
#[derive(Debug)]
pub struct Stored {
    /// The entry.
    pub entry: Message,
    /// Whether it is withheld from its receiver.
    pub is_hidden: bool,
}

/// A part of a conversation that was read.
#[derive(Debug)]
pub struct HistoryPart {
    /// The entries, without expired ones.
    pub entries: Vec<Stored>,
    /// The last entry that was read, even if it is not among `entries`.
    pub position: Option<MessageId>,
    /// The start of the rest, if there may be more.
    pub rest: Option<Resume>,
}

/// The newest entries of a group's log, and its META.
#[derive(Debug)]
pub struct GroupPage {
    /// The group.
    pub meta: Meta,
    /// Its newest entries, newest first.
    pub part: HistoryPart,
}

impl Table {
    /// Reads a part of the conversation of two users, at most `limit` entries.
    pub async fn read_private(
        &self,
        user: &UserId,
        other: &UserId,
        reading: Reading,
        limit: i32,
        rest: Option<Resume>,
    ) -> Result<HistoryPart> {
        let request = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(keys::CONVERSATION)
            .key_condition_expression("#conversation = :conversation AND id BETWEEN :from AND :to")
            .expression_attribute_names("#conversation", keys::CONVERSATION)
            .expression_attribute_values(":conversation", item::text(keys::conversation(user, other)))
            .expression_attribute_values(":from", item::text(reading.from.to_string()))
            .expression_attribute_values(":to", item::text(reading.to.to_string()))
            .scan_index_forward(!reading.newest_first)
            .limit(limit)
            .set_exclusive_start_key(rest.map(|resume| resume.0));
        let (items, next) = answer_of_query(request).await?;
        let mut entries = Vec::with_capacity(items.len());
        for item in &items {
            let receiver = if messages::read_sender(item)? == *user { other } else { user };
            let log = Address::User(receiver.clone());
            let is_hidden = keys::hidden(receiver, messages::read_id(item)?).is_of(item);
            entries.extend(self.read_live(item, &log)?.map(|entry| Stored { entry, is_hidden }));
        }
        let position = items.last().map(messages::read_id).transpose()?;
        Ok(HistoryPart { entries, position, rest: next.map(Resume) })
    }

    /// Reads a part of a group's log, at most `limit` entries.
    pub async fn read_group(
        &self,
        group: &GroupId,
        reading: Reading,
        limit: i32,
        rest: Option<Resume>,
    ) -> Result<HistoryPart> {
        let log = Address::Group(group.clone());
        let range = keys::messages(&log, reading.from, reading.to);
        let rest = rest.map(|resume| resume.0);
        let (items, next) = self.query_eventually(&range, reading.newest_first, limit, rest).await?;
        self.history_part(&items, &log, next)
    }

    /// Returns the newest entries of a group from `from` on, at most `limit`, if the group exists. One read returns both. It is
    /// strongly consistent, since the group may have been made a moment ago.
    pub async fn newest_of_group(&self, group: &GroupId, from: MessageId, limit: i32) -> Result<Option<GroupPage>> {
        let range = keys::messages_and_meta(group, from);
        let (items, next) = self.query_backwards(&range, limit + 1).await?;
        // META sorts behind the log.
        let Some((meta, entries)) = items.split_first().filter(|(first, _)| groups::is_meta(first)) else {
            return Ok(None);
        };
        let part = self.history_part(entries, &Address::Group(group.clone()), next)?;
        Ok(Some(GroupPage { meta: groups::read_meta(meta)?, part }))
    }

    fn history_part(&self, items: &[item::Item], log: &Address, next: Option<item::Item>) -> Result<HistoryPart> {
        let live = items.iter().filter_map(|item| self.read_live(item, log).transpose());
        let entries = live.map(|entry| Ok(Stored { entry: entry?, is_hidden: false })).collect::<Result<_>>()?;
        let position = items.last().map(messages::read_id).transpose()?;
        Ok(HistoryPart { entries, position, rest: next.map(Resume) })
    }
}
