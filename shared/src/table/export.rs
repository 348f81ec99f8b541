//! What is stored of a user, for an export: friends, blocks, groups, invitations, read marks and received private messages.

use super::calls::Table;
use super::groups::{self, Membership};
use super::item::{self, Item};
use super::keys;
use super::messages;
use super::relations;
use crate::error::Result;
use crate::frame::{Address, Message};
use crate::id::{GroupId, MessageId, UserId};
use crate::rules::block::Block;

/// An item of a user's partition.
#[derive(Debug)]
pub enum Exported {
    /// A friend.
    Friend(UserId),
    /// A user whom the user blocks, or has blocked.
    Block(UserId, Block),
    /// A membership.
    Group(GroupId, Membership),
    /// An invitation: the group and the inviter.
    Invitation(GroupId, UserId),
    /// A read mark.
    Read(Address, MessageId),
    /// A private message to the user.
    Message(Message),
}

impl Table {
    /// Returns a page of what a user's partition has, each with its place, and the place after which the next page begins.
    pub async fn export_page(
        &self,
        user: &UserId,
        after: Option<&str>,
        limit: i32,
    ) -> Result<(Vec<(String, Exported)>, Option<String>)> {
        let range = match after {
            None => keys::whole_user(user),
            Some(place) => keys::after_place(user, place),
        };
        let (items, next) = self.query(&range, Some(limit), None).await?;
        let mut entries = Vec::with_capacity(items.len());
        for item in &items {
            if let Some(entry) = self.read_exported(user, item)? {
                entries.push((keys::place_of(item).to_owned(), entry));
            }
        }
        Ok((entries, next.as_ref().map(|key| keys::place_of(key).to_owned())))
    }

    fn read_exported(&self, user: &UserId, item: &Item) -> Result<Option<Exported>> {
        if !self.is_live(item)? {
            return Ok(None);
        }
        let group = || item::parsed("groupId", GroupId::parse(item::read_text(item, "groupId")?));
        Ok(match keys::exported_kind(item) {
            Some(keys::FRIEND) => Some(Exported::Friend(relations::other(item)?)),
            Some(keys::BLOCK) => {
                relations::read_blocked(item).map(|(other, block)| Some(Exported::Block(other, block)))?
            }
            Some(keys::GROUP) => {
                groups::read_joined(item).map(|(group, joined)| Some(Exported::Group(group, joined)))?
            }
            Some(keys::INVITE) => {
                let by = item::parsed("invitedBy", UserId::parse(item::read_text(item, "invitedBy")?))?;
                Some(Exported::Invitation(group()?, by))
            }
            Some(keys::READ) => match keys::marked(item) {
                Some(with) => Some(Exported::Read(with, item::read_id(item, "until")?)),
                None => return Err(item::corrupt("sk")),
            },
            Some(_) => Some(Exported::Message(messages::read_message(item, &Address::User(user.clone()))?)),
            None => None,
        })
    }
}
