//! What a user missed: the gaps between his connections, read from the logs that are his, and what was written down by
//! name. Oldest first, one page.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use shared::Result;
use shared::clock::Ms;
use shared::coverage::{MARGIN_MS, Span, coalesce, gaps, is_covered};
use shared::frame::{Address, Message};
use shared::id::{GroupId, MessageId, UserId};
use shared::page::{Dropped, Page};
use shared::table::{DropPlan, Kind, Membership, Missed, Offered, Resume, State, View};

use crate::App;

/// How many spans of one log are read by queries of their own; where there are more gaps, what lies between the
/// nearest is read over.
const MAX_SPANS: usize = 4;

/// How many ended connections make it worth a write to forget them.
const WORTH_FORGETTING: usize = 16;

/// How many logs are read at once.
const MAX_IN_FLIGHT: usize = 16;

/// How long ago a span may end behind which a group's log is read on to its META: a client connects and then pulls, and
/// what it got in between is little to read over.
const READ_ON_MS: Ms = 10_000;

/// How many messages one query asks for, and how many names one batch.
const MESSAGES_PER_QUERY: i32 = 250;
const NAMES_PER_BATCH: usize = 100;

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The kinds of messages.
    pub(crate) kinds: Vec<Kind>,
    /// Only messages behind this one.
    pub(crate) after: Option<MessageId>,
    /// Only messages up to this one.
    pub(crate) until: Option<MessageId>,
    /// Missed or not.
    pub(crate) all: bool,
}

/// One page, and what there is to know for dropping it.
#[derive(Debug)]
pub(crate) struct Found {
    /// The messages, oldest first.
    pub(crate) messages: Vec<Message>,
    /// Whether there are more.
    pub(crate) more: bool,
    /// When the reading began.
    pub(crate) end: Ms,
    /// The time up to which the logs are complete: what is younger may have neighbours on their way.
    floor: Ms,
    /// Which of the messages were missed by name.
    named: Vec<Missed>,
    state: State,
    /// Names of messages that are no longer the user's, or no longer there.
    void: Vec<Missed>,
    /// The first message of each kind that is left in a gap for the next page.
    left: BTreeMap<Kind, MessageId>,
}

/// Read a page.
pub(crate) async fn find(app: &App, user: &UserId, request: &Request) -> Result<Found> {
    let end = app.clock.now_ms();
    let (state, view) = futures::try_join!(app.table.state(user), view(app, user, request))?;
    let floor = end.saturating_sub(MARGIN_MS);
    let reader = Reader { app, user, request, state: &state, view: &view, end, floor };
    let (mut cursors, mut void) = reader.cursors();
    let page = merge(&reader, &mut cursors).await?;
    clear_away(&reader, &cursors).await?;
    void.extend(cursors.into_iter().flat_map(|cursor| cursor.void));
    Ok(Found { end, floor, messages: page.messages, more: page.more, named: page.named, void, left: page.left, state })
}

async fn view(app: &App, user: &UserId, request: &Request) -> Result<View> {
    if request.kinds.contains(&Kind::Multicast) {
        return app.table.view(user).await;
    }
    Ok(View { blocks: app.table.blocks(user).await?, ..View::default() })
}

/// Delete what dissolutions left behind on the user's side, as far as the reading met it; not what is young, for of a group
/// that is just being made two reads may see one half.
async fn clear_away(reader: &Reader<'_>, cursors: &[Cursor]) -> Result<()> {
    let is_old = |(_, membership): &(GroupId, Membership)| membership.joined < reader.floor;
    let dissolved = cursors.iter().filter_map(Cursor::dissolved).filter_map(|group| {
        let membership = reader.view.groups.get(group)?;
        Some((group.clone(), *membership)).filter(is_old)
    });
    reader.app.table.forget_groups(reader.user, &dissolved.collect::<Vec<_>>()).await
}

struct Reader<'a> {
    app: &'a App,
    user: &'a UserId,
    request: &'a Request,
    state: &'a State,
    view: &'a View,
    end: Ms,
    floor: Ms,
}

