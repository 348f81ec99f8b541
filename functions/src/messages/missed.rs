//! Finds one page of the messages that a user missed, oldest first: those of the logs that no connection took, and
//! those missed by name.
//!
//! A call reads a bounded amount, despite messages in the logs that are not for the user. Each log gets one query.
//! Beyond that, a limited number of bytes may be read in vain. A page that ends at this limit may be short or empty.
//! The drop, or the caller, remembers the position.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use shared::Result;
use shared::clock::Ms;
use shared::frame::{Address, Message};
use shared::id::{GroupId, MessageId, UserId};
use shared::rules::dropped::{Dropped, Shown, limit};
use shared::rules::gaps::Taken;
use shared::rules::page::Page;
use shared::rules::timing::MARGIN_MS;
use shared::table::{DropPlan, Held, Membership, MessageKind, MissedRef, ShownPage, State, Tails, View};

use super::cursor::Cursor;
use super::reader::{Budget, LONGEST_BYTES, MESSAGES_PER_QUERY, READ_BYTES, Reader, Request};
use crate::App;
use crate::delivery::gate::require_no_ban;

/// A pull that drops nothing writes only if it can forget at least this many connections.
const WORTH_FORGETTING: usize = 16;

/// The most memberships of dissolved groups that a pull deletes.
const MAX_FORGOTTEN: usize = 16;

/// The highest number of logs that are read at once.
const MAX_IN_FLIGHT: usize = 16;

/// How often the state and the view are read if drops come in between.
const MAX_READS: usize = 3;

/// One page, and what a drop of it needs.
#[derive(Debug)]
pub(crate) struct Found {
    /// The messages, oldest first.
    pub(crate) messages: Vec<Message>,
    /// The message after which the next page begins, if there is more. Everything up to it has been read.
    pub(crate) next: Option<MessageId>,
    /// Whether the next pull must read everything that is not dropped, since the last page could not do it.
    forgets: bool,
    /// When the reading began.
    end: Ms,
    /// The messages of the page that were missed by name.
    named: Vec<MissedRef>,
    /// The kinds of which the page says nothing before where it went on.
    resumed: BTreeMap<MessageKind, MessageId>,
    state: State,
    /// Names of messages that no longer belong to the user, or no longer exist.
    void: Vec<MissedRef>,
    /// Missed messages that are left out because of a block that began later.
    held: Vec<Held>,
    /// For each kind, the first message of a log that is left for the next page, or the position where its reading
    /// ended.
    left: BTreeMap<MessageKind, MessageId>,
    /// For each kind, the missed messages of the millisecond of `after`, up to and including `after`.
    beside: BTreeMap<MessageKind, BTreeSet<MessageId>>,
}

/// Reads a page. With `drops` it returns everything that it found, even if another log was not read as far.
pub(crate) async fn find(app: &App, user: &UserId, request: &Request, drops: bool, budget: &Budget) -> Result<Found> {
    let end = app.clock.now_ms();
    let (state, view) = state_and_view(app, user, &request.kinds).await?;
    require_no_ban(app, &state)?;
    let floor = end.saturating_sub(MARGIN_MS);
    let taken = match request.all {
        true => Taken::default(),
        false => Taken::of(state.connections.values(), app.redeliver_ms, end),
    };
    let resumed = match drops && state.has_room_in_tails(&request.kinds, app.max_page_messages) {
        true => request.kinds.iter().filter_map(|kind| Some((*kind, state.dropped(*kind).goes_on_at(end)?))).collect(),
        false => BTreeMap::new(),
    };
    let mut reader = Reader { app, user, request, state: &state, view: &view, taken, resumed, end, floor, budget };
    let (mut cursors, mut void) = cursors(&reader);
    let (mut page, mut forgets) = (merge(&reader, &mut cursors, drops).await?, false);
    if page.next.is_none() && !reader.resumed.is_empty() {
        // The last page reads again what lies before it. If the limit of bytes does not suffice, the next pull does. A page
        // that said that there is more would never be the last while others write as much as this.
        let resumed = std::mem::take(&mut reader.resumed);
        let (mut again, void_again) = self::cursors(&reader);
        let whole = merge(&reader, &mut again, drops).await?;
        if whole.exhausted {
            (forgets, reader.resumed) = (true, resumed);
        } else {
            (page, cursors, void) = (whole, again, void_again);
        }
    }
    clear_away(&reader, &cursors).await?;
    let mut beside: BTreeMap<MessageKind, BTreeSet<MessageId>> = BTreeMap::new();
    for cursor in &cursors {
        if let (Some(kind), Some(ids)) = (cursor.kind(), cursor.beside()) {
            beside.entry(kind).or_default().extend(ids);
        }
    }
    let held = cursors.iter_mut().flat_map(|cursor| std::mem::take(&mut cursor.held)).collect();
    void.extend(cursors.into_iter().flat_map(|cursor| cursor.void));
    let (resumed, Merged { messages, next, named, left, .. }) = (reader.resumed, page);
    Ok(Found { messages, next, forgets, end, named, resumed, void, held, left, beside, state })
}

