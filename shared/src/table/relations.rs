//! Friends and blocks. The host application keeps them up to date.
//!
//! A friendship is an item on each side. A block is `VIEW#BLOCK#` with its history on the side of the user who blocks, and
//! `BLOCKER#` on the side of the blocked user, where a lookup for a sender finds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use serde::Serialize;

use super::calls::{MAX_ATTEMPTS, Table, Transaction};
use super::expression::Expression;
use super::groups::{self, Membership};
use super::item::{self, Item};
use super::keys::{self, Key};
use super::state::State;
use super::tails::Tails;
use crate::error::{Error, Result};
use crate::id::{GroupId, UserId};
use crate::rules::block::Block;
use crate::rules::coverage::Span;

/// The relation of a sender to a receiver, and what else a send needs to know of the sender.
#[derive(Debug)]
pub struct Standing {
    /// The two are friends.
    pub friends: bool,
    /// The receiver blocks the sender.
    pub blocked: bool,
    /// The sender blocks the receiver. Only [`Table::mutual_standing`] reads it.
    pub blocks: bool,
    /// The state of the sender.
    pub sender: State,
}

impl Standing {
    /// Returns whether messages of the sender reach the receiver.
    pub fn delivers(&self) -> bool {
        self.friends && !self.blocked
    }
}

/// A user's friends and blocks.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Relationships {
    /// The user's friends.
    pub friends: Vec<UserId>,
    /// The users whom the user blocks.
    pub blocks: Vec<UserId>,
}

/// The items that decide what a user sees of the logs.
#[derive(Debug, Default)]
pub struct View {
    /// The user's groups, including dissolved ones.
    pub groups: BTreeMap<GroupId, Membership>,
    /// The user's blocks, including lifted ones.
    pub blocks: BTreeMap<UserId, Block>,
    /// The dropped messages of the last half minute. Only the tails that the state names are valid.
    pub tails: Vec<Tails>,
}

impl Table {
    /// Returns the relation of `sender` to `receiver`, in one read.
    pub async fn standing(&self, sender: &UserId, receiver: &UserId) -> Result<Standing> {
        let keys = vec![keys::friend(sender, receiver), keys::blocker(sender, receiver), keys::state(sender)];
        Self::standing_among(&self.get_all(keys).await?, sender, receiver)
    }

    /// Returns the relation of `sender` to `receiver`, and whether the sender blocks the receiver, in one read.
    pub async fn mutual_standing(&self, sender: &UserId, receiver: &UserId) -> Result<Standing> {
        let mut keys = vec![keys::friend(sender, receiver), keys::blocker(sender, receiver), keys::state(sender)];
        if sender != receiver {
            keys.push(keys::blocker(receiver, sender));
        }
        Self::standing_among(&self.get_all(keys).await?, sender, receiver)
    }

    fn standing_among(items: &[Item], sender: &UserId, receiver: &UserId) -> Result<Standing> {
        let has = |key: &Key| items.iter().any(|item| key.is_of(item));
        Ok(Standing {
            friends: has(&keys::friend(sender, receiver)),
            blocked: has(&keys::blocker(sender, receiver)),
            blocks: has(&keys::blocker(receiver, sender)),
            sender: Self::state_among(items, sender)?,
        })
    }

    /// Returns whether `other` blocks `user`.
    pub async fn is_blocked_by(&self, user: &UserId, other: &UserId) -> Result<bool> {
        Ok(self.get(&keys::blocker(user, other)).await?.is_some())
    }

    /// Returns the users who block a user.
    pub async fn blockers(&self, user: &UserId) -> Result<BTreeSet<UserId>> {
        self.query_all(&keys::all_of_user(user, keys::BLOCKER)).await?.iter().map(other).collect()
    }

    /// Returns the users who block a user, or an empty set without a user.
    pub async fn blockers_of(&self, user: Option<&UserId>) -> Result<BTreeSet<UserId>> {
        match user {
            Some(user) => self.blockers(user).await,
            None => Ok(BTreeSet::new()),
        }
    }

