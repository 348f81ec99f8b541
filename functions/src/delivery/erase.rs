//! Erases a user, in jobs of some seconds, without a scan.
//!
//! First come the groups: what the user wrote there is recalled, then the user leaves. Then the friends: what the user wrote to
//! them is recalled, then both sides of the relation are deleted. Then the blocks, and the rest of the user's partition. Each
//! step deletes last the item by which it found the conversation. So an unfinished job can be repeated.
//!
//! Functions that were under way, and reads that are eventually consistent, may leave something behind. So a second pass
//! follows when no repeat of a send can come any more. It reads the newest part of the same conversations again.

use futures::{StreamExt, TryStreamExt, stream};
use shared::clock::Ms;
use shared::frame::{Address, Body, GroupChanged, GroupEvent, Message, encode};
use shared::id::{ConnectionId, GroupId, MessageId, UserId};
use shared::table::{ErasureMark, Membership, Place, Reading, Stored};
use shared::{Error, Result};

use super::job::{Erasure, Job};
use super::push::{self, Handling};
use super::recall::entry;
use super::{events, group_changes, kick, make};
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

/// How often leaving a group is tried while the membership changes.
const MAX_ATTEMPTS: u32 = 5;

/// Begins to erase a user: bans them, closes their connections, and leaves the rest to jobs.
///
/// # Errors
/// [`Error::Unavailable`]. A repeat of the call begins again.
pub(crate) async fn begin(app: &App, user: &UserId, farewell: &str, banned_until: Ms) -> Result<()> {
    let queue = app.queue.as_ref().ok_or_else(|| Error::unavailable("erasing a user", "there is no queue"))?;
    let begun = app.clock.now_ms();
    app.table.begin_erasure(user, begun, banned_until).await?;
    app.table.ban(user, Some(banned_until)).await?;
    queue.send(&[Job::Erasure(Erasure { user: user.clone(), begun, is_last: false, position: None }).encode()]).await?;
    kick::kick(app, user, Some(farewell)).await
}

/// Runs a job, and queues the next one. A job of an erasure that is over, or was begun again, does nothing: the user may have
/// come back.
pub(crate) async fn run(app: &App, job: &Erasure) -> Result<()> {
    let is_current = |mark: &ErasureMark| mark.is_under_way && mark.begun == job.begun;
    let Some(mark) = app.table.erasure_of(&job.user).await?.filter(is_current) else { return Ok(()) };
    let position = job.position.clone();
    let mut step = Step { app, job, mark, position, ends: app.clock.now_ms() + WORK_MS };
    let done = step.pass().await?;
    let queue = app.queue.as_ref().ok_or_else(|| Error::unavailable("erasing a user", "there is no queue"))?;
    let (user, begun) = (job.user.clone(), job.begun);
    let next = |is_last, position| Job::Erasure(Erasure { user, begun, is_last, position }).encode();
    match (done, job.is_last) {
        (Done::InPart, is_last) => queue.send(&[next(is_last, step.position)]).await,
        // A group that is being made is there, or abandoned, some time.
        (Done::ButGroups, _) | (Done::All, false) => queue.send_later(&[next(true, None)], SECOND_PASS_SECONDS).await,
        (Done::All, true) => {
            app.table.end_erasure(&job.user, job.begun).await?;
            tracing::info!("a user is erased");
            Ok(())
        }
    }
}

/// How far a pass has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Something is left.
    InPart,
    /// Only memberships of groups that are being made are left.
    ButGroups,
    All,
}

/// The next group that a user is in.
enum Next {
    Group(GroupId, Membership),
    /// All that are left are being made.
    BeingMade,
    None,
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

    /// Erases what is there, until it is time to stop.
    async fn pass(&mut self) -> Result<Done> {
        let table = &self.app.table;
        // Again in the second pass: a large group may have been made in between.
        let is_in_draft = loop {
            match self.next_group().await? {
                Next::None => break false,
                Next::BeingMade => break true,
                Next::Group(group, membership) => {
                    if self.is_over() || !self.erase_group(&group, membership).await? {
                        return Ok(Done::InPart);
                    }
                }
            }
        };
        while let Some(friend) = table.friends_after(self.user(), None, 1).await?.pop() {
            if self.is_over() || !self.erase_friend(&friend).await? {
                return Ok(Done::InPart);
            }
        }
        if self.job.is_last {
            while let Some(with) = table.next_erased(self.user()).await? {
                let from = self.mark.begun.saturating_sub(LATE_MS);
                if self.is_over() || !self.recall_all(&with, from).await? {
                    return Ok(Done::InPart);
                }
                table.forget_erased(self.user(), &with).await?;
            }
        }
        while !table.erase_blocks(self.user()).await? {
            if self.is_over() {
                return Ok(Done::InPart);
            }
        }
        let mut after = None;
        loop {
            after = table.erase_page(self.user(), after).await?;
            match after {
                None => break,
                Some(_) if self.is_over() => return Ok(Done::InPart),
                Some(_) => {}
            }
        }
        table.bury(self.user(), self.mark.banned_until).await?;
        Ok(if is_in_draft { Done::ButGroups } else { Done::All })
    }

