//! Groups and their members.
//!
//! A group is its item `META`: {groupId, groupName, managerId, memberCount, lastShard?}. A membership is two items:
//! `ROSTER#` {user, joined} on the side of the group, and `VIEW#GROUP#` {groupId, joined, shard?} on the side of the user.
//! `joined` is the time from which the member gets messages.
//!
//! A group is dissolved by deleting META, in one write. Items that are left behind then mean nothing, so every read of a
//! membership also reads META.
//!
//! The roster of a large group is spread over partitions, since one partition serves at most 3,000 read units a second.
//! The first [`Config::roster_shard`] members are in the group's own partition, shard 0. Each further member goes to a
//! random one of the further shards, see [`shard_of_next`]. `lastShard` of META is the number of the last shard. `shard` on
//! the user's side is the shard of the member; both are absent for shard 0.
//!
//! [`Config::roster_shard`]: crate::config::Config::roster_shard

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, TransactWriteItem};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::calls::{MAX_ATTEMPTS, MAX_IN_FLIGHT, Table, Transaction};
use super::expression::Expression;
use super::invites::Invitation;
use super::item::{self, Item};
use super::keys;
use super::keys::Key;
use super::state::State;
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{GroupId, InviteId, UserId};

/// A group without its members: its META.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its name.
    pub name: String,
    /// The member who may rename it, remove members, and dissolve it.
    pub manager: UserId,
    /// The number of its members.
    pub members: u32,
    /// The last shard of its roster.
    pub last_shard: u32,
    /// The digest of what the back end asked for, if it made the group.
    pub digest: Option<String>,
}

/// A user's membership of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The time from which the user gets messages.
    pub joined: Ms,
    /// The shard of the roster that has the user.
    pub shard: u32,
    /// When the user's mute ends, if the manager has muted them.
    pub muted_until: Option<Ms>,
    /// Until when the membership is kept even if the group does not exist, because it may still be made.
    pub kept_until: Option<Ms>,
}

/// What a send to a group needs to know.
#[derive(Debug)]
pub struct Sender {
    /// The group, if it exists.
    pub meta: Option<Meta>,
    /// The sender's membership. It means nothing if the group does not exist.
    joined: Option<Membership>,
    /// The state of the sender.
    pub state: State,
}

impl Sender {
    /// Returns the sender's membership, if the group exists and the sender is a member.
    pub fn membership(&self) -> Option<Membership> {
        self.meta.as_ref().and(self.joined)
    }
}

/// A group as its members see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Its manager.
    pub manager_id: UserId,
    /// Its members, the manager among them.
    pub users_id: Vec<UserId>,
}

/// A group and its members.
#[derive(Debug)]
pub struct Roster {
    /// The group.
    pub meta: Meta,
    /// Its members: for each shard, in the order of their ids.
    pub shards: Vec<Vec<RosterMember>>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterMember {
    /// The user.
    pub user: UserId,
    /// The time from which the user gets messages.
    pub joined: Ms,
}

/// The result of accepting an invitation.
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The user is a member now.
    Member {
        /// The shard of the roster that has the user.
        shard: u32,
        /// The number of members with the user.
        members: u32,
    },
    /// The user was already a member. The invitation is still there.
    AlreadyMember,
    /// There is no such invitation to the user.
    NoInvitation,
    /// The inviter is not a member any more. The invitation has been removed.
    InviterLeft,
    /// The group is dissolved or full.
    NoPlace,
}

impl Table {
    /// Creates a group with its manager as its first member.
    pub async fn create_group(&self, group: &GroupId, name: &str, manager: &UserId) -> Result<()> {
        let now = self.clock.now_ms();
        let meta = meta_item(group, name, manager, 1);
        let writes = vec![
            self.put_part(meta, Some("attribute_not_exists(pk)"))?,
            self.put_part(member_item(group, 0, manager, now), None)?,
            self.put_part(joined_item(group, 0, manager, now), None)?,
        ];
        match self.transact(writes).await? {
            Transaction::Done => Ok(()),
            Transaction::Refused(_) => Err(Error::unavailable("TransactWriteItems", "a random group id is taken")),
        }
    }

