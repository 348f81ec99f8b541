//! Erases a user, in jobs of some seconds, without a scan.
//!
//! First come the groups: what the user wrote there is recalled, then the user leaves. Then the friends: what the user wrote to
//! them is recalled, then both sides of the relation are deleted. Then the blocks, and the rest of the user's partition. Each
//! step deletes last what led to it, so an unfinished job is repeated without harm.
//!
//! Functions that were under way, and reads that are eventually consistent, may leave something behind. So a second pass
//! follows when no repeat of a send can come any more. It reads the newest part of the same conversations again.

use futures::{StreamExt, TryStreamExt, stream};
use shared::clock::Ms;
use shared::frame::{Address, Body, GroupChanged, GroupEvent, Message};
use shared::id::{GroupId, MessageId, UserId};
use shared::table::{ErasureMark, Membership, Place, Reading, Stored};
use shared::{Error, Result};

use super::job::{Erasure, Job};
use super::recall::entry;
use super::{group_changes, kick};
use crate::App;

/// How long a job works before another one goes on, in milliseconds.
const WORK_MS: Ms = 7_000;

/// How many seconds after the first pass the second one begins: a repeated send keeps its id for ten minutes.
const SECOND_PASS_SECONDS: i32 = 11 * 60;

/// How far before the beginning of the erasure the second pass reads.
const LATE_MS: Ms = 12 * 60 * 1_000;

/// How many messages one query returns, and how many are recalled at the same time.
const MESSAGES: i32 = 200;
const MAX_IN_FLIGHT: usize = 8;

/// How often a group is left again because it changes.
const MAX_ATTEMPTS: u32 = 5;

/// Begins to erase a user: bans them, closes their connections, and leaves the rest to jobs.
///
/// # Errors
/// [`Error::Unavailable`]. A repeat of the call begins again.
pub(crate) async fn begin(app: &App, user: &UserId, farewell: &str, banned_until: Ms) -> Result<()> {
    let queue = app.queue.as_ref().ok_or_else(|| Error::unavailable("erasing a user", "there is no queue"))?;
    app.table.begin_erasure(user, banned_until).await?;
    app.table.ban(user, Some(banned_until)).await?;
    queue.send(&[first_job(user)]).await?;
    kick::kick(app, user, Some(farewell)).await
}

fn first_job(user: &UserId) -> String {
    Job::Erasure(Erasure { user: user.clone(), is_last: false, position: None }).encode()
}

/// Runs a job, and queues the next one.
pub(crate) async fn run(app: &App, job: &Erasure) -> Result<()> {
    let Some(mark) = app.table.erasure_of(&job.user).await? else { return Ok(()) };
    let position = job.position.clone();
    let mut step = Step { app, job, mark, position, ends: app.clock.now_ms() + WORK_MS };
    let is_done = step.pass().await?;
    let queue = app.queue.as_ref().ok_or_else(|| Error::unavailable("erasing a user", "there is no queue"))?;
    let next = |is_last, position| Job::Erasure(Erasure { user: job.user.clone(), is_last, position }).encode();
    match (is_done, job.is_last) {
        (false, is_last) => queue.send(&[next(is_last, step.position)]).await,
        (true, false) => queue.send_later(&[next(true, None)], SECOND_PASS_SECONDS).await,
        (true, true) => {
            app.table.end_erasure(&job.user).await?;
            tracing::info!("a user is erased");
            Ok(())
        }
    }
}

/// The work of one job.
struct Step<'a> {
    app: &'a App,
    job: &'a Erasure,
    mark: ErasureMark,
    /// The log that is being read, and how far it is done.
    position: Option<(String, MessageId)>,
    /// When the job stops.
    ends: Ms,
}