/// Returns a cursor for each log, one for the names, and the names of messages that no longer belong to the user.
fn cursors(reader: &Reader<'_>) -> (Vec<Cursor>, Vec<MissedRef>) {
    let mut logs = Vec::new();
    if reader.request.kinds.contains(&MessageKind::Unicast) {
        logs.push((Address::User(reader.user.clone()), 0));
    }
    logs.extend(
        reader.view.groups.iter().map(|(group, membership)| (Address::Group(group.clone()), membership.joined)),
    );
    // At least two, so that one query also finds the end of a log with one message.
    let first = (READ_BYTES / LONGEST_BYTES / logs.len().max(1)).clamp(2, MESSAGES_PER_QUERY);
    let mut cursors: Vec<Cursor> =
        logs.into_iter().map(|(log, from)| Cursor::of_log(reader.spans(&log, from), log, first)).collect();
    let (names, void) = reader.names();
    cursors.push(Cursor::of_names(names));
    (cursors, void)
}

/// Returns the state with its tails, and the view of the logs of these kinds.
pub(crate) async fn state_and_view(app: &App, user: &UserId, kinds: &[MessageKind]) -> Result<(State, View)> {
    for read in 1.. {
        let (mut state, mut view) = futures::try_join!(app.table.state(user), app.table.view(user))?;
        if !kinds.contains(&MessageKind::Multicast) {
            view.groups.clear();
        }
        let named = |tails: &&Tails| Some(&tails.mark) == state.tail.as_ref();
        let tails = view.tails.iter().find(named).cloned();
        if tails.is_none() && read >= MAX_READS {
            // The item has expired, with all its tails. If drops did come in between, the next drop starts again.
            state.tail = None;
        }
        if state.tail.is_none() || tails.is_some() {
            state.set_tails(tails.unwrap_or_default());
            return Ok((state, view));
        }
        // A drop came in between and wrote other tails.
    }
    unreachable!("the last read is answered with whatever it found")
}

/// Deletes memberships that dissolutions left behind, and tails that the state does not name, if the reading found
/// them. Recent ones stay: two reads may see only half of a change that is under way.
async fn clear_away(reader: &Reader<'_>, cursors: &[Cursor]) -> Result<()> {
    let is_old = |(_, membership): &(GroupId, Membership)| {
        membership.joined < reader.floor && membership.kept_until.is_none_or(|time| time < reader.end)
    };
    let dissolved = cursors.iter().filter_map(Cursor::dissolved).filter_map(|group| {
        let membership = reader.view.groups.get(group)?;
        Some((group.clone(), *membership)).filter(is_old)
    });
    let some: Vec<_> = dissolved.take(MAX_FORGOTTEN).collect();
    reader.app.table.forget_groups(reader.user, &some).await?;
    let is_over = |tails: &&Tails| {
        let is_old = MessageId::parse(&tails.mark).is_ok_and(|mark| mark.time_ms() < reader.floor);
        is_old && Some(&tails.mark) != reader.state.tail.as_ref()
    };
    let over: Vec<String> = reader.view.tails.iter().filter(is_over).map(|tails| tails.mark.clone()).collect();
    reader.app.table.delete_tails(reader.user, &over).await
}