    /// Renames a group, if it exists and `by` is its manager. The back end gives no `by`. Returns the number of its members, or
    /// nothing if it was not renamed.
    pub async fn rename_group(&self, group: &GroupId, name: &str, by: Option<&UserId>) -> Result<Option<u32>> {
        let mut change = Expression::default();
        let path = change.path(["groupName"]);
        change.set(&path, item::text(name));
        change.require("attribute_exists(pk)");
        if let Some(by) = by {
            let by = change.value(item::text(by.as_str()));
            change.require(format!("managerId = {by}"));
        }
        let update = change.request(self.update(&keys::meta(group))).return_values(ReturnValue::AllNew);
        let answer = self.conditionally("UpdateItem", || update.clone().send()).await?;
        answer.map(|answer| Ok(read_meta(&answer.attributes.unwrap_or_default())?.members)).transpose()
    }

    /// Returns the group, if it exists and `user` is a member.
    pub async fn membership(&self, group: &GroupId, user: &UserId) -> Result<Option<Meta>> {
        let found = self.memberships(group, &[user]).await?;
        Ok(found.and_then(|(meta, joined)| joined[0].map(|_| meta)))
    }

    /// Returns the membership of a sender and the sender's state, in one read.
    pub async fn sender(&self, group: &GroupId, user: &UserId) -> Result<Sender> {
        let joined = keys::joined(user, group);
        let items = self.get_all(vec![keys::meta(group), joined.clone(), keys::state(user)]).await?;
        let [meta, joined] = [keys::meta(group), joined].map(|key| items.iter().find(|item| key.is_of(item)));
        let (meta, joined) = (meta.map(read_meta).transpose()?, joined.map(read_membership).transpose()?);
        Ok(Sender { meta, joined, state: Self::state_among(&items, user)? })
    }

    /// Hands a group to one of its members, if `caller` is its manager. Returns whether that is so.
    pub async fn hand_over(&self, group: &GroupId, caller: &UserId, manager: &UserId) -> Result<bool> {
        let mut change = Expression::default();
        let path = change.path(["managerId"]);
        change.set(&path, item::text(manager.as_str()));
        let caller = change.value(item::text(caller.as_str()));
        change.require(format!("{path} = {caller}"));
        let writes = vec![
            self.update_part(&keys::meta(group), change)?,
            self.check_part(&keys::joined(manager, group), "attribute_exists(pk)", HashMap::new())?,
        ];
        Ok(self.transact(writes).await? == Transaction::Done)
    }

    /// Sets or removes the end of a member's mute, if `caller` is the manager of the group. Returns whether that is so and the
    /// user is a member.
    pub async fn mute(&self, group: &GroupId, caller: &UserId, user: &UserId, until: Option<Ms>) -> Result<bool> {
        let mut change = Expression::default();
        let path = change.path(["mutedUntil"]);
        match until {
            Some(time) => change.set(&path, item::number(time)),
            None => change.remove(&path),
        }
        change.require("attribute_exists(pk)");
        let manages = HashMap::from([(":manager".to_owned(), item::text(caller.as_str()))]);
        let writes = vec![
            self.update_part(&keys::joined(user, group), change)?,
            self.check_part(&keys::meta(group), "managerId = :manager", manages)?,
        ];
        Ok(self.transact(writes).await? == Transaction::Done)
    }

