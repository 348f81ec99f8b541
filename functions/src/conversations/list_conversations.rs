//! `GET /api/conversation[?after=]`: lists the caller's friends and groups, with the last message and the number of unread
//! messages of each, up to 100 in the order of their ids.
//!
//! 200: an array of `{type, userId | groupId, name?, last?, unread, unreadMore?, readUntil?, peerReadUntil?}`. The header
//! `X-Has-More` says whether there are more; `X-Next` goes into `after` then. 400: `after` is not an `X-Next`.
//!
//! The list is computed when it is asked for, so that a send writes nothing for it. Users whom the caller blocks are left out.
//! What a call reads is bounded, whatever others have filled the conversations with. Where it is not enough, `last` is missing,
//! or `unreadMore` says that there may be more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use shared::clock::Ms;
use shared::frame::{Address, Conversation, Message};
use shared::id::{GroupId, MessageId, UserId};
use shared::rules::history::Viewer;
use shared::table::{HistoryPart, Reading, Resume, Stored, View};
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Array, Reply};
use crate::call::rest::Call;
use crate::function::Function;

/// The highest number of conversations of one answer.
const MAX_CONVERSATIONS: usize = 100;

/// How many conversations are read at once.
const MAX_IN_FLIGHT: usize = 16;

/// The highest number of unread messages that is told.
const MAX_UNREAD: usize = 100;

/// The number of entries that one query asks for, after the first one for the last message.
const READ_LIMIT: i32 = 101;

/// How many bytes one call reads to find last messages and to count unread ones.
const READ_BYTES: usize = 8 * 1024 * 1024;

/// The bytes that an entry counts for besides its content.
const BESIDE_BYTES: usize = 256;

/// The function.
pub static FUNCTION: Function = Function::rest("list_conversations", "GET", "/api/conversation", &["after"], handle);

/// An element of the answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    with: Conversation<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Message>,
    unread: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unread_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_until: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_read_until: Option<MessageId>,
}

/// What is known of all conversations of one call.
struct Known<'a> {
    app: &'a App,
    user: &'a UserId,
    view: &'a View,
    /// When the view was read.
    until: Ms,
    read: BTreeMap<Address, MessageId>,
    peers_read: BTreeMap<UserId, MessageId>,
    /// How many bytes may still be read.
    budget: AtomicUsize,
}

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let after = call.input.parameter("after")?.map(|text| parse_next(&text)).transpose()?;
        let (user, until) = (&call.user, app.clock.now_ms());
        let limit = i32::try_from(MAX_CONVERSATIONS).unwrap_or(i32::MAX) + 1;
        let after_id = after.as_ref().map(|after| UserId::parse(id_of(after))).transpose();
        let after_id = after_id.map_err(|why| Error::field("after", why))?;
        let (view, friends) =
            futures::try_join!(app.table.view(user), app.table.friends_after(user, after_id.as_ref(), limit))?;
        let (page, has_more) = page(&view, friends, after.as_ref());
        let known = know(app, user, &view, &page, until).await?;
        let items = page.iter().map(|with| item(&known, with));
        let items = stream::iter(items.collect::<Vec<_>>()).buffered(MAX_IN_FLIGHT);
        let items: Vec<Option<Item<'_>>> = items.try_collect().await?;
        Ok(answer(&page, items, has_more))
    })
}

/// Puts items into an answer, as many as fit.
fn answer(page: &[Address], items: Vec<Option<Item<'_>>>, mut has_more: bool) -> Reply {
    let (mut array, mut last) = (Array::new(), None);
    for (with, item) in page.iter().zip(items) {
        if item.is_some_and(|item| !array.push(&item)) {
            has_more = true;
            break;
        }
        last = Some(with);
    }
    let reply = array.into_reply().with_header("x-has-more", if has_more { "true" } else { "false" });
    match last.filter(|_| has_more) {
        Some(last) => reply.with_header("x-next", next(last)),
        None => reply,
    }
}

