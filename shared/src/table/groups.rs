//! Groups and who is in them.
//!
//! A group is its `META`: {name, manager, count}. A membership is an item on either side, `MEMBER#` and `GROUP#`, with
//! the time from which on messages are the member's. Whoever asks for a member asks for META too: a group is dissolved
//! by deleting META, in one write, and what is left of it then says nothing any more.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use super::item::{self, Item};
use super::{Table, Transaction, keys};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{GroupId, InviteId, UserId};

/// What a group is, without its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its name.
    pub name: String,
    /// Who may rename it, remove members, and dissolve it.
    pub manager: UserId,
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
    /// What the group is.
    pub meta: Meta,
    /// Its members, by id.
    pub members: Vec<RosterMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterMember {
    /// Who it is.
    pub user: UserId,
    /// From when on messages are his.
    pub joined: Ms,
}

/// What became of an acceptance.
#[derive(Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The user is a member now.
    Member,
    /// The user was a member before, by another way: the invitation has served its purpose.
    AlreadyMember,
    /// There is no such invitation to him.
    NoInvitation,
    /// The group is dissolved or full.
    NoPlace,
}

impl Table {
    /// Make a group with its manager as its first member.
    pub async fn create_group(&self, group: &GroupId, name: &str, manager: &UserId) -> Result<()> {
        let now = self.clock.now_ms();
        let mut meta = keys::meta(group).attributes();
        meta.insert("groupId".to_owned(), item::text(group.as_str()));
        meta.insert("groupName".to_owned(), item::text(name));
        meta.insert("managerId".to_owned(), item::text(manager.as_str()));
        meta.insert("memberCount".to_owned(), item::number(1));
        let writes = vec![
            self.put_part(meta, Some("attribute_not_exists(pk)"))?,
            self.put_part(member_item(group, manager, now), None)?,
            self.put_part(joined_item(group, manager, now), None)?,
        ];
        match self.transact(writes).await? {
            Transaction::Done => Ok(()),
            Transaction::Refused(_) => Err(Error::unavailable("TransactWriteItems", "a random group id is taken")),
        }
    }

    /// Rename a group, if `caller` is its manager.
    pub async fn rename_group(&self, group: &GroupId, name: &str, caller: &UserId) -> Result<bool> {
        let update = self
            .update(&keys::meta(group))
            .update_expression("SET groupName = :name")
            .condition_expression("managerId = :caller")
            .expression_attribute_values(":name", item::text(name))
            .expression_attribute_values(":caller", item::text(caller.as_str()));
        Ok(self.conditionally("UpdateItem", || update.clone().send()).await?.is_some())
    }

    /// The group, if it stands and `user` is in it.
    pub async fn membership(&self, group: &GroupId, user: &UserId) -> Result<Option<Meta>> {
        let found = self.memberships(group, &[user]).await?;
        Ok(found.and_then(|(meta, joined)| joined[0].map(|_| meta)))
    }

    /// The group, if it stands, and since when each of these users has been in it.
    pub async fn memberships(&self, group: &GroupId, users: &[&UserId]) -> Result<Option<(Meta, Vec<Option<Ms>>)>> {
        let mut wanted = vec![keys::meta(group)];
        for user in users {
            let key = keys::member(group, user);
            if !wanted.contains(&key) {
                wanted.push(key);
            }
        }
        let items = self.get_all(wanted).await?;
        let meta = items.iter().find(|item| item.contains_key("managerId")).map(read_meta).transpose()?;
        let Some(meta) = meta else { return Ok(None) };
        let joined = |user: &&UserId| {
            let member = items.iter().find(|item| item::read_text(item, "user").is_ok_and(|id| id == user.as_str()));
            member.map(|member| item::read_number(member, "joined")).transpose()
        };
        Ok(Some((meta, users.iter().map(joined).collect::<Result<_>>()?)))
    }

