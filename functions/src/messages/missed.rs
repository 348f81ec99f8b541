//! What a user missed: what their connections did not take, read from the logs that are theirs, and what was written down
//! by name. Oldest first, one page.
//!
//! A call reads a bounded amount, whatever others have filled the logs with: each log gets one query, and beyond that so
//! many bytes may turn out not to be for the user. A page that ends for this reason may be short, or empty; where it got to
//! is kept, by the drop or by the caller.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use shared::Result;
use shared::clock::Ms;
use shared::coverage::{MARGIN_MS, Span, Taken, coalesce};
use shared::frame::{Address, Message};
use shared::id::{GroupId, MessageId, UserId};
use shared::page::{Dropped, Page};
use shared::table::{DropPlan, Kind, Membership, Missed, Offered, Resume, State, Tails, View};

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
const MESSAGES_PER_QUERY: usize = 250;
const NAMES_PER_BATCH: usize = 100;

/// How many bytes the first queries of all logs read together, and how many more may be read in vain.
const READ_BYTES: usize = 16 * 1024 * 1024;

/// What a message takes that is as long as one may be.
const LONGEST_BYTES: usize = 33 * 1024;

/// What a message takes beside its content, and what it costs to look at it.
const BESIDE_BYTES: usize = 512;

/// How often the state and what belongs to it are read together, while drops come in between.
const MAX_READS: usize = 3;

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
    /// Up to which message all is known, where there are more: a caller that drops nothing goes on behind it.
    pub(crate) next: Option<MessageId>,
    /// Whether the reading ended before it had found a page.
    exhausted: bool,
    /// When the reading began.
    pub(crate) end: Ms,
    /// The time up to which the logs are complete: what is younger may have neighbours on their way.
    floor: Ms,
    /// Which of the messages were missed by name.
    named: Vec<Missed>,
    state: State,
    /// Names of messages that are no longer the user's, or no longer there.
    void: Vec<Missed>,
    /// Of each kind, the first message that is left in a log for the next page, or up to where a log was read.
    left: BTreeMap<Kind, MessageId>,
}

/// How many bytes a call may still read in vain, in all of its attempts together.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicUsize::new(READ_BYTES))
    }
}

