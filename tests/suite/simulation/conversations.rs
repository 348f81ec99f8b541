//! What users did and saw in their conversations, and the promises of the protocol about it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use shared::clock::Ms;

use super::history::{CLOCKS_MS, Certainty, During, Fault, Notes, Pulled, Sent, Taken, content_of, id_of};
use super::plan::{To, User};
use super::world::INDEX_LAG_MS;

/// The types of the frames that every connection gets.
const TYPES: [&str; 5] = ["unicast", "multicast", "NOTIFICATION", "ACK", "ERROR"];

/// How long after its acceptance a sender may recall a message, as far as it matters here.
const RECALL_MS: Ms = 23 * 60 * 60 * 1000;

/// A history that a user read, in one or more pages, in order.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) user: User,
    pub(super) with: To,
    pub(super) during: During,
    pub(super) messages: Vec<Value>,
    /// Whether the whole history was read.
    pub(super) is_whole: bool,
}

/// A call that only members of a group may make.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) group: usize,
    pub(super) user: User,
    pub(super) during: During,
    /// 200 or 403.
    pub(super) status: u64,
}

/// The recall of a message by its sender.
#[derive(Debug, Clone)]
pub(super) struct Recall {
    pub(super) user: User,
    pub(super) to: To,
    pub(super) id: String,
    pub(super) during: During,
    /// 200, 403, or nothing if there was no answer.
    pub(super) status: Option<u64>,
}

/// The move of a read mark.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) user: User,
    pub(super) with: To,
    pub(super) until: String,
    pub(super) during: During,
    /// 200, 403, or nothing if there was no answer.
    pub(super) status: Option<u64>,
}

/// A list of conversations.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) user: User,
    pub(super) during: During,
    pub(super) items: Vec<(To, Value)>,
}

/// What the record of a run tells of each message, by its content or its id.
#[derive(Debug)]
pub(super) struct Known {
    /// The ids of a content.
    ids: BTreeMap<String, BTreeSet<String>>,
    /// The content of an id.
    contents: BTreeMap<String, String>,
    /// The recalls of an id.
    recalls: BTreeMap<String, Vec<Recall>>,
    /// The messages in histories that have this content, each with its reader.
    shown: BTreeMap<String, Vec<(User, Value)>>,
}

impl Known {
    pub(super) fn of(notes: &Notes) -> Self {
        let mut known =
            Self { ids: BTreeMap::new(), contents: BTreeMap::new(), recalls: BTreeMap::new(), shown: BTreeMap::new() };
        for sent in &notes.sent {
            sent.acks.iter().for_each(|ack| known.learn(&sent.content, id_of(ack)));
        }
        let taken = notes.taken.values().flatten().map(|taken| &taken.frame);
        let pulled = notes.pulled.values().flatten().map(|pulled| &pulled.message);
        for message in taken.chain(pulled) {
            known.learn(content_of(message), id_of(message));
        }
        for shown in &notes.shown {
            for message in &shown.messages {
                let content = content_of(message);
                known.learn(content, id_of(message));
                known.shown.entry(content.to_owned()).or_default().push((shown.user, message.clone()));
            }
        }
        for recall in &notes.recalls {
            known.recalls.entry(recall.id.clone()).or_default().push(recall.clone());
        }
        known
    }

    fn learn(&mut self, content: &str, id: &str) {
        if !content.is_empty() {
            self.ids.entry(content.to_owned()).or_default().insert(id.to_owned());
            self.contents.insert(id.to_owned(), content.to_owned());
        }
    }

    /// The messages in histories that have the content of this one, each with its reader.
    pub(super) fn shown(&self, sent: &Sent) -> impl Iterator<Item = (&User, &Value)> {
        self.shown.get(&sent.content).into_iter().flatten().map(|(user, message)| (user, message))
    }

    fn ids(&self, sent: &Sent) -> impl Iterator<Item = &String> {
        self.ids.get(&sent.content).into_iter().flatten()
    }