    /// Returns a user's friends.
    pub async fn friends(&self, user: &UserId) -> Result<Vec<UserId>> {
        self.query_all(&keys::all_of_user(user, keys::FRIEND)).await?.iter().map(other).collect()
    }

    /// Returns a user's friends with ids after `after`, at most `limit`, in the order of their ids.
    pub async fn friends_after(&self, user: &UserId, after: Option<&UserId>, limit: i32) -> Result<Vec<UserId>> {
        let (items, _) = self.query(&keys::friends_after(user, after), Some(limit), None).await?;
        items.iter().map(other).collect()
    }

    /// Returns a user's blocks, including lifted ones.
    pub async fn blocks(&self, user: &UserId) -> Result<BTreeMap<UserId, Block>> {
        let items = self.query_all(&keys::all_of_user(user, keys::BLOCK)).await?;
        items.iter().filter_map(|item| self.read_live_block(item).transpose()).collect()
    }

    /// Returns a user's block of another user, if there is or was one.
    pub async fn block_of(&self, user: &UserId, other: &UserId) -> Result<BTreeMap<UserId, Block>> {
        let item = self.get(&keys::block(user, other)).await?;
        item.iter().filter_map(|item| self.read_live_block(item).transpose()).collect()
    }

    /// Returns a user's groups, blocks, and dropped messages of the last half minute, in one read.
    pub async fn view(&self, user: &UserId) -> Result<View> {
        let mut view = View::default();
        for item in self.query_all(&keys::all_of_user(user, keys::VIEW)).await? {
            if item.contains_key("groupId") {
                view.groups.extend([groups::read_joined(&item)?]);
            } else if let Some(tails) = Tails::read(&item)? {
                view.tails.push(tails);
            } else {
                view.blocks.extend(self.read_live_block(&item)?);
            }
        }
        Ok(view)
    }

    /// Reads a block that has not expired. Only that of an erased user expires.
    fn read_live_block(&self, item: &Item) -> Result<Option<(UserId, Block)>> {
        self.is_live(item)?.then(|| read_blocked(item)).transpose()
    }

    /// Returns a user's friends and present blocks.
    pub async fn relationships(&self, user: &UserId) -> Result<Relationships> {
        let (friends, blocks) = futures::try_join!(self.friends(user), self.blocks(user))?;
        let standing = blocks.into_iter().filter(|(_, block)| block.since.is_some()).map(|(user, _)| user);
        Ok(Relationships { friends, blocks: standing.collect() })
    }

    /// Makes two users friends.
    pub async fn befriend(&self, one: &UserId, two: &UserId) -> Result<()> {
        let side = |a, b| self.put_part(relation(&keys::friend(a, b), b), None);
        self.write_all(vec![side(one, two)?, side(two, one)?]).await
    }

    /// Ends a friendship.
    pub async fn unfriend(&self, one: &UserId, two: &UserId) -> Result<()> {
        let side = |a, b| self.delete_part(&keys::friend(a, b), None, HashMap::new());
        self.write_all(vec![side(one, two)?, side(two, one)?]).await
    }

    /// Makes `user` block `blocked`. Returns the new block. It begins at this machine's time, which other machines may not
    /// have reached yet.
    pub async fn block(&self, user: &UserId, blocked: &UserId) -> Result<Block> {
        self.change_block(user, blocked, Block::set, |key| self.put_part(relation(key, user), None)).await
    }

    /// Lifts the block of `blocked` by `user`. Returns what is left of the block.
    pub async fn unblock(&self, user: &UserId, blocked: &UserId) -> Result<Block> {
        let oldest = self.oldest();
        self.change_block(
            user,
            blocked,
            |block, now| block.lifted(now, oldest),
            |key| self.delete_part(key, None, HashMap::new()),
        )
        .await
    }