/// Returns the conversations of a page in the order of their ids, and whether there are more. Two of the same id are sorted
/// by type.
fn page(view: &View, friends: Vec<UserId>, after: Option<&Address>) -> (Vec<Address>, bool) {
    let is_after = |one: &Address| after.is_none_or(|after| order(one) > order(after));
    let groups = view.groups.keys().cloned().map(Address::Group).filter(is_after);
    let mut all: Vec<Address> = friends.into_iter().map(Address::User).chain(groups).collect();
    all.sort_unstable_by(|one, other| order(one).cmp(&order(other)));
    let has_more = all.len() > MAX_CONVERSATIONS;
    all.truncate(MAX_CONVERSATIONS);
    (all, has_more)
}

fn order(with: &Address) -> (&str, bool) {
    (id_of(with), matches!(with, Address::Group(_)))
}

fn id_of(with: &Address) -> &str {
    match with {
        Address::User(user) => user.as_str(),
        Address::Group(group) => group.as_str(),
    }
}

/// Returns the `X-Next` of a page that ends with this conversation. It is opaque to clients.
fn next(last: &Address) -> String {
    match last {
        Address::User(user) => format!("u-{user}"),
        Address::Group(group) => format!("g-{group}"),
    }
}

fn parse_next(text: &str) -> Result<Address> {
    let parsed = match text.split_once('-') {
        Some(("u", id)) => UserId::parse(id).ok().map(Address::User),
        Some(("g", id)) => GroupId::parse(id).ok().map(Address::Group),
        _ => None,
    };
    parsed.ok_or_else(|| Error::field("after", "must be an X-Next of this call"))
}

/// Reads the marks of a page.
async fn know<'a>(app: &'a App, user: &'a UserId, view: &'a View, page: &[Address], until: Ms) -> Result<Known<'a>> {
    let (users, groups): (Vec<Address>, Vec<Address>) =
        page.iter().cloned().partition(|with| matches!(with, Address::User(_)));
    let peers: BTreeSet<UserId> = users.iter().filter_map(user_of).cloned().collect();
    let peers: Vec<UserId> = peers.into_iter().collect();
    let (of_users, of_groups, peers_read) = futures::try_join!(
        app.table.marks(user, &users),
        app.table.marks(user, &groups),
        app.table.told_marks(user, &peers),
    )?;
    let read = of_users.into_iter().chain(of_groups).collect();
    Ok(Known { app, user, view, until, read, peers_read, budget: AtomicUsize::new(READ_BYTES) })
}

fn user_of(with: &Address) -> Option<&UserId> {
    match with {
        Address::User(user) => Some(user),
        Address::Group(_) => None,
    }
}