    fn recalls(&self, id: &str) -> &[Recall] {
        self.recalls.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether a recall of a message was tried.
    pub(super) fn is_recall_tried(&self, sent: &Sent) -> bool {
        self.ids(sent).any(|id| !self.recalls(id).is_empty())
    }

    /// Whether a message was certainly recalled before a time.
    fn is_recalled(&self, id: &str, before: Ms) -> bool {
        self.recalls(id).iter().any(|recall| recall.status == Some(200) && recall.during.to < before)
    }
}

impl Notes {
    /// Whether a group existed during that time.
    fn existence(&self, group: usize, during: During) -> Certainty {
        match self.dissolved.get(&group) {
            Some(dissolved) if dissolved.to < during.from => Certainty::Never,
            Some(dissolved) if dissolved.from <= during.to => Certainty::Perhaps,
            _ => Certainty::Surely,
        }
    }

    fn blocks_of(&self, user: User, other: User, during: During) -> Certainty {
        self.blocks.get(&(user, other)).map_or(Certainty::Never, |spells| spells.at(during))
    }

    fn are_friends(&self, one: User, other: User, during: During) -> Certainty {
        self.friends.get(&(one.min(other), one.max(other))).map_or(Certainty::Never, |spells| spells.at(during))
    }

    /// Whether a message, if it was accepted, is in the history that a user reads during that time.
    fn visible(&self, sent: &Sent, user: User, reading: During) -> Certainty {
        let is_own = sent.sender == user;
        let unblocked = match is_own {
            true => Certainty::Surely,
            false => self.blocks_of(user, sent.sender, sent.during).not(),
        };
        match sent.to {
            To::User(_) if is_own => Certainty::Surely,
            To::User(receiver) if receiver != user => Certainty::Never,
            To::User(_) if sent.by_back_end => unblocked,
            To::User(_) => unblocked.min(self.are_friends(user, sent.sender, sent.during)),
            To::Group(group) => {
                let sends = match sent.by_back_end {
                    true => Certainty::Surely,
                    false => self.membership(group, sent.sender, sent.during),
                };
                sends.min(unblocked).min(self.place(group, user, sent.during, reading))
            }
        }
    }

    /// Whether one membership of a user covers both the time of a message and the time of reading.
    fn place(&self, group: usize, user: User, sent: During, reading: During) -> Certainty {
        let spells = self.members.get(&(group, user)).map_or(&[][..], |spells| &spells.0);
        let surely = |begin: During, end: During| begin.to < sent.from && reading.to < end.from;
        let never = |begin: During, end: During| {
            sent.to.saturating_add(CLOCKS_MS) < begin.from || end.to.saturating_add(CLOCKS_MS) < reading.from
        };
        if spells.iter().any(|spell| surely(spell.begin, spell.end)) {
            self.existence(group, reading)
        } else if spells.iter().all(|spell| never(spell.begin, spell.end)) {
            Certainty::Never
        } else {
            self.existence(group, reading).min(Certainty::Perhaps)
        }
    }

    /// Whether a conversation is one that a message is of, for a user.
    fn is_in(sent: &Sent, user: User, with: To) -> bool {
        match (sent.to, with) {
            (To::User(receiver), To::User(other)) => {
                (sent.sender, receiver) == (user, other) || (sent.sender, receiver) == (other, user)
            }
            (to, with) => to == with,
        }
    }