#[derive(Default)]
struct Merged {
    messages: Vec<Message>,
    next: Option<MessageId>,
    /// Whether the limit of bytes ended the reading before the page was full.
    exhausted: bool,
    named: Vec<MissedRef>,
    left: BTreeMap<MessageKind, MessageId>,
}

/// Merges the cursors in the order of ids until the page is full, nothing is left, or the limit of bytes is reached.
async fn merge(reader: &Reader<'_>, cursors: &mut [Cursor], drops: bool) -> Result<Merged> {
    let (mut page, mut merged, mut seen) = (Page::of(reader.app.max_page_messages), Merged::default(), BTreeSet::new());
    let mut last = None;
    loop {
        let empty: Vec<_> =
            cursors.iter_mut().filter(|cursor| cursor.buffer.is_empty()).map(|c| c.fill(reader)).collect();
        stream::iter(empty).buffer_unordered(MAX_IN_FLIGHT).try_collect::<()>().await?;
        // A log that is not read to its end may have a message that comes before all those in the buffers.
        let known = cursors.iter().filter(|c| c.buffer.is_empty() && c.is_unfinished()).map(Cursor::position).min();
        let is_in_order = |id: MessageId| drops || known.is_none_or(|known| id <= known);
        let first = cursors.iter_mut().filter(|c| c.head().is_some_and(is_in_order)).min_by_key(|c| c.head());
        let Some((cursor, message)) = first.and_then(|c| c.buffer.pop_front().map(|message| (c, message))) else {
            (merged.next, merged.exhausted) = (known, known.is_some());
            break;
        };
        let id = message.id;
        if cursor.is_of_names() {
            merged.named.push(MissedRef::new(&message.to, id));
        }
        if !seen.insert(id) {
            continue;
        }
        if let Err(message) = page.add(message) {
            if cursor.is_of_names() {
                merged.named.pop();
            }
            cursor.buffer.push_front(*message);
            merged.next = last;
            break;
        }
        last = Some(id);
    }
    for cursor in cursors.iter().filter(|cursor| !cursor.is_of_names()) {
        let unread = || cursor.is_unfinished().then(|| cursor.position());
        if let (Some(kind), Some(id)) = (cursor.kind(), cursor.head().or_else(unread)) {
            let left = merged.left.entry(kind).or_insert(id);
            *left = id.min(*left);
        }
    }
    merged.messages = page.into_messages();
    Ok(merged)
}

impl Found {
    /// Returns whether there is more after this page.
    pub(crate) fn has_more(&self) -> bool {
        self.next.is_some()
    }

    /// Returns what this page shows, for a later drop.
    pub(crate) fn shown(&self, request: &Request) -> ShownPage {
        let shown = |kind: MessageKind| Shown {
            after: request.after,
            beside: Some(self.beside.get(&kind).cloned().unwrap_or_default()),
            floor: self.limit(kind),
            ids: self.returned(kind).collect(),
        };
        let names = self.messages.iter().map(|message| MissedRef::new(&message.to, message.id));
        let names: BTreeSet<_> =
            names.filter(|name| self.state.is_named(name)).chain(self.void.iter().cloned()).collect();
        let is_passed =
            |held: &&Held| held.name.id.time_ms() <= self.limit(held.name.kind()) || names.contains(&held.name);
        ShownPage {
            kinds: request.kinds.iter().map(|kind| (*kind, shown(*kind))).collect(),
            held: self.held.iter().filter(is_passed).cloned().collect(),
            names,
            uncovers: self.state.uncovers,
        }
    }

    /// Returns the plan of a pull that drops nothing: it records that nothing was missed before the first message
    /// found. Without it, all connections of a user who never drops would have to be remembered. Returns `None` if it
    /// would forget too few connections.
    pub(crate) fn idle_plan(&self, app: &App, request: &Request) -> Option<DropPlan> {
        if request.after.is_some() {
            return None;
        }
        let advanced = |kind: MessageKind| {
            let first = self.returned(kind).next().into_iter().chain(self.left.get(&kind).copied()).min();
            (kind, self.state.dropped(kind).advanced(limit(self.end, first), []))
        };
        let dropped = request.kinds.iter().map(|kind| advanced(*kind)).collect();
        plan(app, &self.state, dropped, BTreeSet::new(), &self.held, false)
            .filter(|plan| plan.forgotten.len() >= WORTH_FORGETTING)
    }

