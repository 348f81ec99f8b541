//! Reading on in one log, or in the list of names.

use std::collections::{BTreeSet, VecDeque};

use futures::future::BoxFuture;
use shared::Result;
use shared::clock::Ms;
use shared::frame::{Address, Message};
use shared::id::{GroupId, MessageId};
use shared::rules::coverage::Span;
use shared::table::{MessageKind, MissedRef, Resume};

use super::reader::{MESSAGES_PER_QUERY, Reader};

/// How many names one batch reads.
const NAMES_PER_BATCH: usize = 100;

/// A group's log is read on to its META if its last span ends at most so long ago. A client connects and then pulls, so
/// little lies between.
const READ_ON_MS: Ms = 10_000;

/// Reads on in one log, or in the list of names.
pub(super) struct Cursor {
    source: Source,
    /// Whether it was read from.
    is_begun: bool,
    pub(super) buffer: VecDeque<Message>,
    /// Names that led to nothing: expired, or of a sender who is blocked.
    pub(super) void: Vec<MissedRef>,
}

enum Source {
    Log(Log),
    Names(VecDeque<MissedRef>),
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
    /// The missed messages that were read of the millisecond before the page.
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
        Self { source, is_begun: false, buffer: VecDeque::new(), void: Vec::new() }
    }

    /// The kind of the messages of its log.
    pub(super) fn kind(&self) -> Option<MessageKind> {
        match &self.source {
            Source::Log(log) => Some(MessageKind::of(&log.log)),
            Source::Names(_) => None,
        }
    }

    /// The missed messages that were read of the millisecond before the page.
    pub(super) fn beside(&self) -> Option<&BTreeSet<MessageId>> {
        match &self.source {
            Source::Log(log) => Some(&log.beside),
            Source::Names(_) => None,
        }
    }

    pub(super) fn is_of_names(&self) -> bool {
        matches!(self.source, Source::Names(_))
    }

    /// The group that it has seen to be dissolved.
    pub(super) fn dissolved(&self) -> Option<&GroupId> {
        match &self.source {
            Source::Log(Log { log: Address::Group(group), group_exists: Some(false), .. }) => Some(group),
            _ => None,
        }
    }

    pub(super) fn head(&self) -> Option<MessageId> {
        self.buffer.front().map(|message| message.id)
    }

    /// Whether the next call goes on behind where this one began: each log is read past its first millisecond, whatever is
    /// left of the budget, since neither a drop nor the caller's place divides a millisecond.
    fn gets_on(&self) -> bool {
        let is_past = |log: &Log| log.position.is_none_or(|position| position.time_ms() > log.begin);
        self.is_begun && !matches!(&self.source, Source::Log(log) if !is_past(log))
    }

    /// Whether there is something behind the buffer that was not read.
    pub(super) fn is_unfinished(&self) -> bool {
        match &self.source {
            Source::Log(log) => !log.spans.is_empty(),
            Source::Names(names) => !names.is_empty(),
        }
    }

    /// Up to which message everything was read, of one that is unfinished.
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

    /// Read until there is a message, or nothing left.
    pub(super) fn fill<'a>(&'a mut self, reader: &'a Reader<'_>) -> BoxFuture<'a, Result<()>> {
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
        self.beside.extend(page.messages.iter().filter(|message| reader.is_beside(message)).map(|message| message.id));
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
) -> Result<Option<Vec<Message>>> {
    if names.is_empty() {
        return Ok(None);
    }
    let batch: Vec<MissedRef> = names.drain(..names.len().min(NAMES_PER_BATCH)).collect();
    let groups: BTreeSet<GroupId> = batch.iter().filter_map(|missed| missed.group.clone()).collect();
    let groups: Vec<GroupId> = groups.into_iter().collect();
    let table = &reader.app.table;
    let (mut messages, standing) =
        futures::try_join!(table.missed_messages(reader.user, &batch), table.existing_groups(&groups))?;
    let exists = |message: &Message| match &message.to {
        Address::User(_) => true,
        Address::Group(group) => standing.contains_key(group),
    };
    reader.keep(&mut messages, |message| reader.keeps_sender(message) && exists(message));
    void.extend(batch.into_iter().filter(|name| !messages.iter().any(|message| message.id == name.id)));
    Ok(Some(messages))
}