    /// Judges everything about conversations that is not judged message by message.
    pub(super) fn judge_conversations(&self, known: &Known, users: &[User], faults: &mut Vec<Fault>) {
        let sent: BTreeMap<&str, &Sent> = self.sent.iter().map(|sent| (sent.content.as_str(), sent)).collect();
        let of = |id: &str| known.contents.get(id).and_then(|content| sent.get(content.as_str()).copied());
        for user in users {
            for taken in self.taken.get(user).into_iter().flatten() {
                self.judge_frame(known, of(id_of(&taken.frame)), user, taken, faults);
            }
            for pulled in self.pulled.get(user).into_iter().flatten() {
                self.judge_pulled(known, of(id_of(&pulled.message)), user, pulled, faults);
            }
        }
        for shown in &self.shown {
            self.judge_shown(known, &of, shown, faults);
        }
        for Asked { group, user, during, status } in &self.asked {
            let expected = if *status == 200 { Certainty::Surely } else { Certainty::Never };
            let is_member = self.membership(*group, user, *during);
            if is_member != Certainty::Perhaps && is_member != expected {
                let by = format!("{user} of {group} at {during:?}: {status}");
                faults.push(Fault::new("only members read and mark the conversation of a group", by));
            }
        }
        for recall in &self.recalls {
            self.judge_recall(of(&recall.id), recall, users, faults);
        }
        for list in &self.lists {
            self.judge_list(list, users, faults);
        }
    }

    fn judge_frame(&self, known: &Known, sent: Option<&Sent>, user: User, taken: &Taken, faults: &mut Vec<Fault>) {
        let frame = &taken.frame;
        let kind = frame["type"].as_str().unwrap_or_default();
        let is_own = frame["senderId"] == user;
        if !self.second.contains(&taken.connection) && (!TYPES.contains(&kind) || is_own) {
            faults.push(Fault::new("a connection of version 1 gets nothing of version 2", format!("{user}: {frame}")));
        }
        let is_message = kind == "unicast" || kind == "multicast";
        if is_message && known.is_recalled(id_of(frame), taken.began) {
            faults.push(Fault::new("no push brings a recalled message", format!("{user}: {taken:?}")));
        }
        match kind {
            "RECALLED" => self.judge_told(known, sent, user, frame, true, faults),
            "READ" => self.judge_receipt(user, frame, faults),
            _ => {}
        }
    }

    fn judge_pulled(&self, known: &Known, sent: Option<&Sent>, user: User, pulled: &Pulled, faults: &mut Vec<Fault>) {
        let message = &pulled.message;
        if message["type"] == "RECALLED" {
            self.judge_told(known, sent, user, message, false, faults);
        } else if known.is_recalled(id_of(message), pulled.during.from) {
            faults.push(Fault::new("no pull brings a recalled message", format!("{user}: {pulled:?}")));
        }
    }

    /// Judges that a user was told of a recall.
    fn judge_told(
        &self,
        known: &Known,
        sent: Option<&Sent>,
        user: User,
        told: &Value,
        is_pushed: bool,
        faults: &mut Vec<Fault>,
    ) {
        let is_for = |sent: &Sent| match sent.to {
            _ if sent.sender == user => true,
            // The function of the sender does not know the past blocks of a group's members.
            To::Group(group) if is_pushed => self.membership(group, user, sent.during) != Certainty::Never,
            _ => self.owed(sent, user) != Certainty::Never,
        };
        if !sent.is_some_and(is_for) || known.recalls(id_of(told)).is_empty() {
            let by = format!("{user}: {told}, of {sent:?}");
            faults.push(Fault::new("nobody learns of the recall of a message that is not for them", by));
        }
    }

    /// Judges a frame that tells how far somebody has read.
    fn judge_receipt(&self, user: User, frame: &Value, faults: &mut Vec<Fault>) {
        let is_it = |mark: &&Mark| {
            let is_own = mark.user == user;
            let is_named = match mark.with {
                To::User(other) => frame["userId"] == if is_own { other } else { mark.user },
                To::Group(_) => is_own && frame["groupId"].is_string(),
            };
            let is_told = || mark.with == To::User(user) && self.is_receipt(mark, user);
            frame["readerId"] == mark.user && frame["until"] == mark.until && is_named && (is_own || is_told())
        };
        if !self.marks.iter().any(|mark| is_it(&mark)) {
            faults
                .push(Fault::new("a receipt tells a mark, and moves only without a block", format!("{user}: {frame}")));
        }
    }

    /// Whether the other user may learn of a mark.
    fn is_receipt(&self, mark: &Mark, other: User) -> bool {
        self.blocks_of(mark.user, other, mark.during) != Certainty::Surely
            && self.blocks_of(other, mark.user, mark.during) != Certainty::Surely
    }

