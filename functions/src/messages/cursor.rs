//! The cursor of a pull: it reads one log step by step, or the list of names.

use std::collections::{BTreeSet, VecDeque};

use futures::future::BoxFuture;
use shared::Result;
use shared::clock::Ms;
use shared::frame::{Address, Message};
use shared::id::{GroupId, MessageId};
use shared::rules::coverage::Span;
use shared::table::{Held, MAX_HELD, MessageKind, MissedRef, Resume};

use super::reader::{MESSAGES_PER_QUERY, Reader};

/// How many names one batch reads from the table.
const NAMES_PER_BATCH: usize = 100;

/// If the last span of a group's log ends at most this long ago, the query reads on to the group's META. A client
/// connects and then pulls, so few messages lie between.
const READ_ON_MS: Ms = 10_000;

/// Reads one log step by step, or the list of names.
pub(super) struct Cursor {
    source: Source,
    /// Whether the cursor has read anything yet.
    is_begun: bool,
    pub(super) buffer: VecDeque<Message>,
    /// Names of messages that are not returned: they have expired, or their sender is blocked.
    pub(super) void: Vec<MissedRef>,
    /// Missed messages that are not returned because of a block that began later.
    pub(super) held: Vec<Held>,
}

enum Source {
    Log(Log),
    Names(VecDeque<MissedRef>),
}

/// The part of a log that is still to be read.
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
    /// The missed messages of the millisecond of `after`, up to and including `after`, that were read.
    beside: BTreeSet<MessageId>,
    /// Whether its group exists, as far as that is known. Messages of a dissolved group are not returned.
    group_exists: Option<bool>,
}

impl Cursor {
    pub(super) fn of_log(spans: Vec<Span>, log: Address, limit: usize) -> Self {
        let group_exists = matches!(log, Address::User(_)).then_some(true);
        let begin = spans.first().map_or(0, |span| span.from);
        let spans = spans.into();
        Self::of(Source::Log(Log {
            log,
            spans,
            rest: None,
            begin,
            limit,
            position: None,
            beside: BTreeSet::new(),
            group_exists,
        }))
    }

    pub(super) fn of_names(names: Vec<MissedRef>) -> Self {
        Self::of(Source::Names(names.into()))
    }

    fn of(source: Source) -> Self {
        Self { source, is_begun: false, buffer: VecDeque::new(), void: Vec::new(), held: Vec::new() }
    }

    /// Returns the kind of the messages of the log, or `None` for names.
    pub(super) fn kind(&self) -> Option<MessageKind> {
        match &self.source {
            Source::Log(log) => Some(MessageKind::of(&log.log)),
            Source::Names(_) => None,
        }
    }

    /// Returns the missed messages of the millisecond of `after`, up to and including `after`, that were read.
    pub(super) fn beside(&self) -> Option<&BTreeSet<MessageId>> {
        match &self.source {
            Source::Log(log) => Some(&log.beside),
            Source::Names(_) => None,
        }
    }

    pub(super) fn is_of_names(&self) -> bool {
        matches!(self.source, Source::Names(_))
    }

    /// Returns the group of the log, if the reading has found that it is dissolved.
    pub(super) fn dissolved(&self) -> Option<&GroupId> {
        match &self.source {
            Source::Log(Log { log: Address::Group(group), group_exists: Some(false), .. }) => Some(group),
            _ => None,
        }
    }

    pub(super) fn head(&self) -> Option<MessageId> {
        self.buffer.front().map(|message| message.id)
    }

    /// Returns whether the next call can continue after the point where this call began. A log is read past its first
    /// millisecond even if no budget is left, because neither a drop nor the next page divides a millisecond.
    fn gets_on(&self) -> bool {
        let is_past = |log: &Log| log.position.is_none_or(|position| position.time_ms() > log.begin);
        self.is_begun && !matches!(&self.source, Source::Log(log) if !is_past(log))
    }

    /// Returns whether something after the buffer is still to be read.
    pub(super) fn is_unfinished(&self) -> bool {
        match &self.source {
            Source::Log(log) => !log.spans.is_empty(),
            Source::Names(names) => !names.is_empty(),
        }
    }

    /// Returns the id up to which an unfinished cursor has read everything.
    pub(super) fn position(&self) -> MessageId {
        match &self.source {
            Source::Log(log) => {
                let before = log.spans.front().map_or(0, |span| span.from.saturating_sub(1));
                let before = MessageId::last_at(before);
                log.position.map_or(before, |position| position.max(before))
            }
            Source::Names(names) => names.front().map_or(MessageId::first_at(0), |next| next.id.before()),
        }
    }

    /// Reads until the buffer has a message, nothing is left, or the budget is spent.
    pub(super) fn fill<'a>(&'a mut self, reader: &'a Reader<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            while self.buffer.is_empty() && (!self.gets_on() || reader.budget.is_left()) {
                self.is_begun = true;
                let read = match &mut self.source {
                    Source::Log(log) => log.read(reader, &mut self.held).await?,
                    Source::Names(names) => read_names(reader, names, &mut self.void, &mut self.held).await?,
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
    async fn read(&mut self, reader: &Reader<'_>, held: &mut Vec<Held>) -> Result<Option<Vec<Message>>> {
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
        self.beside.extend(page.messages.iter().filter(|message| reader.is_beside(message)).map(|message| message.id));
        hold(held, page.messages.iter().filter(|message| reader.holds(message)));
        reader.keep(&mut page.messages, |message| reader.keeps(message));
        self.group_exists = page.group_exists.or(self.group_exists);
        if let (Address::Group(group), None, false) = (&self.log, self.group_exists, page.messages.is_empty()) {
            self.group_exists = Some(table.existing_groups(std::slice::from_ref(group)).await?.contains_key(group));
        }
        if self.group_exists == Some(false) {
            self.spans.clear();
            return Ok(None);
        }
        Ok(Some(page.messages))
    }
}

async fn read_names(
    reader: &Reader<'_>,
    names: &mut VecDeque<MissedRef>,
    void: &mut Vec<MissedRef>,
    held: &mut Vec<Held>,
) -> Result<Option<Vec<Message>>> {
    if names.is_empty() {
        return Ok(None);
    }
    let batch: Vec<MissedRef> = names.drain(..names.len().min(NAMES_PER_BATCH)).collect();
    let groups: BTreeSet<GroupId> = batch.iter().filter_map(|missed| missed.group.clone()).collect();
    let groups: Vec<GroupId> = groups.into_iter().collect();
    let table = &reader.app.table;
    let (mut messages, existing) =
        futures::try_join!(table.missed_messages(reader.user, &batch), table.existing_groups(&groups))?;
    let exists = |message: &Message| match &message.to {
        Address::User(_) => true,
        Address::Group(group) => existing.contains_key(group),
    };
    let is_there = |message: &Message| reader.keeps_body(message) && exists(message);
    hold(held, messages.iter().filter(|message| is_there(message) && reader.holds_sender(message)));
    reader.keep(&mut messages, |message| is_there(message) && reader.keeps_sender(message));
    void.extend(batch.into_iter().filter(|name| !messages.iter().any(|message| message.id == name.id)));
    Ok(Some(messages))
}

/// Adds messages to those that are held, as long as there is room for them.
fn hold<'a>(held: &mut Vec<Held>, messages: impl Iterator<Item = &'a Message>) {
    let room = MAX_HELD.saturating_sub(held.len());
    held.extend(messages.take(room).map(Held::of));
}
