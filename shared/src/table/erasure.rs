//! The erasure of a user, which jobs do step by step.
//!
//! `USER#u` / `ERASED` {bannedUntil, begun, underWay} is the mark of the erasure, until the ban of the erased user ends. Conversations that
//! the first pass has erased are remembered as `ERASE#u#v` and `ERASE#g#g` in the same partition, for the second pass.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::calls::{MAX_ATTEMPTS, Table};
use super::expression::Expression;
use super::item::{self, Item};
use super::keys;
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::frame::Address;
use crate::id::{GroupId, InviteId, UserId};

/// The most blocks of each direction that one call deletes.
const MAX_BLOCKS: i32 = 100;

/// The most items that one call deletes of a partition.
const MAX_PAGE: i32 = 200;

/// The mark that a user was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasureMark {
    /// When the erasure began.
    pub begun: Ms,
    /// Until when the id is refused.
    pub banned_until: Ms,
    /// Whether something is still to be erased.
    pub is_under_way: bool,
}

impl Table {
    /// Returns the mark of a user who was erased, or is being erased.
    pub async fn erasure_of(&self, user: &UserId) -> Result<Option<ErasureMark>> {
        let Some(item) = self.get(&keys::erased(user)).await? else { return Ok(None) };
        if !self.is_live(&item)? {
            return Ok(None);
        }
        Ok(Some(ErasureMark {
            begun: item::read_number(&item, "begun")?,
            banned_until: item::read_number(&item, "bannedUntil")?,
            is_under_way: item.contains_key("underWay"),
        }))
    }

    /// Marks a user as being erased. An erasure that is asked for again begins anew.
    pub async fn begin_erasure(&self, user: &UserId, begun: Ms, banned_until: Ms) -> Result<()> {
        let mut item = keys::erased(user).attributes();
        item.insert("begun".to_owned(), item::number(begun));
        item.insert("bannedUntil".to_owned(), item::number(banned_until));
        item.insert("underWay".to_owned(), AttributeValue::Bool(true));
        item.insert("expiresAt".to_owned(), Self::expires_at(banned_until, 0));
        Box::pin(self.put(item).send()).await.map(|_| ()).map_err(|error| Error::unavailable("PutItem", error))
    }

    /// Marks the erasure that began then as done.
    pub async fn end_erasure(&self, user: &UserId, begun: Ms) -> Result<()> {
        let mut change = Expression::default();
        let path = change.path(["underWay"]);
        change.remove(&path);
        let begun = change.value(item::number(begun));
        change.require(format!("begun = {begun}"));
        self.change(&keys::erased(user), change).await.map(|_| ())
    }

    /// Remembers a conversation for the second pass.
    pub async fn remember_erased(&self, user: &UserId, with: &Address) -> Result<()> {
        let mut item = keys::erase(user, with).attributes();
        let (name, id) = match with {
            Address::User(other) => ("user", other.as_str()),
            Address::Group(group) => ("groupId", group.as_str()),
        };
        item.insert(name.to_owned(), item::text(id));
        Box::pin(self.put(item).send()).await.map(|_| ()).map_err(|error| Error::unavailable("PutItem", error))
    }

    /// Returns a conversation that the second pass has not erased yet.
    pub async fn next_erased(&self, user: &UserId) -> Result<Option<Address>> {
        let (items, _) = self.query(&keys::all_of_user(user, keys::ERASE), Some(1), None).await?;
        let address = |item: &Item| {
            if item.contains_key("groupId") {
                let group = GroupId::parse(item::read_text(item, "groupId")?);
                return item::parsed("groupId", group).map(Address::Group);
            }
            item::parsed("user", UserId::parse(item::read_text(item, "user")?)).map(Address::User)
        };
        items.first().map(address).transpose()
    }

    /// Forgets a conversation that the second pass has erased.
    pub async fn forget_erased(&self, user: &UserId, with: &Address) -> Result<()> {
        self.delete_all(vec![keys::erase(user, with)]).await
    }

    /// Deletes what `other` has of a user who was their friend: the friendship, the read mark, decoys, and invitations
    /// by the user. Deletes the user's own side of the friendship last.
    pub async fn erase_friend(&self, user: &UserId, other: &UserId) -> Result<()> {
        let mut theirs = vec![
            keys::friend(other, user),
            keys::blocker(other, user),
            keys::mark(other, &Address::User(user.clone())),
            keys::decoy(other, "STATE", user),
            keys::decoy(other, "INVITE", user),
        ];
        for invitation in self.invitations(other).await? {
            if invitation.invited_by == *user {
                theirs.push(keys::invite(other, &InviteId::of(&invitation.group, other)));
            }
        }
        self.retire_block(other, user).await?;
        self.delete_all(theirs).await?;
        self.delete_all(vec![keys::friend(user, other)]).await
    }

    /// Deletes a user's blocks of one page, and retires those of others against the user. Returns whether there were none.
    pub async fn erase_blocks(&self, user: &UserId) -> Result<bool> {
        let other = |item: &Item| item::parsed("user", UserId::parse(item::read_text(item, "user")?));
        let (own, _) = self.query(&keys::all_of_user(user, keys::BLOCK), Some(MAX_BLOCKS), None).await?;
        let own = own.iter().map(other).collect::<Result<Vec<UserId>>>()?;
        // The sides of others come first, so that an unfinished call finds the rest again.
        self.delete_all(own.iter().map(|other| keys::blocker(other, user)).collect()).await?;
        self.delete_all(own.iter().map(|other| keys::block(user, other)).collect()).await?;
        let (blockers, _) = self.query(&keys::all_of_user(user, keys::BLOCKER), Some(MAX_BLOCKS), None).await?;
        for item in &blockers {
            self.retire_block(&other(item)?, user).await?;
            self.delete_all(vec![keys::blocker(user, &other(item)?)]).await?;
        }
        Ok(own.is_empty() && blockers.is_empty())
    }

    /// Deletes a page of everything else in a user's partition. The marks of the erasure, memberships and blocks stay. Returns
    /// where the next page begins.
    pub async fn erase_page(&self, user: &UserId, after: Option<Item>) -> Result<Option<Item>> {
        let (items, next) = self.query(&keys::whole_user(user), Some(MAX_PAGE), after).await?;
        self.delete_all(items.iter().filter_map(|item| keys::erasable(user, item)).collect()).await?;
        Ok(next)
    }

    /// Leaves nothing in the state of an erased user but the ban. A ban that lasts longer stays.
    pub async fn bury(&self, user: &UserId, banned_until: Ms) -> Result<()> {
        for attempt in 0..MAX_ATTEMPTS {
            let seen = self.state(user).await?.banned_until;
            let until = seen.map_or(banned_until, |seen| seen.max(banned_until));
            let mut item: Item = keys::state(user).attributes();
            item.extend(HashMap::from([
                ("user".to_owned(), item::text(user.as_str())),
                ("bannedUntil".to_owned(), item::number(until)),
                ("expiresAt".to_owned(), Self::expires_at(until, 0)),
            ]));
            let put = match seen {
                None => self.put(item).condition_expression("attribute_not_exists(bannedUntil)"),
                Some(seen) => self
                    .put(item)
                    .condition_expression("bannedUntil = :seen")
                    .expression_attribute_values(":seen", item::number(seen)),
            };
            if self.conditionally("PutItem", || put.clone().send()).await?.is_some() {
                return Ok(());
            }
            self.pause(attempt).await;
        }
        Err(Error::unavailable("PutItem", "a ban keeps changing"))
    }
}
