//! The rules of a pull: which parts of the logs it reads, and which messages it keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use shared::clock::Ms;
use shared::frame::{Address, Body, Message};
use shared::id::{MessageId, UserId};
use shared::rules::coverage::Span;
use shared::rules::gaps::{Taken, coalesce};
use shared::table::{Held, MessageKind, MissedRef, State, View};

use crate::App;

/// The highest number of spans of one log that have queries of their own. If there are more gaps, the pull joins those
/// with the least time between them, and reads that time too.
const MAX_SPANS: usize = 4;

/// The highest number of messages that one query asks for.
pub(super) const MESSAGES_PER_QUERY: usize = 250;

/// How many bytes the first queries of all logs read together. Also how many bytes a call may read in vain beyond that.
pub(super) const READ_BYTES: usize = 16 * 1024 * 1024;

/// The bytes of the longest message.
pub(super) const LONGEST_BYTES: usize = 33 * 1024;

/// The bytes that a message counts for besides its content when it is read in vain.
const BESIDE_BYTES: usize = 512;

/// How many bytes a call may still read in vain, that is, of messages that are not for the user. All its attempts share
/// it.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicUsize::new(READ_BYTES))
    }
}

impl Budget {
    pub(super) fn is_left(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    pub(super) fn spend(&self, bytes: usize) {
        // The closure always returns a value, so this cannot fail.
        let _ = self.0.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)));
    }
}

/// The request of a pull.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The kinds of messages.
    pub(crate) kinds: Vec<MessageKind>,
    /// Only messages after this one.
    pub(crate) after: Option<MessageId>,
    /// Whether all messages are asked for, also those that were not missed.
    pub(crate) all: bool,
    /// Whether recalls are asked for too, with `all`.
    pub(crate) recalls: bool,
}

/// One pull: its request, and what is known of its user.
pub(super) struct Reader<'a> {
    pub(super) app: &'a App,
    pub(super) user: &'a UserId,
    pub(super) request: &'a Request,
    pub(super) state: &'a State,
    pub(super) view: &'a View,
    pub(super) taken: Taken,
    /// Where the reading of each kind goes on, if it does not begin after what is dropped.
    pub(super) resumed: BTreeMap<MessageKind, MessageId>,
    pub(super) end: Ms,
    pub(super) floor: Ms,
    pub(super) budget: &'a Budget,
}

