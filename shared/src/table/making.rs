//! Groups that the back end makes with all their members.
//!
//! A draft comes first: the item `GROUP#g` / `DRAFT` {groupName, managerId, digest, parts, asked, inCall?, done, memberCount,
//! abandoned?}. The members follow, without transactions, and META replaces the draft, with their number. Nobody is in the
//! group before META exists. A small group is made by the call itself, as long as `inCall` is there. A large one is made by
//! jobs, each of which writes a part of the members. A job may run twice, so `done` and `memberCount` count a part once.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use futures::{StreamExt, TryStreamExt, stream};
use uuid::Uuid;

use super::calls::{Table, Transaction};
use super::expression::Expression;
use super::groups::{joined_item, member_item, meta_item, shard_of_next};
use super::item::{self, Item};
use super::keys;
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{GroupId, UserId};

/// How long a draft is kept. Dead letters are kept for 14 days, and may be sent back until then.
const LIFETIME_MS: Ms = 15 * 24 * 60 * 60 * 1000;

/// How long pulls keep the memberships that a call writes, if it never finishes the group. A repeat writes them again. It is much
/// longer than jobs of a repeat need: the first call may write after them.
const LIFETIME_IN_CALL_MS: Ms = 15 * 60 * 1000;

/// The most users whose groups are counted at once.
const MAX_COUNTS: usize = 32;

/// Returns the digest of a group that is asked for: of its name, its manager and its members. It has 128 bits.
fn digest_of_group(name: &str, manager: &UserId, users: &[UserId]) -> String {
    const NAMESPACE: Uuid = Uuid::from_u128(0x9c1d_44e8_37b2_4f90_8b6e_2af0_51c3_7d19);
    let mut ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
    ids.sort_unstable();
    // No id has a line break, and the name comes last.
    let text = format!("{manager}\n{}\n{name}", ids.join("\n"));
    Uuid::new_v5(&NAMESPACE, text.as_bytes()).simple().to_string()
}

/// A group that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Its name.
    pub name: String,
    /// Its manager.
    pub manager: UserId,
    /// The number of parts that jobs write.
    pub parts: u32,
    /// The number of members that were asked for.
    pub asked: u32,
    /// Whether the call that asked for it makes it, rather than jobs.
    pub is_in_call: bool,
    /// The parts whose members are written.
    pub done: BTreeSet<u32>,
    /// The members of these parts.
    pub members: u32,
    /// Whether the back end has dissolved the group before it was made.
    pub is_abandoned: bool,
    /// The digest of what was asked for.
    pub digest: String,
}

impl Draft {
    /// Returns a draft of a group with these members, the manager among them, of which nothing is written.
    pub fn of(name: String, manager: UserId, users: &[UserId]) -> Self {
        let digest = digest_of_group(&name, &manager, users);
        let asked = u32::try_from(users.len()).unwrap_or(u32::MAX);
        let (parts, is_in_call, done, members, is_abandoned) = (0, false, BTreeSet::new(), 0, false);
        Self { name, manager, parts, asked, is_in_call, done, members, is_abandoned, digest }
    }

    /// Returns whether the members of all parts are written.
    pub fn is_complete(&self) -> bool {
        self.done.len() >= self.parts as usize
    }
}

impl Table {
    /// Writes members of a draft, each with a number. They get messages from `joined` on. Pulls keep their memberships until
    /// whoever makes the group has ended for certain.
    pub async fn put_members(
        &self,
        group: &GroupId,
        draft: &Draft,
        users: &[(u32, &UserId)],
        joined: Ms,
    ) -> Result<()> {
        let kept_until = joined.saturating_add(if draft.is_in_call { LIFETIME_IN_CALL_MS } else { LIFETIME_MS });
        let mut items = Vec::with_capacity(2 * users.len());
        for (number, user) in users {
            let shard = self.shard_of_number(*number);
            let mut mine = joined_item(group, shard, user, joined);
            mine.insert("keptUntil".to_owned(), item::number(kept_until));
            items.extend([member_item(group, shard, user, joined), mine]);
        }
        self.put_all(items).await
    }

    /// Returns the shard of a member by their number. It is always the same, so no repeat writes a member to another shard.
    fn shard_of_number(&self, number: u32) -> u32 {
        shard_of_next(number, self.roster_shard, |bound| u64::from(number) % bound).0
    }

    /// Returns META of a group whose members are written.
    fn meta_of(&self, group: &GroupId, draft: &Draft) -> Item {
        let mut meta = meta_item(group, &draft.name, &draft.manager, draft.members);
        meta.insert("digest".to_owned(), item::text(&draft.digest));
        let last = self.last_shard_of(draft);
        if last > 0 {
            meta.insert("lastShard".to_owned(), item::number(last));
        }
        meta
    }