/// Returns the element of a conversation. Returns nothing for a user whom the caller blocks, and for a dissolved group.
async fn item<'a>(known: &Known<'_>, with: &'a Address) -> Result<Option<Item<'a>>> {
    let blocks = &known.view.blocks;
    let (joined, r#type) = match with {
        Address::User(other) if blocks.get(other).is_some_and(|block| block.since.is_some()) => return Ok(None),
        Address::User(_) => (0, "unicast"),
        Address::Group(group) => match known.view.groups.get(group) {
            Some(membership) => (membership.joined, "multicast"),
            None => return Ok(None),
        },
    };
    let viewer = Viewer { user: known.user, blocks, joined, until: known.until };
    let from = MessageId::first_at(joined.max(known.app.table.oldest()));
    let whole = Reading { from, to: MessageId::last_at(u64::MAX), newest_first: true };
    let Some(Found { name, last, is_complete }) = last(known, with, &viewer, whole).await? else { return Ok(None) };
    let read_until = known.read.get(with).copied();
    let unread = Reading { from: read_until.map_or(from, |mark| mark.next().max(from)), newest_first: false, ..whole };
    let (unread, unread_more) = match &last {
        Some(last) if last.id < unread.from => (0, false),
        None if is_complete => (0, false),
        _ => count_unread(known, with, &viewer, unread).await?,
    };
    let peer_read_until = user_of(with).and_then(|other| known.peers_read.get(other).copied());
    let with = with.conversation();
    Ok(Some(Item { r#type, with, name, last, unread, unread_more, read_until, peer_read_until }))
}

/// The end of a conversation.
struct Found {
    /// The name of a group.
    name: Option<String>,
    /// The last message that the caller sees, if it was found.
    last: Option<Message>,
    /// Whether the whole conversation was searched, or `last` was found.
    is_complete: bool,
}

/// Finds the last message that the caller sees. Returns nothing if the group is dissolved.
async fn last(known: &Known<'_>, with: &Address, viewer: &Viewer<'_>, whole: Reading) -> Result<Option<Found>> {
    let table = &known.app.table;
    let (name, mut part) = match with {
        Address::User(other) => (None, table.read_private(known.user, other, whole, 1, None).await?),
        Address::Group(group) => match table.newest_of_group(group, whole.from, 1).await? {
            Some(page) => (Some(page.meta.name), page.part),
            None => return Ok(None),
        },
    };
    loop {
        known.spend(&part);
        let seen = part.entries.into_iter().find(|stored| viewer.sees(&stored.entry, stored.is_hidden));
        let is_complete = seen.is_some() || part.rest.is_none();
        let rest = part.rest.filter(|_| seen.is_none() && known.has_budget());
        let Some(rest) = rest else {
            return Ok(Some(Found { name, last: seen.map(|stored| stored.entry), is_complete }));
        };
        part = known.read(with, whole, Some(rest)).await?;
    }
}

/// Counts the unread messages of a conversation. Returns the number, and whether there may be more.
async fn count_unread(
    known: &Known<'_>,
    with: &Address,
    viewer: &Viewer<'_>,
    reading: Reading,
) -> Result<(usize, bool)> {
    let (mut counted, mut rest) = (BTreeSet::new(), None);
    while known.has_budget() {
        let part = known.read(with, reading, rest).await?;
        known.spend(&part);
        let is_counted =
            |stored: &&Stored| viewer.sees(&stored.entry, stored.is_hidden) && viewer.counts(&stored.entry);
        counted.extend(part.entries.iter().filter(is_counted).map(|stored| stored.entry.id));
        if counted.len() > MAX_UNREAD {
            return Ok((MAX_UNREAD, true));
        }
        rest = part.rest;
        if rest.is_none() {
            return Ok((counted.len(), false));
        }
    }
    Ok((counted.len(), true))
}

impl Known<'_> {
    /// Reads a part of a conversation.
    async fn read(&self, with: &Address, reading: Reading, rest: Option<Resume>) -> Result<HistoryPart> {
        let table = &self.app.table;
        match with {
            Address::User(other) => table.read_private(self.user, other, reading, READ_LIMIT, rest).await,
            Address::Group(group) => table.read_group(group, reading, READ_LIMIT, rest).await,
        }
    }

    fn has_budget(&self) -> bool {
        self.budget.load(Relaxed) > 0
    }

    /// Takes what was read from the budget.
    fn spend(&self, part: &HistoryPart) {
        let bytes: usize = part.entries.iter().map(|stored| stored.entry.content_bytes() + BESIDE_BYTES).sum();
        // A read of expired entries alone counts too.
        let bytes = bytes.max(BESIDE_BYTES);
        // The closure always returns a value, so this cannot fail.
        let _ = self.budget.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_next_is_read_as_it_was_written() {
        for with in [Address::User(UserId::parse("a-b").unwrap()), Address::Group(GroupId::parse("u-x").unwrap())] {
            assert_eq!(parse_next(&next(&with)).unwrap(), with);
        }
        for wrong in ["", "u", "u-", "x-a", "u-a b", "a"] {
            assert!(parse_next(wrong).is_err(), "{wrong}");
        }
    }
}