impl Reader<'_> {
    /// A cursor for each log and one for the names, and the names that lead nowhere.
    fn cursors(&self) -> (Vec<Cursor>, Vec<Missed>) {
        let mut logs = Vec::new();
        if self.request.kinds.contains(&Kind::Unicast) {
            logs.push((Address::User(self.user.clone()), 0));
        }
        logs.extend(
            self.view.groups.iter().map(|(group, membership)| (Address::Group(group.clone()), membership.joined)),
        );
        let mut cursors: Vec<Cursor> =
            logs.into_iter().map(|(log, from)| Cursor::of_log(self.spans(&log, from), log)).collect();
        let (names, void) = self.names();
        cursors.push(Cursor::of_names(names));
        (cursors, void)
    }

    /// The spans of a log that hold what is asked for, and little besides.
    fn spans(&self, log: &Address, joined: Ms) -> Vec<Span> {
        let after = self.request.after.map_or(0, MessageId::time_ms);
        let to = self.request.until.map_or(self.end, |until| until.time_ms().min(self.end));
        let dropped = if self.request.all { 0 } else { self.state.dropped(Kind::of(log)).until + 1 };
        let whole = Span { from: after.max(dropped).max(joined).max(self.app.table.oldest()), to };
        let missed = if self.request.all { gaps(whole, []) } else { gaps(whole, self.state.connections.values()) };
        coalesce(missed, MAX_SPANS)
    }

    /// The names that are asked for, and those whose messages are not the user's any more.
    fn names(&self) -> (Vec<Missed>, Vec<Missed>) {
        let asked = |missed: &&Missed| !self.request.all && self.request.kinds.contains(&missed.kind());
        let is_mine = |missed: &Missed| match &missed.group {
            None => true,
            Some(group) => self.view.groups.get(group).is_some_and(|member| member.joined <= missed.id.time_ms()),
        };
        let (mine, foreign): (Vec<_>, Vec<_>) = self.state.missed.iter().filter(asked).cloned().partition(is_mine);
        // A young one may be of a group that was joined after the memberships were read and before the state was.
        let is_old = |missed: &Missed| missed.id.time_ms() < self.floor;
        let void = foreign.into_iter().filter(is_old).collect();
        (mine.into_iter().filter(|missed| self.is_in_bounds(missed.id)).collect(), void)
    }

    fn is_in_bounds(&self, id: MessageId) -> bool {
        self.request.after.is_none_or(|after| id > after) && self.request.until.is_none_or(|until| id <= until)
    }

    /// Whether a message of a gap is returned.
    fn keeps(&self, message: &Message) -> bool {
        let time = message.id.time_ms();
        let is_missed = self.request.all
            || !(is_covered(self.state.connections.values(), time)
                || self.state.dropped(Kind::of(&message.to)).contains(message.id));
        is_missed && self.is_in_bounds(message.id) && self.keeps_sender(message)
    }

    /// Whether a message's sender is neither the user nor somebody whom he blocks, or blocked then.
    fn keeps_sender(&self, message: &Message) -> bool {
        let withheld = self.view.blocks.get(&message.sender).is_some_and(|block| block.withholds(message.id.time_ms()));
        message.sender != *self.user && !withheld
    }
}

/// Reads on in one log, or in the list of names.
struct Cursor {
    source: Source,
    buffer: VecDeque<Message>,
    /// Names that led to nothing: expired, or of a sender who is blocked.
    void: Vec<Missed>,
}

enum Source {
    Log(Log),
    Names(VecDeque<Missed>),
}

/// What is left to read of a log.
struct Log {
    log: Address,
    spans: VecDeque<Span>,
    rest: Option<Resume>,
    /// Whether its group stands, as far as that is known. Of a group that does not, nothing is anybody's.
    stands: Option<bool>,
}

impl Cursor {
    fn of_log(spans: Vec<Span>, log: Address) -> Self {
        let stands = matches!(log, Address::User(_)).then_some(true);
        Self::of(Source::Log(Log { log, spans: spans.into(), rest: None, stands }))
    }