impl Budget {
    fn is_left(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    fn spend(&self, bytes: usize) {
        // It is never refused, so there is nothing to look at.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)));
    }
}

/// Read a page. With `drops` all that was found is returned, also where some log was not read so far.
pub(crate) async fn find(app: &App, user: &UserId, request: &Request, drops: bool, budget: &Budget) -> Result<Found> {
    let end = app.clock.now_ms();
    let (state, view) = state_and_view(app, user, &request.kinds).await?;
    let floor = end.saturating_sub(MARGIN_MS);
    let taken = match request.all {
        true => Taken::default(),
        false => Taken::of(state.connections.values(), app.redeliver_ms, end),
    };
    let reader = Reader { app, user, request, state: &state, view: &view, taken, end, floor, budget };
    let (mut cursors, mut void) = reader.cursors();
    let page = merge(&reader, &mut cursors, drops).await?;
    clear_away(&reader, &cursors).await?;
    void.extend(cursors.into_iter().flat_map(|cursor| cursor.void));
    let Merged { messages, more, next, exhausted, named, left } = page;
    Ok(Found { messages, more, next, exhausted, end, floor, named, void, left, state })
}

/// The state with its tails, and the view of the logs of these kinds.
pub(crate) async fn state_and_view(app: &App, user: &UserId, kinds: &[Kind]) -> Result<(State, View)> {
    for read in 1.. {
        let (mut state, mut view) = futures::try_join!(app.table.state(user), app.table.view(user))?;
        if !kinds.contains(&Kind::Multicast) {
            view.groups.clear();
        }
        let named = |tails: &&Tails| Some(&tails.mark) == state.tail.as_ref();
        let tails = view.tails.iter().find(named).cloned();
        if tails.is_none() && read >= MAX_READS {
            // It has expired, with all that it held. Where drops did come in between, the next one starts again.
            state.tail = None;
        }
        if state.tail.is_none() || tails.is_some() {
            let Tails { unicast, multicast, .. } = tails.unwrap_or_default();
            (state.unicast.tail, state.multicast.tail) = (unicast, multicast);
            return Ok((state, view));
        }
        // A drop came in between, which put other tails.
    }
    unreachable!("the last read is answered with whatever it found")
}

/// Delete what dissolutions left behind on the user's side, and tails that nothing names, as far as the reading met it; not
/// what is young, for of what is just being made two reads may see one half.
async fn clear_away(reader: &Reader<'_>, cursors: &[Cursor]) -> Result<()> {
    let is_old = |(_, membership): &(GroupId, Membership)| membership.joined < reader.floor;
    let dissolved = cursors.iter().filter_map(Cursor::dissolved).filter_map(|group| {
        let membership = reader.view.groups.get(group)?;
        Some((group.clone(), *membership)).filter(is_old)
    });
    reader.app.table.forget_groups(reader.user, &dissolved.collect::<Vec<_>>()).await?;
    let is_over = |tails: &&Tails| {
        let is_old = MessageId::parse(&tails.mark).is_ok_and(|mark| mark.time_ms() < reader.floor);
        is_old && Some(&tails.mark) != reader.state.tail.as_ref()
    };
    let over: Vec<String> = reader.view.tails.iter().filter(is_over).map(|tails| tails.mark.clone()).collect();
    reader.app.table.delete_tails(reader.user, &over).await
}

struct Reader<'a> {
    app: &'a App,
    user: &'a UserId,
    request: &'a Request,
    state: &'a State,
    view: &'a View,
    taken: Taken,
    end: Ms,
    floor: Ms,
    budget: &'a Budget,
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
        // Two, so that a log with one message is seen to end behind it.
        let first = (READ_BYTES / LONGEST_BYTES / logs.len().max(1)).clamp(2, MESSAGES_PER_QUERY);
        let mut cursors: Vec<Cursor> =
            logs.into_iter().map(|(log, from)| Cursor::of_log(self.spans(&log, from), log, first)).collect();
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
        coalesce(self.taken.gaps(whole), MAX_SPANS)
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
        let is_dropped = || self.state.dropped(Kind::of(&message.to)).contains(message.id);
        let is_missed = self.request.all || !(self.taken.contains(time) || is_dropped());
        is_missed && self.is_in_bounds(message.id) && self.keeps_sender(message)
    }

    /// Whether a message's sender is neither the user nor somebody whom he blocks, or blocked then.
    fn keeps_sender(&self, message: &Message) -> bool {
        let withheld = self.view.blocks.get(&message.sender).is_some_and(|block| block.withholds(message.id.time_ms()));
        message.sender != *self.user && !withheld
    }

    /// Keep of messages what is for the user, and count the rest as read in vain.
    fn keep(&self, messages: &mut Vec<Message>, is_kept: impl Fn(&Message) -> bool) {
        let mut vain = 0;
        messages.retain(|message| {
            let kept = is_kept(message);
            vain += if kept { 0 } else { message.content.get().len() + BESIDE_BYTES };
            kept
        });
        self.budget.spend(vain);
    }
}

/// Reads on in one log, or in the list of names.
struct Cursor {
    source: Source,
    /// Whether it was read from.
    is_begun: bool,
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
    /// The first millisecond that is read.
    begin: Ms,
    /// How many messages the next query asks for.
    limit: usize,
    /// The last message that was read.
    position: Option<MessageId>,
    /// Whether its group stands, as far as that is known. Of a group that does not, nothing is anybody's.
    stands: Option<bool>,
}

impl Cursor {
    fn of_log(spans: Vec<Span>, log: Address, limit: usize) -> Self {
        let stands = matches!(log, Address::User(_)).then_some(true);
        let begin = spans.first().map_or(0, |span| span.from);
        let spans = spans.into();
        Self::of(Source::Log(Log { log, spans, rest: None, begin, limit, position: None, stands }))
    }

    fn of_names(names: Vec<Missed>) -> Self {
        Self::of(Source::Names(names.into()))
    }

    fn of(source: Source) -> Self {
        Self { source, is_begun: false, buffer: VecDeque::new(), void: Vec::new() }
    }