    /// The group with its members, if it stands: one read.
    pub async fn roster(&self, group: &GroupId) -> Result<Option<Roster>> {
        let mut items = self.query_all(&keys::roster(group)).await?;
        // META sorts behind the members.
        let Some(meta) = items.pop_if(|last| last.contains_key("managerId")) else { return Ok(None) };
        let members = items.iter().map(read_member).collect::<Result<_>>()?;
        Ok(Some(Roster { meta: read_meta(&meta)?, members }))
    }

    /// The members of a group whose ids are from one to another, both included. It need not stand any more.
    pub async fn members_between(&self, group: &GroupId, from: &UserId, to: &UserId) -> Result<Vec<RosterMember>> {
        self.query_all(&keys::members(group, from, to)).await?.iter().map(read_member).collect()
    }

    /// The groups that a user is in, dissolved ones included, with the times from which on their messages are his.
    pub async fn joined_groups(&self, user: &UserId) -> Result<Vec<(GroupId, Ms)>> {
        let items = self.query_all(&keys::all_of_user(user, keys::GROUP)).await?;
        items.iter().map(|item| Ok((read_group_id(item)?, item::read_number(item, "joined")?))).collect()
    }

    /// Whether a user is in so many groups, or more. One that is dissolved counts until its memberships are deleted.
    pub async fn is_in_groups(&self, user: &UserId, many: usize) -> Result<bool> {
        let limit = i32::try_from(many).unwrap_or(i32::MAX);
        let (items, _) = self.query(&keys::all_of_user(user, keys::GROUP), Some(limit), None).await?;
        Ok(items.len() >= many)
    }

    /// Those of the groups that stand.
    pub async fn standing_groups(&self, groups: &[GroupId]) -> Result<BTreeMap<GroupId, Meta>> {
        let items = self.get_all(groups.iter().map(keys::meta).collect()).await?;
        items.iter().map(|item| Ok((read_group_id(item)?, read_meta(item)?))).collect()
    }

    /// Forget that a user was in groups that are dissolved: what a dissolution left behind when it was cut short.
    pub async fn forget_groups(&self, user: &UserId, dissolved: &[GroupId]) -> Result<()> {
        let both = |group: &GroupId| [keys::joined(user, group), keys::member(group, user)];
        self.delete_all(dissolved.iter().flat_map(both).collect()).await
    }

    /// Take up an invitation. The member's messages begin when it is stamped, see [`Table::stamp_member`].
    pub async fn join(&self, group: &GroupId, user: &UserId, invite: &InviteId, max_members: u32) -> Result<Accepted> {
        let now = self.clock.now_ms();
        let count =
            HashMap::from([(":one".to_owned(), item::number(1)), (":max".to_owned(), item::number(max_members))]);
        let writes = vec![
            self.delete_part(&keys::invite(user, invite), Some("attribute_exists(pk)"), HashMap::new())?,
            self.update_part(
                &keys::meta(group),
                "ADD memberCount :one",
                "attribute_exists(pk) AND memberCount < :max",
                count,
            )?,
            self.put_part(member_item(group, user, now), Some("attribute_not_exists(pk)"))?,
            self.put_part(joined_item(group, user, now), None)?,
        ];
        match self.transact(writes).await? {
            Transaction::Done => Ok(Accepted::Member),
            Transaction::Refused(parts) if parts[0] => Ok(Accepted::NoInvitation),
            Transaction::Refused(parts) if parts[1] => Ok(Accepted::NoPlace),
            Transaction::Refused(_) => Ok(Accepted::AlreadyMember),
        }
    }

    /// Say from when on messages are a new member's; nothing if he has left meanwhile.
    pub async fn stamp_member(&self, group: &GroupId, user: &UserId, joined: Ms) -> Result<()> {
        let stamp = async |key| {
            let update = self
                .update(&key)
                .update_expression("SET joined = :joined")
                .condition_expression("attribute_exists(pk)")
                .expression_attribute_values(":joined", item::number(joined));
            self.conditionally("UpdateItem", || update.clone().send()).await
        };
        futures::try_join!(stamp(keys::member(group, user)), stamp(keys::joined(user, group)))?;
        Ok(())
    }