    /// Lifts the block of a user who is erased. What they wrote during it stays withheld: the past of the block is kept for as
    /// long as messages are.
    pub(super) async fn retire_block(&self, user: &UserId, erased: &UserId) -> Result<()> {
        let mut change = Expression::default();
        let expires_at = change.path(["expiresAt"]);
        change.set(&expires_at, Self::expires_at(self.clock.now_ms(), self.retention_ms()));
        change.require("attribute_exists(pk)".to_owned());
        // The mark by which a repeat finds the block is deleted last.
        self.change(&keys::block(user, erased), change).await?;
        self.unblock(user, erased).await.map(|_| ())
    }

    /// Changes both sides of a block in one transaction. Retries if the block was changed meanwhile.
    async fn change_block(
        &self,
        user: &UserId,
        blocked: &UserId,
        change: impl Fn(Block, u64) -> Block,
        mirror: impl Fn(&Key) -> Result<TransactWriteItem>,
    ) -> Result<Block> {
        let key = keys::block(user, blocked);
        for attempt in 0..MAX_ATTEMPTS {
            let item = self.get(&key).await?;
            let old = item.as_ref().map(read_block).transpose()?.unwrap_or_default();
            let new = change(old.clone(), self.clock.now_ms());
            if new == old {
                return Ok(new);
            }
            let mine = self.replace_block(&key, blocked, &old, item.is_some(), &new)?;
            match self.transact(vec![mine, mirror(&keys::blocker(blocked, user))?]).await? {
                Transaction::Done => return Ok(new),
                Transaction::Refused(_) => self.pause(attempt).await,
            }
        }
        Err(Error::unavailable("TransactWriteItems", "a block keeps changing"))
    }

    fn replace_block(
        &self,
        key: &Key,
        blocked: &UserId,
        old: &Block,
        exists: bool,
        new: &Block,
    ) -> Result<TransactWriteItem> {
        let mut change = Expression::default();
        let [user, past, since] = ["user", "past", "since"].map(|name| change.path([name]));
        change.set(&user, item::text(blocked.as_str()));
        change.set(&past, write_spells(&new.past));
        match new.since {
            Some(time) => {
                change.set(&since, item::number(time));
                let expires_at = change.path(["expiresAt"]);
                change.remove(&expires_at);
            }
            None => change.remove(&since),
        }
        match (exists, old.since) {
            (false, _) => change.require("attribute_not_exists(pk)"),
            (true, None) => change.require(format!("attribute_exists(pk) AND attribute_not_exists({since})")),
            (true, Some(time)) => {
                let old = change.value(item::number(time));
                change.require(format!("{since} = {old}"));
            }
        }
        self.update_part(key, change)
    }

    /// Makes a transaction without conditions.
    async fn write_all(&self, writes: Vec<TransactWriteItem>) -> Result<()> {
        self.transact(writes).await.map(|_| ())
    }
}

fn relation(key: &Key, other: &UserId) -> Item {
    let mut item = key.attributes();
    item.insert("user".to_owned(), item::text(other.as_str()));
    item
}

pub(super) fn other(item: &Item) -> Result<UserId> {
    item::parsed("user", UserId::parse(item::read_text(item, "user")?))
}

fn write_spells(spells: &[Span]) -> AttributeValue {
    let spell = |span: &Span| AttributeValue::L(vec![item::number(span.from), item::number(span.to)]);
    AttributeValue::L(spells.iter().map(spell).collect())
}

pub(super) fn read_blocked(item: &Item) -> Result<(UserId, Block)> {
    Ok((other(item)?, read_block(item)?))
}

fn read_block(item: &Item) -> Result<Block> {
    let past = item.get("past").and_then(|past| past.as_l().ok()).ok_or_else(|| item::corrupt("past"))?;
    let past = past.iter().map(|spell| read_spell(spell).ok_or_else(|| item::corrupt("past")));
    Ok(Block { since: item::read_optional_number(item, "since")?, past: past.collect::<Result<_>>()? })
}

fn read_spell(value: &AttributeValue) -> Option<Span> {
    let [from, to] = value.as_l().ok()?.as_slice() else { return None };
    Some(Span { from: from.as_n().ok()?.parse().ok()?, to: to.as_n().ok()?.parse().ok()? })
}