    /// The kind of the messages of its log.
    fn kind(&self) -> Option<Kind> {
        match &self.source {
            Source::Log(log) => Some(Kind::of(&log.log)),
            Source::Names(_) => None,
        }
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

    /// Whether the next call goes on behind where this one began: each log is read past its first millisecond, whatever is
    /// left of the budget, since neither a drop nor the caller's place divides a millisecond.
    fn gets_on(&self) -> bool {
        let is_past = |log: &Log| log.position.is_none_or(|position| position.time_ms() > log.begin);
        self.is_begun && !matches!(&self.source, Source::Log(log) if !is_past(log))
    }

    /// Whether there is something behind the buffer that was not read.
    fn is_unfinished(&self) -> bool {
        match &self.source {
            Source::Log(log) => !log.spans.is_empty(),
            Source::Names(names) => !names.is_empty(),
        }
    }

    /// Up to which message everything was read, of one that is unfinished.
    fn position(&self) -> MessageId {
        match &self.source {
            Source::Log(log) => {
                let before = log.spans.front().map_or(0, |span| span.from.saturating_sub(1));
                let before = MessageId::last_at(before);
                log.position.map_or(before, |position| position.max(before))
            }
            Source::Names(names) => names.front().map_or(MessageId::first_at(0), |next| next.id.before()),
        }
    }

    /// Read until there is a message, or nothing left.
    fn fill<'a>(&'a mut self, reader: &'a Reader<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            while self.buffer.is_empty() && (!self.gets_on() || reader.budget.is_left()) {
                self.is_begun = true;
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
        let (table, limit) = (&reader.app.table, i32::try_from(self.limit).unwrap_or(i32::MAX));
        let mut page = table.read_log(&self.log, span, to_end, limit, self.rest.take()).await?;
        (self.rest, self.limit) = (page.rest, MESSAGES_PER_QUERY);
        self.position = page.position.or(self.position);
        if self.rest.is_none() {
            self.spans.pop_front();
        }
        reader.budget.spend(page.beside);
        reader.keep(&mut page.messages, |message| reader.keeps(message));
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
    reader.keep(&mut messages, |message| reader.keeps_sender(message) && stands(message));
    void.extend(batch.into_iter().filter(|name| !messages.iter().any(|message| message.id == name.id)));
    Ok(Some(messages))
}

#[derive(Default)]
struct Merged {
    messages: Vec<Message>,
    more: bool,
    next: Option<MessageId>,
    exhausted: bool,
    named: Vec<Missed>,
    left: BTreeMap<Kind, MessageId>,
}

/// Merge the cursors in `id` order until the page is full, or nothing more may be read.
async fn merge(reader: &Reader<'_>, cursors: &mut [Cursor], drops: bool) -> Result<Merged> {
    let (mut page, mut merged, mut seen) = (Page::of(reader.app.max_page_messages), Merged::default(), BTreeSet::new());
    let mut last = None;
    loop {
        let empty: Vec<_> =
            cursors.iter_mut().filter(|cursor| cursor.buffer.is_empty()).map(|c| c.fill(reader)).collect();
        stream::iter(empty).buffer_unordered(MAX_IN_FLIGHT).try_collect::<()>().await?;
        // Behind where a log was read up to, it may hold what comes before everything that is in the buffers.
        let known = cursors.iter().filter(|c| c.buffer.is_empty() && c.is_unfinished()).map(Cursor::position).min();
        let is_in_order = |id: MessageId| drops || known.is_none_or(|known| id <= known);
        let first = cursors.iter_mut().filter(|c| c.head().is_some_and(is_in_order)).min_by_key(|c| c.head());
        let Some((cursor, message)) = first.and_then(|c| c.buffer.pop_front().map(|message| (c, message))) else {
            (merged.next, merged.exhausted) = (known, known.is_some());
            break;
        };
        let id = message.id;
        if cursor.is_of_names() {
            merged.named.push(Missed::new(&message.to, id));
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
    merged.more = merged.next.is_some();
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
        plan(app, &self.state, dropped, named, self.exhausted || !self.messages.is_empty())
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
    let (now, oldest) = (app.clock.now_ms(), app.table.oldest());
    let forgotten = after.forgettable(now, oldest);
    let changes = anything_returned || !no_longer_missed.is_empty() || !forgotten.is_empty();
    let mark = app.ids.message(now).to_string();
    let is_as_before = after.unicast.tail == state.unicast.tail && after.multicast.tail == state.multicast.tail;
    changes.then(|| DropPlan {
        version: state.version,
        until: dropped.iter().map(|(kind, dropped)| (*kind, dropped.until)).collect(),
        tails: (!is_as_before).then(|| Tails {
            mark: mark.clone(),
            unicast: after.unicast.tail.clone(),
            multicast: after.multicast.tail.clone(),
        }),
        old_tail: state.tail.clone(),
        no_longer_missed,
        uncovered: after.uncovered_by_forgetting(now, oldest),
        forgotten,
        mark,
    })
}