    /// Take a member out of a group, if he has been in it since `joined` and is not its manager; with `by`, if that is its
    /// manager. Whether that was done. One who left and came back is in since another time: a call that arrives late does
    /// not take him out again.
    pub async fn remove_member(&self, group: &GroupId, user: &UserId, joined: Ms, by: Option<&UserId>) -> Result<bool> {
        let mut values =
            HashMap::from([(":less".to_owned(), item::number(-1)), (":user".to_owned(), item::text(user.as_str()))]);
        let mut condition = "attribute_exists(pk) AND managerId <> :user".to_owned();
        if let Some(by) = by {
            condition.push_str(" AND managerId = :by");
            values.insert(":by".to_owned(), item::text(by.as_str()));
        }
        let since = HashMap::from([(":joined".to_owned(), item::number(joined))]);
        let writes = vec![
            self.update_part(&keys::meta(group), "ADD memberCount :less", &condition, values)?,
            self.delete_part(&keys::member(group, user), Some("joined = :joined"), since)?,
            self.delete_part(&keys::joined(user, group), None, HashMap::new())?,
            // One that crossed the acceptance of another would let him in again.
            self.delete_part(&keys::invite(user, &InviteId::of(group, user)), None, HashMap::new())?,
        ];
        Ok(self.transact(writes).await? == Transaction::Done)
    }

    /// Dissolve the group of a manager, if it still stands: from this write on nobody is in it.
    pub async fn dissolve(&self, group: &GroupId, manager: &UserId) -> Result<()> {
        let delete = self
            .delete(&keys::meta(group))
            .condition_expression("managerId = :manager")
            .expression_attribute_values(":manager", item::text(manager.as_str()));
        self.conditionally("DeleteItem", || delete.clone().send()).await.map(|_| ())
    }

    /// Delete what a dissolved group left behind. Cut short, it can be done again, and a member's pull does it for him.
    pub async fn clear_members(&self, group: &GroupId) -> Result<()> {
        let range = keys::roster(group);
        let mut start = None;
        loop {
            let (items, next) = self.query(&range, None, start).await?;
            let members = items.iter().map(read_member).collect::<Result<Vec<_>>>()?;
            let both = |member: &RosterMember| [keys::joined(&member.user, group), keys::member(group, &member.user)];
            self.delete_all(members.iter().flat_map(both).collect()).await?;
            match next {
                Some(key) => start = Some(key),
                None => return Ok(()),
            }
        }
    }
}

fn member_item(group: &GroupId, user: &UserId, joined: Ms) -> Item {
    membership_item(keys::member(group, user).attributes(), ("user", user.as_str()), joined)
}

fn joined_item(group: &GroupId, user: &UserId, joined: Ms) -> Item {
    membership_item(keys::joined(user, group).attributes(), ("groupId", group.as_str()), joined)
}

fn membership_item(mut item: Item, (name, id): (&str, &str), joined: Ms) -> Item {
    item.insert(name.to_owned(), AttributeValue::S(id.to_owned()));
    item.insert("joined".to_owned(), item::number(joined));
    item
}

fn read_group_id(item: &Item) -> Result<GroupId> {
    item::parsed("groupId", GroupId::parse(item::read_text(item, "groupId")?))
}

fn read_meta(item: &Item) -> Result<Meta> {
    Ok(Meta {
        name: item::read_text(item, "groupName")?.to_owned(),
        manager: item::parsed("managerId", UserId::parse(item::read_text(item, "managerId")?))?,
    })
}

fn read_member(item: &Item) -> Result<RosterMember> {
    Ok(RosterMember {
        user: item::parsed("user", UserId::parse(item::read_text(item, "user")?))?,
        joined: item::read_number(item, "joined")?,
    })
}
