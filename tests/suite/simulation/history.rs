//! The events of a run as its users know them, and the promises of the protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::Value;
use shared::clock::Ms;
use shared::id::MessageId;

use super::conversations::{Asked, Known, Listed, Mark, Recall, Shown};
use super::plan::{To, User};

/// A time that never comes.
const NEVER: Ms = Ms::MAX;

/// The most by which clocks differ, with the time by which a connection is stamped ahead.
pub(super) const CLOCKS_MS: Ms = 10;

/// How much of the last time of a connection is pulled again: if its client closed it, and otherwise.
const CLEAN_MS: Ms = 2_000;
const REDELIVER_MS: Ms = 15_000;

/// How long after a failed call parts of it may still take effect.
const AFTERMATH_MS: Ms = 30_000;

/// The duration of an action. Within it, nobody knows whether the action has already taken effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct During {
    pub(super) from: Ms,
    pub(super) to: Ms,
}

impl During {
    fn overlaps(self, other: Self) -> bool {
        self.from <= other.to.saturating_add(CLOCKS_MS) && other.from <= self.to.saturating_add(CLOCKS_MS)
    }
}

/// A message that a user tried to send.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) content: String,
    pub(super) sender: User,
    pub(super) to: To,
    pub(super) during: During,
    /// Whether the sender knows that it was accepted.
    pub(super) accepted: bool,
    /// The acknowledgements of the message.
    pub(super) acks: Vec<Value>,
    /// The connection that it was sent over, unless it was sent by a call.
    pub(super) connection: Option<String>,
    /// Whether the sender's connection was open until the end.
    pub(super) was_open: bool,
    /// Whether it had a request id.
    pub(super) named: bool,
    /// Whether the back end sent it in the sender's name. It asks for neither friendship nor membership.
    pub(super) by_back_end: bool,
}

/// A message that a pull returned.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    pub(super) message: Value,
    /// The duration of the call.
    pub(super) during: During,
    /// The time from which it was certainly dropped.
    pub(super) dropped: Option<Ms>,
    /// Whether `since` returned it, missed or not.
    pub(super) resumed: bool,
}

/// A frame that a connection received.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) frame: Value,
    pub(crate) connection: String,
    /// Whether the client was there and had not closed.
    pub(crate) read: bool,
    /// Whether the answer was so slow that the function may have counted the push as failed.
    pub(crate) slow: bool,
    /// When the function began that pushed it.
    pub(crate) began: Ms,
}

/// A state that began and perhaps ended, such as a membership or a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spell {
    pub(super) begin: During,
    pub(super) end: During,
}

impl Spell {
    pub(super) fn always() -> Self {
        Self::since(During { from: 0, to: 0 })
    }

    pub(super) fn since(begin: During) -> Self {
        Self { begin, end: During { from: NEVER, to: NEVER } }
    }

    fn surely_holds(&self, during: During) -> bool {
        self.begin.to < during.from && during.to < self.end.from
    }

    fn surely_never_held(&self, during: During) -> bool {
        during.to < self.begin.from || self.end.to < during.from
    }
}

/// All spells of one state, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Spells(pub(super) Vec<Spell>);

impl Spells {
    pub(super) fn begin(&mut self, begin: During) {
        self.0.push(Spell::since(begin));
    }

    /// Replaces the begin of the last spell by a certain one.
    pub(super) fn began(&mut self, begin: During) {
        self.0.last_mut().expect("a spell has begun").begin = begin;
    }

    pub(super) fn end(&mut self, end: During) {
        self.0.last_mut().expect("a spell has begun").end = end;
    }

    pub(super) fn always() -> Self {
        Self(vec![Spell::always()])
    }

    /// Whether the last spell has not ended.
    pub(super) fn is_on(&self) -> bool {
        self.0.last().is_some_and(|spell| spell.end.from == NEVER)
    }