    fn of_names(names: Vec<Missed>) -> Self {
        Self::of(Source::Names(names.into()))
    }

    fn of(source: Source) -> Self {
        Self { source, buffer: VecDeque::new(), void: Vec::new() }
    }

    fn is_of_names(&self) -> bool {
        matches!(self.source, Source::Names(_))
    }

    /// The group that it has seen to be dissolved.
    fn dissolved(&self) -> Option<&GroupId> {
        match &self.source {
            Source::Log(Log { log: Address::Group(group), stands: Some(false), .. }) => Some(group),
            _ => None,
        }
    }

    fn head(&self) -> Option<MessageId> {
        self.buffer.front().map(|message| message.id)
    }

    /// Read until there is a message, or nothing left.
    fn fill<'a>(&'a mut self, reader: &'a Reader<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            while self.buffer.is_empty() {
                let read = match &mut self.source {
                    Source::Log(log) => log.read(reader).await?,
                    Source::Names(names) => read_names(reader, names, &mut self.void).await?,
                };
                match read {
                    Some(messages) => self.buffer.extend(messages),
                    None => break,
                }
            }
            Ok(())
        })
    }
}

impl Log {
    async fn read(&mut self, reader: &Reader<'_>) -> Result<Option<Vec<Message>>> {
        let Some(span) = self.spans.front().copied() else { return Ok(None) };
        let to_end = self.spans.len() == 1 && span.to.saturating_add(READ_ON_MS) >= reader.end;
        let table = &reader.app.table;
        let mut page = table.read_log(&self.log, span, to_end, MESSAGES_PER_QUERY, self.rest.take()).await?;
        self.rest = page.rest;
        if self.rest.is_none() {
            self.spans.pop_front();
        }
        page.messages.retain(|message| reader.keeps(message));
        self.stands = page.stands.or(self.stands);
        if let (Address::Group(group), None, false) = (&self.log, self.stands, page.messages.is_empty()) {
            self.stands = Some(table.standing_groups(std::slice::from_ref(group)).await?.contains_key(group));
        }
        if self.stands == Some(false) {
            self.spans.clear();
            return Ok(None);
        }
        Ok(Some(page.messages))
    }
}

async fn read_names(
    reader: &Reader<'_>,
    names: &mut VecDeque<Missed>,
    void: &mut Vec<Missed>,
) -> Result<Option<Vec<Message>>> {
    if names.is_empty() {
        return Ok(None);
    }
    let batch: Vec<Missed> = names.drain(..names.len().min(NAMES_PER_BATCH)).collect();
    let groups: BTreeSet<GroupId> = batch.iter().filter_map(|missed| missed.group.clone()).collect();
    let groups: Vec<GroupId> = groups.into_iter().collect();
    let table = &reader.app.table;
    let (mut messages, standing) =
        futures::try_join!(table.missed_messages(reader.user, &batch), table.standing_groups(&groups))?;
    let stands = |message: &Message| match &message.to {
        Address::User(_) => true,
        Address::Group(group) => standing.contains_key(group),
    };
    messages.retain(|message| reader.keeps_sender(message) && stands(message));
    void.extend(batch.into_iter().filter(|name| !messages.iter().any(|message| message.id == name.id)));
    Ok(Some(messages))
}

#[derive(Default)]
struct Merged {
    messages: Vec<Message>,
    more: bool,
    named: Vec<Missed>,
    left: BTreeMap<Kind, MessageId>,
}