    fn judge_shown<'a>(
        &self,
        known: &Known,
        of: &impl Fn(&str) -> Option<&'a Sent>,
        shown: &Shown,
        faults: &mut Vec<Fault>,
    ) {
        let Shown { user, with, during, messages, is_whole } = shown;
        for message in messages.iter().filter(|message| message["senderId"] != "mallory") {
            let by = || format!("{user} with {with:?} at {during:?}: {message}");
            let Some(sent) = of(id_of(message)) else {
                faults.push(Fault::new("a history has what was sent", by()));
                continue;
            };
            if self.visible(sent, user, *during) == Certainty::Never {
                faults.push(Fault::new(
                    "a history has nothing that is not for its reader",
                    format!("{}, {sent:?}", by()),
                ));
            }
            let (has_content, is_marked) = (message.get("content").is_some(), message.get("recalledAt").is_some());
            let is_begun = known.recalls(id_of(message)).iter().any(|recall| recall.during.from <= during.to);
            if has_content == is_marked || is_marked && !is_begun {
                faults.push(Fault::new("a history marks what was recalled, and nothing else", by()));
            }
            if has_content && known.is_recalled(id_of(message), during.from.saturating_sub(INDEX_LAG_MS)) {
                faults.push(Fault::new("no history brings a recalled message", by()));
            }
        }
        if !is_whole {
            return;
        }
        let ids: BTreeSet<&str> = messages.iter().map(id_of).collect();
        for sent in self.sent.iter().filter(|sent| sent.accepted && Self::is_in(sent, user, *with)) {
            let is_old = sent.during.to + INDEX_LAG_MS < during.from;
            let is_there = || known.ids(sent).any(|id| ids.contains(id.as_str()));
            if is_old && self.visible(sent, user, *during) == Certainty::Surely && !is_there() {
                let by = format!("{user} with {with:?} at {during:?}: {sent:?}, and not only {ids:?}");
                faults.push(Fault::new("a history has every message", by));
            }
        }
    }

    fn judge_recall(&self, sent: Option<&Sent>, recall: &Recall, users: &[User], faults: &mut Vec<Fault>) {
        let Some(sent) = sent else {
            faults.push(Fault::new("an id belongs to a message", format!("{recall:?}")));
            return;
        };
        let by = || format!("{recall:?} of {sent:?}");
        let is_stored = match recall.to {
            To::User(_) => true,
            To::Group(group) => {
                self.membership(group, sent.sender, sent.during) == Certainty::Surely
                    && self.existence(group, recall.during) == Certainty::Surely
            }
        };
        let is_young = recall.during.to < sent.during.from + RECALL_MS;
        if recall.status == Some(403) && sent.accepted && is_stored && is_young {
            faults.push(Fault::new("a sender can recall a message", by()));
        }
        if recall.status != Some(200) {
            return;
        }
        for user in users.iter().filter(|user| **user != recall.user) {
            let blocks = self.blocks.get(&(*user, recall.user)).cloned().unwrap_or_default();
            let reaches = match recall.to {
                // Beside the log otherwise, as a message would be.
                To::User(_) => {
                    self.are_friends(user, recall.user, recall.during) == Certainty::Surely
                        && blocks.at(recall.during) == Certainty::Never
                }
                To::Group(_) => true,
            };
            let is_told = |pulled: &Pulled| pulled.message["type"] == "RECALLED" && id_of(&pulled.message) == recall.id;
            let is_told = || self.pulled.get(user).into_iter().flatten().any(is_told);
            if reaches && self.owed(sent, user) == Certainty::Surely && !is_told() {
                faults.push(Fault::new("`since` returns the recalls", format!("{user}: {}", by())));
            }
        }
    }