impl Reader<'_> {
    /// Returns the spans of a log that hold the messages asked for, and few others.
    pub(super) fn spans(&self, log: &Address, joined: Ms) -> Vec<Span> {
        let after = self.request.after.map_or(0, MessageId::time_ms);
        let kind = MessageKind::of(log);
        let dropped = if self.request.all { 0 } else { self.state.dropped(kind).until + 1 };
        let resumed = self.resumed.get(&kind).map_or(0, |id| id.time_ms());
        let whole =
            Span { from: after.max(dropped).max(resumed).max(joined).max(self.app.table.oldest()), to: self.end };
        coalesce(self.taken.gaps(whole), MAX_SPANS)
    }

    /// Returns the names that are asked for, and the names of messages that no longer belong to the user.
    pub(super) fn names(&self) -> (Vec<MissedRef>, Vec<MissedRef>) {
        let asked = |missed: &&MissedRef| !self.request.all && self.request.kinds.contains(&missed.kind());
        let is_mine = |missed: &MissedRef| match &missed.group {
            None => true,
            Some(group) => self.view.groups.get(group).is_some_and(|member| member.joined <= missed.id.time_ms()),
        };
        let withholds = |held: &Held| self.withholds(&held.sender, held.name.id.time_ms());
        let released = self.state.held.iter().filter(|held| !withholds(held)).map(|held| &held.name);
        let names: BTreeSet<_> = self.state.missed.iter().chain(released).filter(asked).cloned().collect();
        let (mine, foreign): (Vec<_>, Vec<_>) = names.into_iter().partition(is_mine);
        // A recent name may be of a group that was joined after the memberships were read and before the state was
        // read.
        let is_old = |missed: &MissedRef| missed.id.time_ms() < self.floor;
        let expired = self.state.held.iter().map(|held| &held.name).filter(asked);
        let expired = expired.filter(|name| name.id.time_ms() < self.app.table.oldest()).cloned();
        let void = foreign.into_iter().filter(is_old).chain(expired).collect();
        (mine.into_iter().filter(|missed| self.is_in_bounds(missed.id)).collect(), void)
    }

    fn is_in_bounds(&self, id: MessageId) -> bool {
        self.request.after.is_none_or(|after| id > after)
    }

    /// Returns whether the pull returns this message of a log.
    pub(super) fn keeps(&self, message: &Message) -> bool {
        self.is_in_bounds(message.id) && self.is_missed(message)
    }

    /// Returns whether a message was missed and lies in the millisecond of `after`, up to and including `after`.
    pub(super) fn is_beside(&self, message: &Message) -> bool {
        let is_beside = |after: MessageId| message.id <= after && message.id.time_ms() == after.time_ms();
        self.request.after.is_some_and(is_beside) && self.is_missed(message)
    }

    fn is_missed(&self, message: &Message) -> bool {
        self.keeps_body(message) && (self.request.all || self.is_in_gap(message)) && self.keeps_sender(message)
    }

    fn is_in_gap(&self, message: &Message) -> bool {
        let is_dropped = || self.state.dropped(MessageKind::of(&message.to)).contains(message.id);
        !self.taken.contains(message.id.time_ms()) && !is_dropped()
    }

    /// Returns whether an entry is a message that was not recalled, or a recall that is asked for. The recall of a message
    /// from before the user joined the group is left out.
    pub(super) fn keeps_body(&self, message: &Message) -> bool {
        match message.body {
            Body::Content(_) => true,
            Body::Recall { of } => self.request.all && self.request.recalls && self.joined(&message.to) <= of.time_ms(),
            Body::Recalled { .. } => false,
        }
    }

    /// Returns whether the sender is another user, whose message no block of the user withholds. A block withholds by
    /// the time of the message, and may have ended since. Recalls of the user's own messages are kept: the manager of a
    /// group may have recalled them.
    pub(super) fn keeps_sender(&self, message: &Message) -> bool {
        // A recall follows the message that it is of.
        let sent = if let Body::Recall { of } = message.body { of } else { message.id };
        let is_own_message = message.sender == *self.user && !matches!(message.body, Body::Recall { .. });
        !is_own_message && !self.withholds(&message.sender, sent.time_ms())
    }

    fn withholds(&self, sender: &UserId, sent: Ms) -> bool {
        self.view.blocks.get(sender).is_some_and(|block| block.withholds(sent))
    }

    /// Returns whether a message of a log would be returned if its sender were not blocked now.
    pub(super) fn holds(&self, message: &Message) -> bool {
        self.holds_sender(message)
            && !self.request.all
            && self.is_in_bounds(message.id)
            && self.keeps_body(message)
            && self.is_in_gap(message)
    }

    /// Returns whether the user blocks the sender now, and did not when the message was sent.
    pub(super) fn holds_sender(&self, message: &Message) -> bool {
        let sent = message.id.time_ms();
        message.sender != *self.user && self.view.blocks.get(&message.sender).is_some_and(|block| block.holds(sent))
    }

    /// Returns when the user joined the group of a log. 0 for the user's own log.
    fn joined(&self, log: &Address) -> Ms {
        match log {
            Address::User(_) => 0,
            Address::Group(group) => self.view.groups.get(group).map_or(Ms::MAX, |membership| membership.joined),
        }
    }

    /// Removes the messages that are not kept, and counts them as read in vain.
    pub(super) fn keep(&self, messages: &mut Vec<Message>, is_kept: impl Fn(&Message) -> bool) {
        let mut vain = 0;
        messages.retain(|message| {
            let kept = is_kept(message);
            vain += if kept { 0 } else { message.content_bytes() + BESIDE_BYTES };
            kept
        });
        self.budget.spend(vain);
    }
}