/// Merge the cursors in `id` order until the page is full.
async fn merge(reader: &Reader<'_>, cursors: &mut [Cursor]) -> Result<Merged> {
    let (mut page, mut merged, mut seen) = (Page::of(reader.app.max_page_messages), Merged::default(), BTreeSet::new());
    loop {
        let empty: Vec<_> =
            cursors.iter_mut().filter(|cursor| cursor.buffer.is_empty()).map(|c| c.fill(reader)).collect();
        stream::iter(empty).buffer_unordered(MAX_IN_FLIGHT).try_collect::<()>().await?;
        let first = cursors.iter_mut().filter(|c| c.head().is_some()).min_by_key(|c| c.head());
        let Some(cursor) = first else { break };
        let Some(message) = cursor.buffer.pop_front() else { break };
        if cursor.is_of_names() {
            merged.named.push(Missed::new(&message.to, message.id));
        }
        if !seen.insert(message.id) {
            continue;
        }
        if let Err(message) = page.add(message) {
            if cursor.is_of_names() {
                merged.named.pop();
            }
            cursor.buffer.push_front(*message);
            merged.more = true;
            break;
        }
    }
    for cursor in cursors.iter().filter(|cursor| !cursor.is_of_names()) {
        if let Some(message) = cursor.buffer.front() {
            let left = merged.left.entry(Kind::of(&message.to)).or_insert(message.id);
            *left = message.id.min(*left);
        }
    }
    merged.messages = page.into_messages();
    Ok(merged)
}

impl Found {
    /// What this page, which ends with `last`, shows: by id what is later than `floor`, at most.
    pub(crate) fn offered(&self, last: MessageId, floor: Ms) -> Offered {
        let floor = floor.min(self.floor).min(last.time_ms().saturating_sub(1));
        let ids = |of: &dyn Fn(&&Message) -> bool| self.messages.iter().filter(of).map(|message| message.id).collect();
        Offered {
            floor,
            ids: ids(&|message| message.id.time_ms() > floor),
            names: ids(&|message| self.state.missed.contains(&Missed::new(&message.to, message.id))),
        }
    }

    /// What may be written although nothing is dropped: that up to the first message which was found nothing was missed.
    /// Without it, connections that have ended would have to be remembered for as long as messages are. Nothing if it
    /// would let too few be forgotten.
    pub(crate) fn idle_plan(&self, app: &App, request: &Request) -> Option<DropPlan> {
        if request.after.is_some() || request.until.is_some() {
            return None;
        }
        let advanced = |kind: Kind| {
            let first = self.messages.iter().find(|message| Kind::of(&message.to) == kind).map(|message| message.id);
            let first = first.into_iter().chain(self.left.get(&kind).copied()).min();
            (kind, self.state.dropped(kind).advanced(self.end, first, []))
        };
        let dropped = request.kinds.iter().map(|kind| advanced(*kind)).collect();
        plan(app, &self.state, dropped, Vec::new(), false).filter(|plan| plan.forgotten.len() >= WORTH_FORGETTING)
    }

    /// What is to be written so that no later pull returns this page. Nothing if nothing would change.
    pub(crate) fn drop_plan(&self, app: &App, kinds: &[Kind]) -> Option<DropPlan> {
        let dropped = kinds.iter().map(|kind| (*kind, self.dropped(*kind))).collect();
        let named = self.named.iter().chain(&self.void).cloned().collect();
        plan(app, &self.state, dropped, named, !self.messages.is_empty())
    }

    fn dropped(&self, kind: Kind) -> Dropped {
        let returned = self.messages.iter().filter(|message| Kind::of(&message.to) == kind).map(|message| message.id);
        self.state.dropped(kind).advanced(self.end, self.left.get(&kind).copied(), returned)
    }
}

/// The write that leaves that dropped, and forgets what then says nothing any more.
pub(crate) fn plan(
    app: &App,
    state: &State,
    dropped: Vec<(Kind, Dropped)>,
    no_longer_missed: Vec<Missed>,
    anything_returned: bool,
) -> Option<DropPlan> {
    let mut after = state.clone();
    for (kind, dropped) in &dropped {
        match kind {
            Kind::Unicast => after.unicast = dropped.clone(),
            Kind::Multicast => after.multicast = dropped.clone(),
        }
    }
    let forgotten = after.forgettable(app.clock.now_ms(), app.table.oldest());
    let changes = anything_returned || !no_longer_missed.is_empty() || !forgotten.is_empty();
    let mark = app.ids.message(app.clock.now_ms()).to_string();
    changes.then_some(DropPlan { version: state.version, mark, dropped, no_longer_missed, forgotten })
}