    /// Returns a group of the user. One that is being made is abandoned if the user is its manager, and left for later
    /// otherwise. If it is still being made by a call in the second pass, that call was killed.
    async fn next_group(&self) -> Result<Next> {
        let mut next = Next::None;
        for (group, membership) in self.app.table.joined_groups(self.user()).await? {
            let draft = match membership.kept_until {
                Some(_) => make::pending_draft(self.app, &group).await?,
                None => None,
            };
            match draft {
                None => return Ok(Next::Group(group, membership)),
                Some(draft) if draft.manager == *self.user() => {
                    make::abandon(self.app, &group).await?;
                    return Ok(Next::Group(group, membership));
                }
                Some(draft) if draft.is_in_call && self.job.is_last => return Ok(Next::Group(group, membership)),
                Some(_) => next = Next::BeingMade,
            }
        }
        Ok(next)
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
            let event = GroupEvent::Dissolved;
            events::put_changed(self.app, &GroupChanged { group_id: group, event, user_id: None, name: None }).await;
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
            let recalled: Vec<Option<Message>> =
                stream::iter(recalls).buffer_unordered(MAX_IN_FLIGHT).try_collect().await?;
            let recalled: Vec<Message> = recalled.into_iter().flatten().collect();
            push::for_at_most(self.app, push::GROUP_MS, self.tell(with, &recalled)).await;
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

    /// Tells the connections of version 2 of a friend, or of the members of a small group, which messages are recalled. Others
    /// learn it from histories, and by `since`.
    async fn tell(&self, with: &Address, recalled: &[Message]) {
        if recalled.is_empty() {
            return;
        }
        let users = self.audience(with).await.unwrap_or_else(|error| {
            self.app.report(&error);
            Vec::new()
        });
        let states = self.app.table.states(&users).await;
        let now = self.app.clock.now_ms();
        let open = states.values().flatten().flat_map(|state| state.open_of_version_2(now));
        let connections: Vec<&ConnectionId> = open.collect();
        for entry in recalled {
            push::signal(self.app, &connections, &encode(entry), Handling::Deliver).await;
        }
    }

    /// Returns the users who are told at once, without those who block the user.
    async fn audience(&self, with: &Address) -> Result<Vec<UserId>> {
        let table = &self.app.table;
        let (blockers, users) = match with {
            Address::User(friend) => (table.blockers(self.user()).await?, vec![friend.clone()]),
            Address::Group(group) => {
                let (blockers, groups) = futures::try_join!(
                    table.blockers(self.user()),
                    table.existing_groups(std::slice::from_ref(group))
                )?;
                // The roster of a large group is not read for each page of its log.
                let roster = match groups.get(group) {
                    Some(meta) => group_changes::audience(self.app, group, meta.members).await?,
                    None => None,
                };
                let shards = roster.into_iter().flat_map(|roster| roster.shards);
                (blockers, shards.flatten().map(|member| member.user).collect())
            }
        };
        Ok(users.into_iter().filter(|user| !blockers.contains(user) && user != self.user()).collect())
    }

    fn is_to_recall(&self, message: &Message) -> bool {
        message.sender == *self.user() && matches!(message.body, Body::Content(_))
    }
}

/// Takes the content out of one copy of a message, after the entry that tells it. Returns the entry, unless the message is
/// withheld from its receiver.
async fn recall(app: &App, stored: &Stored) -> Result<Option<Message>> {
    let place = if stored.is_hidden { Place::Hidden } else { Place::Log };
    let (entry, at) = entry(app, &stored.entry);
    app.table.write_message(&entry, place).await?;
    app.table.recall(&stored.entry.to, stored.entry.id, place, at).await?;
    Ok((!stored.is_hidden).then_some(entry))
}