    /// Returns the plan of a pull that drops this page, or `None` if nothing would change.
    pub(crate) fn drop_plan(&self, app: &App, kinds: &[MessageKind]) -> Option<DropPlan> {
        let dropped = |kind: MessageKind| {
            let (before, returned) = (self.state.dropped(kind), self.returned(kind));
            let after = match self.resumed.contains_key(&kind) {
                true => before.continued(returned),
                false => before.advanced(self.limit(kind), returned),
            };
            // Of a kind that was read to its end, only a tail is worth not being read again.
            let after_all = || (!after.tail.ids.is_empty()).then(|| MessageId::first_at(self.end));
            match self.left.get(&kind).copied().or_else(after_all).filter(|_| self.has_more()) {
                Some(next) => after.going_on_at(next),
                None => after,
            }
        };
        let dropped = kinds.iter().map(|kind| (*kind, dropped(*kind))).collect();
        let named = self.named.iter().chain(&self.void).cloned().collect();
        let changes = self.has_more() || self.forgets || !self.messages.is_empty();
        plan(app, &self.state, dropped, named, &self.held, changes)
    }

    /// Returns the messages of a kind on this page.
    fn returned(&self, kind: MessageKind) -> impl Iterator<Item = MessageId> {
        self.messages.iter().filter(move |message| MessageKind::of(&message.to) == kind).map(|message| message.id)
    }

    /// Returns the time up to which everything of a kind is on this page or before it.
    fn limit(&self, kind: MessageKind) -> Ms {
        limit(self.end, self.left.get(&kind).copied())
    }
}

/// Returns the write that sets what is dropped to `dropped`, or `None` if nothing would change. It also forgets the
/// connections that are no longer needed. Of the messages that a block hides, it holds those that it would lose.
pub(crate) fn plan(
    app: &App,
    state: &State,
    dropped: Vec<(MessageKind, Dropped)>,
    no_longer_missed: BTreeSet<MissedRef>,
    hidden: &[Held],
    changes: bool,
) -> Option<DropPlan> {
    let mut after = state.clone();
    for (kind, dropped) in &dropped {
        match kind {
            MessageKind::Unicast => after.unicast = dropped.clone(),
            MessageKind::Multicast => after.multicast = dropped.clone(),
        }
    }
    let (now, oldest) = (app.clock.now_ms(), app.table.oldest());
    // Surplus connections are left to the next handshake: to forget them uncovers times of pages that were shown.
    let forgotten = after.forgettable(now, oldest).silent;
    let is_lost = |held: &&Held| {
        let (id, kind) = (held.name.id, held.name.kind());
        let is_passed = || !state.dropped(kind).contains(id) && after.dropped(kind).contains(id);
        (state.missed.contains(&held.name) && no_longer_missed.contains(&held.name)) || is_passed()
    };
    let held = state.held_after(&no_longer_missed, hidden.iter().filter(is_lost).cloned());
    let changes = changes || held != state.held || !no_longer_missed.is_empty() || !forgotten.is_empty();
    let mark = app.ids.message(now).to_string();
    let is_as_before =
        after.unicast.tail == state.unicast.tail && after.multicast.tail == state.multicast.tail && held == state.held;
    changes.then(|| DropPlan {
        version: state.version,
        until: dropped.iter().map(|(kind, dropped)| (*kind, dropped.until)).collect(),
        tails: (!is_as_before).then(|| Tails {
            mark: mark.clone(),
            unicast: after.unicast.tail.clone(),
            multicast: after.multicast.tail.clone(),
            held,
        }),
        old_tail: state.tail.clone(),
        no_longer_missed,
        forgotten,
        marks_before: state.marks.clone(),
        mark,
    })
}