    /// Returns the group, if it exists, and the membership of each of these users.
    pub async fn memberships(
        &self,
        group: &GroupId,
        users: &[&UserId],
    ) -> Result<Option<(Meta, Vec<Option<Membership>>)>> {
        let mut wanted = vec![keys::meta(group)];
        for user in users {
            let key = keys::joined(user, group);
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        let items = self.get_all(wanted).await?;
        let meta = items.iter().find(|item| is_meta(item)).map(read_meta).transpose()?;
        let Some(meta) = meta else { return Ok(None) };
        let joined = |user: &&UserId| {
            let key = keys::joined(user, group);
            items.iter().find(|item| key.is_of(item)).map(read_membership).transpose()
        };
        Ok(Some((meta, users.iter().map(joined).collect::<Result<_>>()?)))
    }

    /// Returns the group with its members, if it exists. This is one read, and one more for each further shard.
    pub async fn roster(&self, group: &GroupId) -> Result<Option<Roster>> {
        let items = self.query_all(&keys::roster(group, 0)).await?;
        // META sorts before the members.
        let Some((meta, members)) = items.split_first().filter(|(first, _)| is_meta(first)) else { return Ok(None) };
        let members = members.iter().map(read_member).collect::<Result<_>>()?;
        let meta = read_meta(meta)?;
        let further = (1..=meta.last_shard).map(|shard| self.shard(group, shard));
        // Collected, since a stream of borrowing futures is not seen to be Send.
        let further = stream::iter(further.collect::<Vec<_>>()).buffered(MAX_IN_FLIGHT);
        let mut shards = vec![members];
        shards.extend(further.try_collect::<Vec<_>>().await?);
        Ok(Some(Roster { meta, shards }))
    }

    /// Returns the members in a shard of a roster. The group may be dissolved.
    pub async fn shard(&self, group: &GroupId, shard: u32) -> Result<Vec<RosterMember>> {
        let items = self.query_all(&keys::roster(group, shard)).await?;
        items.iter().filter(|item| !is_meta(item)).map(read_member).collect()
    }

    /// Returns the members in a shard of a roster with ids from `from` to `to`, both included. The group may be dissolved.
    pub async fn members_between(
        &self,
        group: &GroupId,
        shard: u32,
        from: &UserId,
        to: &UserId,
    ) -> Result<Vec<RosterMember>> {
        self.query_all(&keys::members(group, shard, from, to)).await?.iter().map(read_member).collect()
    }

    /// Returns the memberships of a user, including those of dissolved groups.
    pub async fn joined_groups(&self, user: &UserId) -> Result<Vec<(GroupId, Membership)>> {
        let items = self.query_all(&keys::all_of_user(user, keys::GROUP)).await?;
        items.iter().map(read_joined).collect()
    }

    /// Returns whether a user is in `many` groups or more. A dissolved group counts until its memberships are deleted.
    pub async fn is_in_groups(&self, user: &UserId, many: usize) -> Result<bool> {
        let limit = i32::try_from(many).unwrap_or(i32::MAX);
        let (items, _) = self.query(&keys::all_of_user(user, keys::GROUP), Some(limit), None).await?;
        Ok(items.len() >= many)
    }

    /// Returns those of the groups that exist.
    pub async fn existing_groups(&self, groups: &[GroupId]) -> Result<BTreeMap<GroupId, Meta>> {
        let items = self.get_all(groups.iter().map(keys::meta).collect()).await?;
        items.iter().map(|item| Ok((read_group_id(item)?, read_meta(item)?))).collect()
    }

    /// Deletes a user's memberships of dissolved groups, as they were read. Unfinished dissolutions leave them behind. A
    /// membership that was written again meanwhile, with another `joined`, stays.
    pub async fn forget_groups(&self, user: &UserId, dissolved: &[(GroupId, Membership)]) -> Result<()> {
        let deletes = dissolved.iter().flat_map(|(group, membership)| {
            both_sides(group, membership.shard, user).into_iter().map(|key| {
                self.delete(&key)
                    .condition_expression("joined = :joined")
                    .expression_attribute_values(":joined", item::number(membership.joined))
            })
        });
        let all = deletes.map(|delete| self.conditionally("DeleteItem", move || delete.clone().send()));
        futures::future::try_join_all(all).await.map(|_| ())
    }

    /// Accepts an invitation, as it was read. [`Table::stamp_member`] then sets the time from which the member gets messages.
    pub async fn join(&self, invitation: &Invitation, user: &UserId, max_members: u32) -> Result<Accepted> {
        self.add_member(&invitation.group, user, Some(invitation), max_members).await
    }

    /// Makes a user a member, with an invitation or, for the back end, without one. [`Table::stamp_member`] follows.
    pub async fn add_member(
        &self,
        group: &GroupId,
        user: &UserId,
        invitation: Option<&Invitation>,
        max_members: u32,
    ) -> Result<Accepted> {
        let mut invited_by = invitation.map(|invitation| invitation.invited_by.clone());
        for attempt in 0..MAX_ATTEMPTS {
            let (meta, mute) = (keys::meta(group), keys::mute(user, group));
            let (meta, mute) = futures::try_join!(self.get(&meta), self.get(&mute))?;
            let Some(meta) = meta.as_ref().map(read_meta).transpose()? else {
                return Ok(Accepted::NoPlace);
            };
            if meta.members >= max_members {
                return Ok(Accepted::NoPlace);
            }
            let (shard, last) = shard_of_next(meta.members, self.roster_shard, |bound| self.ids.below(bound));
            let mut joined = joined_item(group, shard, user, self.clock.now_ms());
            joined.extend(
                mute.as_ref()
                    .and_then(|mute| mute.get("mutedUntil"))
                    .map(|time| ("mutedUntil".to_owned(), time.clone())),
            );
            // The mute must be as it was read, or the user would evade it by leaving and joining at the same time.
            let key = keys::mute(user, group);
            let as_read = match mute.as_ref().and_then(|mute| mute.get("mutedUntil")) {
                None => self.check_part(&key, "attribute_not_exists(pk)", HashMap::new())?,
                Some(time) => {
                    let seen = HashMap::from([(":seen".to_owned(), time.clone())]);
                    self.delete_part(&key, Some("mutedUntil = :seen"), seen)?
                }
            };
            let mut writes = vec![
                self.count_one_more(group, &meta, last, max_members)?,
                self.put_part(member_item(group, shard, user, self.clock.now_ms()), None)?,
                self.put_part(joined, Some("attribute_not_exists(pk)"))?,
                as_read,
            ];
            match (invitation, &invited_by) {
                (Some(invitation), Some(by)) => {
                    writes.push(self.take_invitation(user, &invitation.id, by)?);
                    writes.push(self.check_part(&keys::joined(by, group), "attribute_exists(pk)", HashMap::new())?);
                }
                // An invitation would let the user in again after they have left.
                _ => {
                    let invite = keys::invite(user, &InviteId::of(group, user));
                    writes.push(self.delete_part(&invite, None, HashMap::new())?);
                }
            }
            let refused = match self.transact(writes).await? {
                Transaction::Done => return Ok(Accepted::Member { shard, members: meta.members + 1 }),
                Transaction::Refused(parts) => parts,
            };
            match (invitation, &invited_by) {
                // The invitation was answered already, or another member has invited the user since it was read.
                (Some(invitation), _) if refused[4] => match self.invitation(user, &invitation.id).await? {
                    Some(now) => invited_by = Some(now.invited_by),
                    None => return Ok(Accepted::NoInvitation),
                },
                // The group was dissolved or is full, or its `lastShard` has grown. The next read of META tells.
                _ if refused[0] || refused[3] => self.pause(attempt).await,
                _ if refused[2] => return Ok(Accepted::AlreadyMember),
                (Some(invitation), Some(by)) if self.drop_orphan(invitation, user, by).await? => {
                    return Ok(Accepted::InviterLeft);
                }
                _ => self.pause(attempt).await,
            }
        }
        Err(Error::unavailable("joining a group", "its roster keeps changing"))
    }

    /// Removes an invitation if its inviter is not a member. Returns whether it was removed. It stays if the inviter has come
    /// back, or if another member has invited the user meanwhile.
    async fn drop_orphan(&self, invitation: &Invitation, user: &UserId, invited_by: &UserId) -> Result<bool> {
        let writes = vec![
            self.take_invitation(user, &invitation.id, invited_by)?,
            self.check_part(&keys::joined(invited_by, &invitation.group), "attribute_not_exists(pk)", HashMap::new())?,
        ];
        Ok(self.transact(writes).await? == Transaction::Done)
    }

    /// Returns the part of a transaction that deletes an invitation if `invited_by` is still its inviter.
    fn take_invitation(&self, user: &UserId, id: &InviteId, invited_by: &UserId) -> Result<TransactWriteItem> {
        let values = HashMap::from([(":by".to_owned(), item::text(invited_by.as_str()))]);
        self.delete_part(&keys::invite(user, id), Some("invitedBy = :by"), values)
    }

    /// Returns the part of a transaction that counts one more member, and raises `lastShard` to `last` if it is lower.
    fn count_one_more(&self, group: &GroupId, meta: &Meta, last: u32, max_members: u32) -> Result<TransactWriteItem> {
        let mut change = Expression::default();
        let count = change.path(["memberCount"]);
        change.add(&count, item::number(1));
        let most = change.value(item::number(max_members));
        change.require(format!("attribute_exists(pk) AND {count} < {most}"));
        if last > meta.last_shard {
            let path = change.path(["lastShard"]);
            change.set(&path, item::number(last));
            // The number never decreases, so every shard with members is read.
            let last = change.value(item::number(last));
            change.require(format!("attribute_not_exists({path}) OR {path} < {last}"));
        }
        self.update_part(&keys::meta(group), change)
    }

    /// Sets the time from which a new member in that shard gets messages. Does nothing if the member has left meanwhile.
    pub async fn stamp_member(&self, group: &GroupId, shard: u32, user: &UserId, joined: Ms) -> Result<()> {
        let mut change = Expression::default();
        let path = change.path(["joined"]);
        change.set(&path, item::number(joined));
        change.require("attribute_exists(pk)");
        let (member, user) = (keys::member(group, shard, user), keys::joined(user, group));
        futures::try_join!(self.change(&member, change.clone()), self.change(&user, change))?;
        Ok(())
    }

    /// Removes a member if the membership is unchanged and the member is not the manager. With `by`, that user must be the
    /// manager. Returns whether the member was removed. A member who left and came back has another `joined`, so a late call
    /// does not remove them again.
    pub async fn remove_member(
        &self,
        group: &GroupId,
        user: &UserId,
        membership: Membership,
        by: Option<&UserId>,
    ) -> Result<bool> {
        let mut one_less = Expression::default();
        let count = one_less.path(["memberCount"]);
        one_less.add(&count, item::number(-1));
        let member = one_less.value(item::text(user.as_str()));
        one_less.require(format!("attribute_exists(pk) AND managerId <> {member}"));
        if let Some(by) = by {
            let by = one_less.value(item::text(by.as_str()));
            one_less.require(format!("managerId = {by}"));
        }
        let mut seen = HashMap::from([(":joined".to_owned(), item::number(membership.joined))]);
        let mut is_as_seen = "joined = :joined AND ".to_owned();
        match membership.muted_until {
            None => is_as_seen.push_str("attribute_not_exists(mutedUntil)"),
            Some(until) => {
                is_as_seen.push_str("mutedUntil = :until");
                seen.insert(":until".to_owned(), item::number(until));
            }
        }
        let mut writes = vec![
            self.update_part(&keys::meta(group), one_less)?,
            self.delete_part(&keys::member(group, membership.shard, user), None, HashMap::new())?,
            self.delete_part(&keys::joined(user, group), Some(&is_as_seen), seen)?,
            // An invitation that was sent while another was being accepted would let the user in again.
            self.delete_part(&keys::invite(user, &InviteId::of(group, user)), None, HashMap::new())?,
        ];
        // Leaving and coming back does not end a mute.
        if let Some(until) = membership.muted_until.filter(|until| *until > self.clock.now_ms()) {
            let mut mute = keys::mute(user, group).attributes();
            mute.insert("mutedUntil".to_owned(), item::number(until));
            mute.insert("expiresAt".to_owned(), Self::expires_at(until, 0));
            writes.push(self.put_part(mute, None)?);
        }
        Ok(self.transact(writes).await? == Transaction::Done)
    }

    /// Dissolves a group if its manager and its last shard are as given. From this write on it has no members. Returns
    /// whether the group is gone. It still exists if its roster has grown or its manager has changed.
    pub async fn dissolve(&self, group: &GroupId, manager: &UserId, last_shard: u32) -> Result<bool> {
        let is_as_seen = match last_shard {
            0 => "attribute_not_exists(lastShard)",
            _ => "lastShard = :last",
        };
        let mut delete = self
            .delete(&keys::meta(group))
            .condition_expression(format!("attribute_not_exists(pk) OR (managerId = :manager AND {is_as_seen})"))
            .expression_attribute_values(":manager", item::text(manager.as_str()));
        if last_shard > 0 {
            delete = delete.expression_attribute_values(":last", item::number(last_shard));
        }
        Ok(self.conditionally("DeleteItem", || delete.clone().send()).await?.is_some())
    }

    /// Deletes the memberships that a dissolved group left in a shard of its roster. An unfinished call can be repeated, and a
    /// pull deletes the memberships of its own user.
    pub async fn clear_shard(&self, group: &GroupId, shard: u32) -> Result<()> {
        let range = keys::roster(group, shard);
        let mut start = None;
        loop {
            let (items, next) = self.query(&range, None, start).await?;
            let members = items.iter().map(read_member).collect::<Result<Vec<_>>>()?;
            let both = members.iter().flat_map(|member| both_sides(group, shard, &member.user));
            self.delete_all(both.collect()).await?;
            match next {
                Some(key) => start = Some(key),
                None => return Ok(()),
            }
        }
    }
}

pub(super) fn meta_item(group: &GroupId, name: &str, manager: &UserId, members: u32) -> Item {
    let mut meta = keys::meta(group).attributes();
    meta.insert("groupId".to_owned(), item::text(group.as_str()));
    meta.insert("groupName".to_owned(), item::text(name));
    meta.insert("managerId".to_owned(), item::text(manager.as_str()));
    meta.insert("memberCount".to_owned(), item::number(members));
    meta
}

/// Returns the shard of the next member of a group with `members` members, and the last shard that the roster then needs.
///
/// Shard 0 takes the first `size` members. When a group doubles, its shards double too: from `2^k * size` members on, new
/// members are spread over the shards `2^k` to `2^(k+1) - 1`. So a shard gets at most `2 * size` members on average, even
/// if members come and go.
pub(super) fn shard_of_next(members: u32, size: u32, below: impl Fn(u64) -> u64) -> (u32, u32) {
    let Some(doubled) = (members / size.max(1)).checked_ilog2() else { return (0, 0) };
    let first = 1 << doubled;
    let chosen = u32::try_from(below(u64::from(first))).unwrap_or(0);
    (first + chosen, first + (first - 1))
}

/// The two items of a membership.
fn both_sides(group: &GroupId, shard: u32, user: &UserId) -> [Key; 2] {
    [keys::joined(user, group), keys::member(group, shard, user)]
}

pub(super) fn member_item(group: &GroupId, shard: u32, user: &UserId, joined: Ms) -> Item {
    membership_item(keys::member(group, shard, user).attributes(), ("user", user.as_str()), joined)
}

pub(super) fn joined_item(group: &GroupId, shard: u32, user: &UserId, joined: Ms) -> Item {
    let mut item = membership_item(keys::joined(user, group).attributes(), ("groupId", group.as_str()), joined);
    if shard > 0 {
        item.insert("shard".to_owned(), item::number(shard));
    }
    item
}

fn membership_item(mut item: Item, (name, id): (&str, &str), joined: Ms) -> Item {
    item.insert(name.to_owned(), AttributeValue::S(id.to_owned()));
    item.insert("joined".to_owned(), item::number(joined));
    item
}

pub(super) fn read_joined(item: &Item) -> Result<(GroupId, Membership)> {
    Ok((read_group_id(item)?, read_membership(item)?))
}

fn read_membership(item: &Item) -> Result<Membership> {
    Ok(Membership {
        joined: item::read_number(item, "joined")?,
        shard: read_count(item, "shard")?.unwrap_or(0),
        muted_until: item::read_optional_number(item, "mutedUntil")?,
        kept_until: item::read_optional_number(item, "keptUntil")?,
    })
}

fn read_count(item: &Item, name: &'static str) -> Result<Option<u32>> {
    let count = item::read_optional_number(item, name)?;
    count.map(|count| item::parsed(name, u32::try_from(count))).transpose()
}

fn read_group_id(item: &Item) -> Result<GroupId> {
    item::parsed("groupId", GroupId::parse(item::read_text(item, "groupId")?))
}

/// Returns whether an item is META, among the items that a query returns with it.
pub(super) fn is_meta(item: &Item) -> bool {
    item.contains_key("managerId")
}

pub(super) fn read_meta(item: &Item) -> Result<Meta> {
    Ok(Meta {
        name: item::read_text(item, "groupName")?.to_owned(),
        manager: item::parsed("managerId", UserId::parse(item::read_text(item, "managerId")?))?,
        members: read_count(item, "memberCount")?.ok_or_else(|| item::corrupt("memberCount"))?,
        last_shard: read_count(item, "lastShard")?.unwrap_or(0),
        digest: item.get("digest").and_then(|digest| digest.as_s().ok()).cloned(),
    })
}

fn read_member(item: &Item) -> Result<RosterMember> {
    Ok(RosterMember {
        user: item::parsed("user", UserId::parse(item::read_text(item, "user")?))?,
        joined: item::read_number(item, "joined")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many members each shard gets as a group grows one by one, and the last shard.
    fn grown(members: u32, size: u32) -> (BTreeMap<u32, u32>, u32) {
        let (ids, mut shards, mut last) = (crate::id::Ids::seeded(7), BTreeMap::new(), 0);
        for count in 0..members {
            let (shard, needed) = shard_of_next(count, size, |bound| ids.below(bound));
            *shards.entry(shard).or_default() += 1;
            last = needed.max(last);
        }
        (shards, last)
    }

    #[test]
    fn a_small_group_has_one_shard() {
        assert_eq!(grown(1_000, 1_000), (BTreeMap::from([(0, 1_000)]), 0));
        assert_eq!(grown(1_001, 1_000), (BTreeMap::from([(0, 1_000), (1, 1)]), 1));
    }

    #[test]
    fn no_shard_grows_far_beyond_its_size() {
        let (shards, last) = grown(100_000, 1_000);
        assert_eq!(last, 127);
        assert!(shards.keys().all(|shard| *shard <= last), "each is read");
        assert!(shards.values().all(|members| *members <= 1_200), "{shards:?}");
    }
}