    fn judge_list(&self, list: &Listed, users: &[User], faults: &mut Vec<Fault>) {
        let Listed { user, during, items } = list;
        // Whether a group exists is read late.
        let around = During { from: during.from.saturating_sub(INDEX_LAG_MS), ..*during };
        let others = users.iter().filter(|other| *other != user).map(|other| {
            let unblocked = self.blocks_of(user, other, *during).not();
            (To::User(other), self.are_friends(user, other, *during).min(unblocked))
        });
        let groups: BTreeSet<usize> = self.members.keys().map(|(group, _)| *group).collect();
        let groups = groups.into_iter().map(|group| (To::Group(group), self.membership(group, user, around)));
        for (with, is_expected) in others.chain(groups) {
            let item = items.iter().find(|(listed, _)| *listed == with).map(|(_, item)| item);
            let wrongly = match is_expected {
                Certainty::Surely => item.is_none(),
                Certainty::Never => item.is_some(),
                Certainty::Perhaps => false,
            };
            if wrongly {
                let by = format!("{user} at {during:?}: {with:?}, {is_expected:?}");
                faults.push(Fault::new("a list has the friends and groups of its user", by));
            }
            if let Some(item) = item {
                self.judge_marks(list, with, item, faults);
            }
        }
    }

    fn judge_marks(&self, list: &Listed, with: To, item: &Value, faults: &mut Vec<Fault>) {
        let Listed { user, during, .. } = list;
        let by = || format!("{user} at {during:?}: {item}");
        let own = || self.marks.iter().filter(|mark| mark.user == *user && mark.with == with);
        let surely_set = own().filter(|mark| mark.status == Some(200) && mark.during.to < during.from);
        let earlier = self.lists.iter().filter(|other| other.user == *user && other.during.to < during.from);
        let seen = earlier.flat_map(|other| &other.items).filter(|(other, _)| *other == with);
        let seen = seen.filter_map(|(_, item)| item["readUntil"].as_str());
        let least = surely_set.map(|mark| mark.until.as_str()).chain(seen).max().unwrap_or_default();
        let read_until = item["readUntil"].as_str().unwrap_or_default();
        let is_set = |mark: &Mark| mark.until == read_until && mark.during.from <= during.to;
        if read_until < least || !read_until.is_empty() && !own().any(is_set) {
            faults.push(Fault::new("a read mark only moves forward", format!("{}, and not {least}", by())));
        }
        let To::User(other) = with else { return };
        let theirs = || self.marks.iter().filter(|mark| mark.user == other && mark.with == To::User(user));
        let told = item["peerReadUntil"].as_str().unwrap_or_default();
        let is_told = |mark: &Mark| mark.until == told && self.is_receipt(mark, user);
        if !told.is_empty() && !theirs().any(is_told) {
            faults.push(Fault::new("a receipt tells a mark, and moves only without a block", by()));
        }
        let is_late = |mark: &&Mark| mark.status == Some(200) && mark.during.to + INDEX_LAG_MS < during.from;
        let least = theirs().filter(is_late).map(|mark| mark.until.as_str()).max().unwrap_or_default();
        let never_blocked = [(*user, other), (other, *user)].iter().all(|pair| !self.blocks.contains_key(pair));
        if never_blocked && told < least {
            faults.push(Fault::new("a receipt arrives", format!("{}, and not {least}", by())));
        }
    }

    /// Judges what the sender's own connections received of a message.
    pub(super) fn judge_echoes(
        &self,
        sent: &Sent,
        taken: &[&Taken],
        pulled: &[&Pulled],
        faulty: bool,
        faults: &mut Vec<Fault>,
    ) {
        let mut connections = BTreeSet::new();
        for echo in taken {
            if Some(&echo.connection) == sent.connection.as_ref() {
                faults.push(Fault::new("no echo comes over the connection of its message", format!("{sent:?}")));
            }
            // If calls fail, the repeat of a send repeats its echo.
            if !connections.insert(&echo.connection) && !faulty {
                faults.push(Fault::new("a connection gets each echo once", format!("{sent:?}")));
            }
        }
        if !pulled.is_empty() {
            faults.push(Fault::new("nobody pulls their own messages", format!("{sent:?}")));
        }
    }
}