impl Step<'_> {
    fn user(&self) -> &UserId {
        &self.job.user
    }

    fn is_over(&self) -> bool {
        self.app.clock.now_ms() >= self.ends
    }

    /// Erases what is there, until it is time to stop. Returns whether nothing is left.
    async fn pass(&mut self) -> Result<bool> {
        let table = &self.app.table;
        // Again in the second pass: a large group may have been made in between.
        while let Some((group, membership)) = self.next_group().await? {
            if self.is_over() || !self.erase_group(&group, membership).await? {
                return Ok(false);
            }
        }
        while let Some(friend) = table.friends_after(self.user(), None, 1).await?.pop() {
            if self.is_over() || !self.erase_friend(&friend).await? {
                return Ok(false);
            }
        }
        if self.job.is_last {
            while let Some(with) = table.next_erased(self.user()).await? {
                let from = self.mark.begun.saturating_sub(LATE_MS);
                if self.is_over() || !self.recall_all(&with, from).await? {
                    return Ok(false);
                }
                table.forget_erased(self.user(), &with).await?;
            }
        }
        while !table.erase_blocks(self.user()).await? {
            if self.is_over() {
                return Ok(false);
            }
        }
        let mut after = None;
        loop {
            after = table.erase_page(self.user(), after).await?;
            match after {
                None => break,
                Some(_) if self.is_over() => return Ok(false),
                Some(_) => {}
            }
        }
        table.bury(self.user(), self.mark.banned_until).await?;
        Ok(true)
    }

    /// Returns a group of the user. One that jobs are making is left to the second pass.
    async fn next_group(&self) -> Result<Option<(GroupId, Membership)>> {
        let now = self.app.clock.now_ms();
        let joined = self.app.table.joined_groups(self.user()).await?;
        let is_made = |membership: &Membership| membership.kept_until.is_none_or(|time| time < now);
        let mut being_made = Vec::new();
        for (group, membership) in joined {
            if is_made(&membership) {
                return Ok(Some((group, membership)));
            }
            being_made.push((group, membership));
        }
        let ids: Vec<GroupId> = being_made.iter().map(|(group, _)| group.clone()).collect();
        let existing = self.app.table.existing_groups(&ids).await?;
        let is_next = |(group, _): &(GroupId, Membership)| self.job.is_last || existing.contains_key(group);
        Ok(being_made.into_iter().find(is_next))
    }

    /// Recalls what the user wrote in a group, and leaves it. Returns false if the time is over before that.
    async fn erase_group(&mut self, group: &GroupId, membership: Membership) -> Result<bool> {
        let with = Address::Group(group.clone());
        if !self.recall_all(&with, self.app.table.oldest()).await? {
            return Ok(false);
        }
        self.app.table.remember_erased(self.user(), &with).await?;
        self.leave(group, membership).await?;
        Ok(true)
    }

    /// Leaves a group. A managed group goes to its oldest member, and is dissolved if there is none.
    async fn leave(&self, group: &GroupId, membership: Membership) -> Result<()> {
        let (table, user) = (&self.app.table, self.user());
        let mut seen = Some(membership);
        for attempt in 0..MAX_ATTEMPTS {
            let Some(membership) = seen else { return Ok(()) };
            let existing = table.existing_groups(std::slice::from_ref(group)).await?;
            let Some(meta) = existing.get(group) else {
                return table.forget_groups(user, &[(group.clone(), membership)]).await;
            };
            if meta.manager == *user {
                self.give_away(group, meta.last_shard).await?;
            } else if table.remove_member(group, user, membership, None).await? {
                let event = GroupEvent::Left;
                let changed = GroupChanged { group_id: group, event, user_id: Some(user), name: None };
                group_changes::announce(self.app, &changed, meta.members, &[]).await;
                return Ok(());
            } else {
                table.pause(attempt).await;
            }
            seen = table.memberships(group, &[user]).await?.map_or(seen, |(_, joined)| joined[0]);
        }
        Err(Error::unavailable("leaving a group", "its membership keeps changing"))
    }

    /// Hands a group to its oldest member, or dissolves it. If somebody joins or leaves meanwhile, nothing happens.
    async fn give_away(&self, group: &GroupId, last_shard: u32) -> Result<()> {
        let (table, user) = (&self.app.table, self.user());
        let Some(roster) = table.roster(group).await? else { return Ok(()) };
        let (members, last) = (roster.meta.members, roster.meta.last_shard.max(last_shard));
        let others = roster.shards.into_iter().flatten().filter(|member| member.user != *user);
        if let Some(oldest) = others.min_by(|one, two| (one.joined, &one.user).cmp(&(two.joined, &two.user))) {
            if table.hand_over(group, user, &oldest.user).await? {
                let (event, user_id) = (GroupEvent::Manager, Some(&oldest.user));
                let changed = GroupChanged { group_id: group, event, user_id, name: None };
                group_changes::announce(self.app, &changed, members, &[&oldest.user]).await;
            }
            return Ok(());
        }
        if table.dissolve(group, user, last).await? {
            for shard in 0..=last {
                table.clear_shard(group, shard).await?;
            }
        }
        Ok(())
    }

    /// Recalls what the user wrote to a friend, and ends the friendship. Returns false if the time is over before that.
    async fn erase_friend(&mut self, friend: &UserId) -> Result<bool> {
        let with = Address::User(friend.clone());
        if !self.recall_all(&with, self.app.table.oldest()).await? {
            return Ok(false);
        }
        self.app.table.remember_erased(self.user(), &with).await?;
        self.app.table.erase_friend(self.user(), friend).await?;
        Ok(true)
    }

    /// Recalls what the user wrote in a conversation from that time on. Returns false if the time is over before that.
    async fn recall_all(&mut self, with: &Address, from: Ms) -> Result<bool> {
        let name = match with {
            Address::User(user) => format!("u#{user}"),
            Address::Group(group) => format!("g#{group}"),
        };
        let begun = self.position.take().filter(|(of, _)| *of == name).map(|(_, id)| id.next());
        let from = begun.unwrap_or(MessageId::first_at(from));
        let reading = Reading { from, to: MessageId::last_at(u64::MAX), newest_first: false };
        let mut rest = None;
        loop {
            let part = match with {
                Address::User(other) => {
                    self.app.table.read_private(self.user(), other, reading, MESSAGES, rest).await?
                }
                Address::Group(group) => self.app.table.read_group(group, reading, MESSAGES, rest).await?,
            };
            let own = part.entries.iter().filter(|stored| self.is_to_recall(&stored.entry));
            let recalls: Vec<_> = own.map(|stored| recall(self.app, stored)).collect();
            stream::iter(recalls).buffer_unordered(MAX_IN_FLIGHT).try_collect::<()>().await?;
            match (part.rest, part.position) {
                (None, _) => return Ok(true),
                (Some(_), Some(position)) if self.is_over() => {
                    self.position = Some((name, position));
                    return Ok(false);
                }
                (next, _) => rest = next,
            }
        }
    }

    fn is_to_recall(&self, message: &Message) -> bool {
        message.sender == *self.user() && matches!(message.body, Body::Content(_))
    }
}

/// Takes the content out of one copy of a message, after the entry that tells it.
async fn recall(app: &App, stored: &Stored) -> Result<()> {
    let place = if stored.is_hidden { Place::Hidden } else { Place::Log };
    let (entry, at) = entry(app, &stored.entry);
    app.table.write_message(&entry, place).await?;
    app.table.recall(&stored.entry.to, stored.entry.id, place, at).await
}