    pub(super) fn at(&self, during: During) -> Certainty {
        if self.0.iter().any(|spell| spell.surely_holds(during)) {
            Certainty::Surely
        } else if self.0.iter().all(|spell| spell.surely_never_held(during)) {
            Certainty::Never
        } else {
            Certainty::Perhaps
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Certainty {
    Never,
    Perhaps,
    Surely,
}

impl Certainty {
    pub(super) fn not(self) -> Self {
        match self {
            Self::Never => Self::Surely,
            Self::Perhaps => Self::Perhaps,
            Self::Surely => Self::Never,
        }
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The promise.
    pub(super) promise: &'static str,
    /// The message, the user or the event that broke it.
    pub(super) by: String,
}

impl Fault {
    pub(super) fn new(promise: &'static str, by: impl Into<String>) -> Self {
        Self { promise, by: by.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.promise, self.by)
    }
}

/// The conditions of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// Calls failed, and functions were killed.
    pub(super) faulty: bool,
    /// A state had room for few missed messages by name.
    pub(super) crowded: bool,
    /// Clients discarded what arrived after they had closed or lost their network.
    pub(super) discards: bool,
}

/// The record of a run.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) sent: Vec<Sent>,
    /// By pair of users, in order.
    pub(super) friends: BTreeMap<(User, User), Spells>,
    /// By the user who blocks and the blocked user.
    pub(super) blocks: BTreeMap<(User, User), Spells>,
    /// By group and user.
    pub(super) members: BTreeMap<(usize, User), Spells>,
    /// By group.
    pub(super) dissolved: BTreeMap<usize, During>,
    /// What pulls returned, by user.
    pub(super) pulled: BTreeMap<User, Vec<Pulled>>,
    /// When a user connected, disconnected or pulled.
    pub(super) comings: BTreeMap<User, Vec<During>>,
    /// When each connection of a user was announced, if it was opened.
    pub(super) began: BTreeMap<User, Vec<(String, During)>>,
    /// When the gateway saw a connection end, and whether its client had closed it, if that was recorded.
    pub(super) ended: BTreeMap<String, (Ms, bool)>,
    /// When connections of a user began or ended, successfully or not.
    pub(super) changes: BTreeMap<User, Vec<During>>,
    /// The time since which a user may have a recorded connection that no longer exists.
    pub(super) ghosts: BTreeMap<User, Ms>,
    /// When connections were certainly open: from the answer of `$connect` until they closed or died.
    pub(super) connected: BTreeMap<String, During>,
    /// By message id, the end of the last run of its last job.
    pub(super) delivered: BTreeMap<String, Ms>,
    /// The frames that the connections of a user received.
    pub(super) taken: BTreeMap<User, Vec<Taken>>,
    /// The connections of version 2.
    pub(super) second: BTreeSet<String>,
    /// The histories that users read.
    pub(super) shown: Vec<Shown>,
    /// The calls that only members may make.
    pub(super) asked: Vec<Asked>,
    /// The calls that recall a message.
    pub(super) recalls: Vec<Recall>,
    /// The calls that move a mark.
    pub(super) marks: Vec<Mark>,
    /// The lists of conversations.
    pub(super) lists: Vec<Listed>,
    /// The broken promises that were seen during the run.
    pub(super) faults: Vec<Fault>,
}

/// The shared record.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Notes>);

impl History {
    pub(super) fn note<T>(&self, write: impl FnOnce(&mut Notes) -> T) -> T {
        write(&mut self.0.lock().expect("no holder of the lock panics"))
    }
}

pub(super) fn id_of(message: &Value) -> &str {
    message["id"].as_str().unwrap_or_default()
}

pub(super) fn content_of(message: &Value) -> &str {
    message["content"].as_str().unwrap_or_default()
}

impl Notes {
    /// Whether a user was a member of a group during that time.
    pub(super) fn membership(&self, group: usize, user: User, during: During) -> Certainty {
        let place = self.members.get(&(group, user)).map_or(Certainty::Never, |spells| spells.at(during));
        let exists = match self.dissolved.get(&group) {
            Some(dissolved) if dissolved.to < during.from => Certainty::Never,
            Some(dissolved) if dissolved.from <= during.to => Certainty::Perhaps,
            _ => Certainty::Surely,
        };
        place.min(exists)
    }

    /// Whether a message is owed to a user.
    pub(super) fn owed(&self, sent: &Sent, user: User) -> Certainty {
        if sent.sender == user {
            return Certainty::Never;
        }
        let addressed = match sent.to {
            To::User(receiver) if receiver != user => Certainty::Never,
            To::User(_) if sent.by_back_end => Certainty::Surely,
            To::User(_) => {
                let pair = (user.min(sent.sender), user.max(sent.sender));
                self.friends.get(&pair).map_or(Certainty::Never, |spells| spells.at(sent.during))
            }
            To::Group(group) => {
                let sends = match sent.by_back_end {
                    true => Certainty::Surely,
                    false => self.membership(group, sent.sender, sent.during),
                };
                let receives = self.membership(group, user, sent.during);
                // A member who leaves a group can no longer pull its messages.
                let stays = self.membership(group, user, During { from: sent.during.from, to: NEVER - 1 });
                match sends.min(receives) {
                    Certainty::Surely if stays < Certainty::Surely => Certainty::Perhaps,
                    certainty => certainty,
                }
            }
        };
        let blocks = self.blocks.get(&(user, sent.sender)).cloned().unwrap_or_default();
        // A block that is not lifted hides what was sent before it. By another clock, a message just before a block is sent
        // during it.
        let may_hide = |spell: &Spell| {
            let just_before = sent.during.to..=sent.during.to.saturating_add(CLOCKS_MS);
            spell.end.to == NEVER || just_before.contains(&spell.begin.from)
        };
        let unblocked = match blocks.at(sent.during).not() {
            Certainty::Surely if blocks.0.iter().any(may_hide) => Certainty::Perhaps,
            certainty => certainty,
        };
        addressed.min(unblocked)
    }

    /// Returns every broken promise. Also counts the pairs of message and user, by whether the message is owed: never,
    /// perhaps, surely.
    pub(super) fn judge(mut self, users: &[User], conditions: Conditions) -> (Vec<Fault>, [u64; 3]) {
        let Conditions { faulty, crowded, discards } = conditions;
        let mut tally = [0; 3];
        let mut faults = std::mem::take(&mut self.faults);
        let known = Known::of(&self);
        self.judge_conversations(&known, users, &mut faults);
        let aftermath = if faulty { AFTERMATH_MS } else { 0 };
        for sent in &self.sent {
            self.judge_answers(sent, faulty, &mut faults);
            let mut ids: BTreeSet<String> = sent.acks.iter().map(|ack| id_of(ack).to_owned()).collect();
            let mut shapes = BTreeSet::new();
            let on_its_way = self.on_its_way(sent);
            for user in users {
                let is_it = |message: &Value| content_of(message) == sent.content;
                let taken: Vec<&Taken> =
                    self.taken.get(user).into_iter().flatten().filter(|taken| is_it(&taken.frame)).collect();
                let pulled: Vec<&Pulled> =
                    self.pulled.get(user).into_iter().flatten().filter(|pulled| is_it(&pulled.message)).collect();
                let all = taken.iter().map(|t| &t.frame).chain(pulled.iter().map(|p| &p.message));
                let shown = known.shown(sent).filter(|(reader, _)| *reader == user).map(|(_, message)| message);
                for message in all.chain(shown) {
                    ids.insert(id_of(message).to_owned());
                    shapes.insert(message.to_string());
                }
                let missed: Vec<&&Pulled> = pulled.iter().filter(|pulled| !pulled.resumed).collect();
                let about = || format!("{user}: {sent:?}");
                if *user == sent.sender {
                    self.judge_echoes(sent, &taken, &pulled, faulty, &mut faults);
                    continue;
                }
                let got = !taken.is_empty() || !pulled.is_empty();
                let owed = match self.owed(sent, user) {
                    // A pull after a recall does not bring it.
                    Certainty::Surely if known.is_recall_tried(sent) => Certainty::Perhaps,
                    certainty => certainty,
                };
                tally[owed as usize] += 1;
                if let Some(late) = pulled.iter().find(|pulled| self.is_out(sent, user, pulled)) {
                    let by = format!("{} at {:?}", about(), late.during);
                    faults.push(Fault::new("nobody pulls messages of a group that they left or that is dissolved", by));
                }
                match owed {
                    Certainty::Never if got => {
                        faults.push(Fault::new("nobody gets a message that is not for them", about()));
                    }
                    Certainty::Surely if sent.accepted => {
                        let is_live = match discards {
                            true => taken.iter().any(|taken| taken.read) || self.is_excused(sent, user, &taken),
                            false => !taken.is_empty(),
                        };
                        if !is_live && missed.is_empty() {
                            faults.push(Fault::new("no accepted message is lost", about()));
                        }
                        // A message that reached only a dead connection is in the log, for `since`.
                        let read = taken.iter().any(|taken| taken.read) || !missed.is_empty();
                        if !read && pulled.is_empty() {
                            faults.push(Fault::new("the log has what a dead connection received", about()));
                        }
                        if !pulled.iter().any(|pulled| pulled.resumed) {
                            faults.push(Fault::new("`since` returns everything", about()));
                        }
                    }
                    _ => {}
                }
                if !crowded {
                    self.judge_repeats(sent, on_its_way, user, &taken, &missed, aftermath, faulty, &mut faults);
                }
            }
            // Without a request id, sending again sends another message.
            if ids.len() > 1 || shapes.len() > 1 {
                let by = format!("{ids:?} {shapes:?} of {sent:?}");
                faults.push(Fault::new("a message is the same for everybody", by));
            }
        }
        (faults, tally)
    }

    /// Whether only connections whose clients were gone received a message, and no event revealed that in time.
    fn is_excused(&self, sent: &Sent, user: User, taken: &[&Taken]) -> bool {
        let id = sent.acks.first().or(taken.first().map(|taken| &taken.frame)).map(id_of);
        let Some(time) = id.and_then(|id| MessageId::parse(id).ok()).map(MessageId::time_ms) else { return false };
        taken.iter().any(|taken| !taken.read && !self.is_told(user, &taken.connection, time))
    }

    /// Whether a message of that time was certainly recorded as not received by a connection. Either its end records
    /// it, or another connection that began a little later while it was open.
    fn is_told(&self, user: User, connection: &str, time: Ms) -> bool {
        let ended = self.ended.get(connection).copied();
        if ended.is_some_and(|(to, clean)| time + if clean { CLEAN_MS } else { REDELIVER_MS } > to + CLOCKS_MS) {
            return true;
        }
        let began = self.began.get(user).map_or(&[][..], Vec::as_slice);
        let Some((_, own)) = began.iter().find(|(id, _)| id == connection) else { return false };
        began.iter().any(|(other, during)| {
            other != connection
                && own.to.saturating_add(CLOCKS_MS) < during.from
                && time + CLOCKS_MS < during.from
                && time + REDELIVER_MS > during.to + CLOCKS_MS
                && ended.is_none_or(|(to, _)| during.to + CLOCKS_MS < to)
        })
    }

    /// Whether a user was certainly not a member of the message's group while they pulled it.
    fn is_out(&self, sent: &Sent, user: User, pulled: &Pulled) -> bool {
        match sent.to {
            To::User(_) => false,
            To::Group(group) => self.membership(group, user, pulled.during) == Certainty::Never,
        }
    }

    /// The time during which a message was sent or delivered, with its jobs.
    fn on_its_way(&self, sent: &Sent) -> During {
        let taken = self.taken.values().flatten().map(|taken| &taken.frame);
        let pulled = self.pulled.values().flatten().map(|pulled| &pulled.message);
        let all = taken.chain(pulled).filter(|message| content_of(message) == sent.content).chain(&sent.acks);
        let delivered = all.filter_map(|message| self.delivered.get(id_of(message))).max();
        During { to: sent.during.to.max(delivered.copied().unwrap_or(0)), ..sent.during }
    }

    /// Delivered or withheld, a sender sees the same.
    fn judge_answers(&self, sent: &Sent, faulty: bool, faults: &mut Vec<Fault>) {
        if sent.named && sent.was_open && !faulty && sent.acks.len() != 1 {
            faults.push(Fault::new("each message is acknowledged, delivered or not", format!("{sent:?}")));
        }
        for ack in &sent.acks {
            let names: Vec<&str> = ack.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            if names != ["id", "requestId", "timestamp", "type"] {
                faults.push(Fault::new("an acknowledgement tells nothing else", format!("{sent:?}")));
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that there is to know of one message and one user")]
    fn judge_repeats(
        &self,
        sent: &Sent,
        during: During,
        user: User,
        taken: &[&Taken],
        missed: &[&&Pulled],
        aftermath: Ms,
        faulty: bool,
        faults: &mut Vec<Fault>,
    ) {
        let quiet = during.to.saturating_add(aftermath);
        for first in missed.iter().filter(|first| first.during.from > quiet) {
            let Some(dropped) = first.dropped else { continue };
            if let Some(again) = missed.iter().find(|again| again.during.from > dropped) {
                let by = format!("{user}: {sent:?} at {:?} and at {:?}", first.during, again.during);
                faults.push(Fault::new("what is dropped does not come again", by));
            }
        }
        if faulty {
            return;
        }
        let mut connections = BTreeSet::new();
        for taken in taken {
            if !connections.insert(&taken.connection) {
                faults.push(Fault::new("a connection gets each message once", format!("{user}: {sent:?}")));
            }
        }
        let crossed = self.comings.get(user).into_iter().flatten().any(|coming| coming.overlaps(during));
        let was_there = taken.iter().any(|taken| {
            self.connected.get(&taken.connection).is_some_and(|open| {
                open.from.saturating_add(CLOCKS_MS) < during.from && during.to.saturating_add(CLOCKS_MS) < open.to
            })
        });
        // The last seconds before an end are pulled again, because the client may not have seen them.
        let until_later = During { to: during.to.saturating_add(REDELIVER_MS), ..during };
        let is_uncovered = self.changes.get(user).into_iter().flatten().any(|change| change.overlaps(until_later));
        // A message that a connection was slow to receive is recorded.
        let has_ghost = self.ghosts.get(user).is_some_and(|since| *since <= during.to);
        let is_named = has_ghost || taken.iter().any(|taken| taken.slow);
        if was_there
            && !crossed
            && !is_uncovered
            && !is_named
            && missed.iter().any(|pulled| pulled.during.from > during.to)
        {
            faults.push(Fault::new("what a connection received is not missed", format!("{user}: {sent:?}")));
        }
    }
}