    /// Begins a draft. Returns whether this call did so: there must be neither a draft nor a group with that id.
    pub async fn put_draft(&self, group: &GroupId, draft: &Draft) -> Result<bool> {
        let mut new = keys::draft(group).attributes();
        new.insert("groupName".to_owned(), item::text(&draft.name));
        new.insert("managerId".to_owned(), item::text(draft.manager.as_str()));
        new.insert("digest".to_owned(), item::text(&draft.digest));
        new.insert("parts".to_owned(), item::number(draft.parts));
        new.insert("asked".to_owned(), item::number(draft.asked));
        if draft.is_in_call {
            new.insert("inCall".to_owned(), AttributeValue::Bool(true));
        }
        new.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        let no_group = self.check_part(&keys::meta(group), "attribute_not_exists(pk)", HashMap::new())?;
        let writes = vec![self.put_part_if_free(new)?, no_group];
        Ok(self.transact(writes).await? == Transaction::Done)
    }

    /// Lets jobs make a draft, and no longer the call that began it. Returns whether there is such a draft.
    pub async fn leave_draft_to_jobs(&self, group: &GroupId) -> Result<bool> {
        let mut change = Expression::default();
        let path = change.path(["inCall"]);
        change.remove(&path);
        change.require("attribute_exists(pk)");
        self.change(&keys::draft(group), change).await
    }

    /// Returns a group that is being made.
    pub async fn draft(&self, group: &GroupId) -> Result<Option<Draft>> {
        match self.get(&keys::draft(group)).await? {
            Some(item) if self.is_live(&item)? => read_draft(&item).map(Some),
            _ => Ok(None),
        }
    }

    /// Records that a part of a draft is written, with so many members. Does nothing if the part was done already, or the draft
    /// is gone.
    pub async fn finish_part(&self, group: &GroupId, part: u32, members: u32) -> Result<()> {
        let mut change = Expression::default();
        let [done, count] = ["done", "memberCount"].map(|name| change.path([name]));
        change.add(&done, AttributeValue::Ns(vec![part.to_string()]));
        change.add(&count, item::number(members));
        let number = change.value(item::number(part));
        change.require("attribute_exists(pk)");
        change.require(format!("attribute_not_exists({done}) OR NOT contains({done}, {number})"));
        self.change(&keys::draft(group), change).await.map(|_| ())
    }

    /// Marks a draft as abandoned: from this write on it cannot become a group. Returns whether there is such a draft.
    pub async fn abandon_draft(&self, group: &GroupId) -> Result<bool> {
        let mut change = Expression::default();
        let path = change.path(["abandoned"]);
        change.set(&path, AttributeValue::Bool(true));
        change.require("attribute_exists(pk)");
        self.change(&keys::draft(group), change).await
    }

    /// Returns the last shard of the roster of a draft.
    pub fn last_shard_of(&self, draft: &Draft) -> u32 {
        shard_of_next(draft.asked.saturating_sub(1), self.roster_shard, |_| 0).1
    }

    /// Replaces a complete draft by META, unless it is abandoned, or jobs make what began in a call. Returns whether this call
    /// did so.
    pub async fn finish_draft(&self, group: &GroupId, draft: &Draft) -> Result<bool> {
        let is_standing = match draft.is_in_call {
            true => "attribute_exists(inCall) AND attribute_not_exists(abandoned)",
            false => "attribute_exists(pk) AND attribute_not_exists(abandoned)",
        };
        let writes = vec![
            self.put_part(self.meta_of(group, draft), Some("attribute_not_exists(pk)"))?,
            self.delete_part(&keys::draft(group), Some(is_standing), HashMap::new())?,
        ];
        Ok(self.transact(writes).await? == Transaction::Done)
    }

    /// Returns those of the users who have reached the limit of groups. Memberships of `group` do not count.
    pub async fn without_room(&self, users: &[UserId], group: &GroupId, most: usize) -> Result<BTreeSet<UserId>> {
        let look = |user: UserId| async move {
            let limit = i32::try_from(most).unwrap_or(i32::MAX);
            let range = keys::all_of_user(&user, keys::GROUP);
            let (items, _) = self.query_eventually(&range, false, limit, None).await?;
            if items.len() < most || self.get(&keys::joined(&user, group)).await?.is_some() {
                return Ok(None);
            }
            Ok::<_, Error>(Some(user))
        };
        // Collected, because the compiler cannot prove that a stream of borrowing futures is Send.
        let looks: Vec<_> = users.iter().cloned().map(look).collect();
        let full: Vec<Option<UserId>> = stream::iter(looks).buffer_unordered(MAX_COUNTS).try_collect().await?;
        Ok(full.into_iter().flatten().collect())
    }
}

fn read_draft(item: &Item) -> Result<Draft> {
    let done = match item.get("done") {
        None => BTreeSet::new(),
        Some(value) => {
            let numbers = value.as_ns().map_err(|_| item::corrupt("done"))?;
            item::parsed("done", numbers.iter().map(|number| number.parse()).collect())?
        }
    };
    let count = |name: &str| item::parsed(name, u32::try_from(item::read_optional_number(item, name)?.unwrap_or(0)));
    Ok(Draft {
        name: item::read_text(item, "groupName")?.to_owned(),
        manager: item::parsed("managerId", UserId::parse(item::read_text(item, "managerId")?))?,
        parts: count("parts")?,
        asked: count("asked")?,
        is_in_call: item.contains_key("inCall"),
        done,
        members: count("memberCount")?,
        is_abandoned: item.contains_key("abandoned"),
        digest: item::read_text(item, "digest")?.to_owned(),
    })
}
