//! The clients that use conversations: they read histories and lists, move marks, and send and recall without a connection.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shared::clock::Ms;

use super::clients::Run;
use super::conversations::{Asked, Listed, Mark, Recall, Shown};
use super::history::{During, Sent, content_of, id_of};
use super::plan::{Act, Step, To, User};
use super::world::World;

/// The most pages of a history that is read to its end.
const MAX_PAGES: usize = 1_000;

/// The highest number of unread messages that is told.
const MAX_UNREAD: usize = 100;

impl Run {
    /// Carries out a step of a user who needs no connection for it.
    pub(super) async fn converse(&self, user: User, step: &Step) {
        match &step.act {
            Act::Write { to, content, tries, named } if *to != To::User(user) => {
                self.write(user, *to, content, *tries, *named).await;
            }
            Act::Recall { newest, twice } => self.recall_some(user, *newest, *twice).await,
            Act::Mark { with, newest } if *with != To::User(user) => self.mark(user, *with, *newest).await,
            Act::Look { with, forwards, pages } if *with != To::User(user) => {
                self.look(user, *with, *forwards, *pages).await;
            }
            Act::List => {
                self.list(user).await;
            }
            _ => {}
        }
    }

    /// Sends a message by a call, with the same request id until it is answered or the tries are used up.
    async fn write(&self, user: User, to: To, content: &str, tries: usize, named: bool) {
        let from = self.world.now_ms();
        let body = self.submission(to, content, named);
        let mut acks = Vec::new();
        for attempt in 0..tries {
            if attempt > 0 && self.world.in_a_hundred(50) {
                self.world.pause(100_000).await;
            }
            let (function, body) = (&functions::send_message::FUNCTION, Some(body.clone()));
            let answer = self.call(function, "POST", user, ("", ""), &[], body).await;
            match answer.map(|answer| (answer.status, answer.json())) {
                Some((200, mut answer)) => {
                    let names: Vec<&str> = answer.as_object().into_iter().flatten().map(|(name, _)| &**name).collect();
                    if names != ["id", "timestamp"] {
                        self.wrong("the answer to a send tells nothing else", format!("{user}: {answer}"));
                    }
                    (answer["type"], answer["requestId"]) = (json!("ACK"), json!(content));
                    acks.push(answer);
                    break;
                }
                None | Some((503, _)) if self.world.is_faulty() => {}
                other => self.wrong("a send is answered", format!("{user}: {other:?}")),
            }
        }
        let sent = Sent { named, by_back_end: false, ..self.sent_by_call(user, to, content, from, acks) };
        self.history.note(|notes| notes.sent.push(sent));
    }

    /// What was sent without a connection, from that time until now.
    fn sent_by_call(&self, sender: User, to: To, content: &str, from: Ms, acks: Vec<Value>) -> Sent {
        let during = During { from, to: self.world.now_ms() };
        let (content, accepted) = (content.to_owned(), !acks.is_empty());
        let (connection, was_open, named, by_back_end) = (None, false, true, false);
        Sent { content, sender, to, during, accepted, acks, connection, was_open, named, by_back_end }
    }

    // ------------------------------------------------------------------------------------------------------- back end
    pub(super) async fn act_as_back_end(&self, step: &Step) {
        match &step.act {
            Act::Kick(user) => self.kick(user).await,
            Act::Post { from, to, content, tries, named } if *to != To::User(from) => {
                self.post(from, *to, content, *tries, *named).await;
            }
            _ => {}
        }
    }

    /// Closes all connections of a user.
    async fn kick(&self, user: User) {
        let from = self.world.now_ms();
        let payload = json!({ "method": "DISCONNECT", "userId": user });
        self.invoke(&functions::manage_user::FUNCTION, &payload).await;
        self.note_ghost(user);
        self.note_change(user, from);
    }

    /// Sends a message in the name of a user. Tries again with the same request id if there is no answer.
    async fn post(&self, user: User, to: To, content: &str, tries: usize, named: bool) {
        let from = self.world.now_ms();
        let mut payload = self.submission(to, content, named);
        payload["from"] = json!(user);
        let mut acks = Vec::new();
        for attempt in 0..tries {
            if attempt > 0 && self.world.in_a_hundred(50) {
                self.world.pause(100_000).await;
            }
            let answer = self.invoke(&functions::send_as::FUNCTION, &payload).await;
            if let Some(answer) = answer.filter(|answer| answer["id"].is_string()) {
                acks.push(json!({
                    "type": "ACK", "requestId": content, "id": answer["id"], "timestamp": answer["timestamp"],
                }));
                break;
            }
        }
        let sent = Sent { named, by_back_end: true, ..self.sent_by_call(user, to, content, from, acks) };
        self.history.note(|notes| notes.sent.push(sent));
    }

    // -------------------------------------------------------------------------------------------------------- recalls
    /// Recalls a message of the user's own. The user knows it by an acknowledgement, an echo, or a history.
    async fn recall_some(&self, user: User, newest: bool, twice: bool) {
        let own = |message: &Value| message["senderId"] == user;
        let seen = self.seen_by(user).into_iter().filter(|(_, message)| own(message));
        let mut known: BTreeSet<(String, To)> = seen.map(|(to, message)| (id_of(&message).to_owned(), to)).collect();
        self.history.note(|notes| {
            let sent = notes.sent.iter().filter(|sent| sent.sender == user);
            known.extend(sent.flat_map(|sent| sent.acks.iter().map(|ack| (id_of(ack).to_owned(), sent.to))));
        });
        let Some((id, to)) = self.pick(known, newest) else { return };
        let chances = [self.world.below(u64::MAX), self.world.below(u64::MAX)];
        let first = World::with_chance(chances[0], self.recall(user, to, &id));
        if twice {
            futures::join!(first, World::with_chance(chances[1], self.recall(user, to, &id)));
        } else {
            first.await;
        }
    }

    /// Returns the newest of a set, or any.
    fn pick<T>(&self, set: BTreeSet<T>, newest: bool) -> Option<T> {
        let place = match set.len() as u64 {
            0 => return None,
            len if newest => len - 1,
            len => self.world.below(len),
        };
        set.into_iter().nth(usize::try_from(place).expect("a small number"))
    }

    /// Recalls a message, and tries again if there is no answer.
    async fn recall(&self, user: User, to: To, id: &str) {
        let from = self.world.now_ms();
        let query = match to {
            To::User(receiver) => ("receiverId", receiver),
            To::Group(group) => ("groupId", self.groups[group].as_str()),
        };
        let function = &functions::recall_message::FUNCTION;
        let mut status = None;
        for _ in 0..3 {
            let answer = self.call(function, "DELETE", user, ("id", id), &[query], None).await;
            status = self.status_of(answer.map(|answer| answer.status), "a recall is answered", user);
            if status.is_some() {
                break;
            }
        }
        let recall = Recall { user, to, id: id.to_owned(), during: During { from, to: self.world.now_ms() }, status };
        self.history.note(|notes| notes.recalls.push(recall));
    }

    /// Returns the status of a call that was answered with 200 or 403. Without faults, every call is.
    fn status_of(&self, status: Option<u64>, promise: &'static str, user: User) -> Option<u64> {
        match status {
            Some(200 | 403) => status,
            None | Some(503) if self.world.is_faulty() => None,
            other => {
                self.wrong(promise, format!("{user}: {other:?}"));
                None
            }
        }
    }

    // ---------------------------------------------------------------------------------------------------------- marks
    /// Returns the messages that a user has seen, with their conversations as the sender names them.
    fn seen_by(&self, user: User) -> Vec<(To, Value)> {
        let taken = self.world.taken_by(user).into_iter().filter(|taken| taken.read).map(|taken| taken.frame);
        let mut seen: Vec<Value> = taken.collect();
        self.history.note(|notes| {
            let shown = notes.shown.iter().filter(|shown| shown.user == user);
            seen.extend(shown.flat_map(|shown| shown.messages.iter().cloned()));
            seen.extend(notes.pulled.get(user).into_iter().flatten().map(|pulled| pulled.message.clone()));
        });
        let of_plan =
            |message: Value| (message["senderId"] != "mallory" && !content_of(&message).is_empty()).then_some(message);
        seen.into_iter().filter_map(of_plan).filter_map(|message| Some((self.address(&message)?, message))).collect()
    }

    /// Returns the address of a message.
    pub(super) fn address(&self, message: &Value) -> Option<To> {
        match (message["receiverId"].as_str(), message["groupId"].as_str()) {
            (Some(receiver), None) => {
                self.plan().users.iter().find(|user| **user == receiver).map(|user| To::User(user))
            }
            (None, Some(group)) => self.groups.iter().position(|id| id == group).map(To::Group),
            _ => None,
        }
    }

    /// Whether a message belongs to a conversation of a user.
    fn is_of(&self, message: &Value, user: User, with: To) -> bool {
        match (self.address(message), with) {
            (Some(To::User(receiver)), To::User(other)) => {
                let sender = message["senderId"].as_str().unwrap_or_default();
                (sender, receiver) == (user, other) || (sender, receiver) == (other, user)
            }
            (address, with) => address == Some(with),
        }
    }

    /// Moves the mark of a conversation to a message that the user has seen.
    async fn mark(&self, user: User, with: To, newest: bool) {
        let seen = self.seen_by(user).into_iter().filter(|(_, message)| self.is_of(message, user, with));
        let Some(until) = self.pick(seen.map(|(_, message)| id_of(&message).to_owned()).collect(), newest) else {
            return;
        };
        let from = self.world.now_ms();
        let query = [self.conversation(with), ("until", until.as_str())];
        let mut status = None;
        for _ in 0..3 {
            let call_from = self.world.now_ms();
            let answer = self.call(&functions::mark_read::FUNCTION, "PUT", user, ("", ""), &query, None).await;
            status = self.status_of(answer.map(|answer| answer.status), "a read mark is answered", user);
            if status.is_some() {
                self.note_asked(user, with, call_from, status);
                break;
            }
        }
        let during = During { from, to: self.world.now_ms() };
        self.history.note(|notes| notes.marks.push(Mark { user, with, until: until.clone(), during, status }));
    }

    fn conversation(&self, with: To) -> (&'static str, &str) {
        match with {
            To::User(other) => ("userId", other),
            To::Group(group) => ("groupId", self.groups[group].as_str()),
        }
    }

    /// Records the answer to a call that only members of a group may make.
    fn note_asked(&self, user: User, with: To, from: Ms, status: Option<u64>) {
        let during = During { from, to: self.world.now_ms() };
        match (with, status) {
            (To::Group(group), Some(status)) => {
                self.history.note(|notes| notes.asked.push(Asked { group, user, during, status }));
            }
            (To::User(_), Some(403)) => self.wrong("everybody may read their private conversations", user.to_owned()),
            _ => {}
        }
    }

    // ------------------------------------------------------------------------------------------------------ histories
    /// Reads the history of a conversation from one of its ends, in pages of any size. Returns its messages in order if the
    /// whole history was read.
    async fn look(&self, user: User, with: To, forwards: bool, pages: usize) -> Option<Vec<Value>> {
        let (from, mut messages, mut is_whole) = (self.world.now_ms(), Vec::<Value>::new(), false);
        let mut next = forwards.then(|| "0".repeat(26));
        for _ in 0..pages {
            let limit = if self.plan().flooded { 100 } else { 1 + self.world.below(6) };
            let limit_text = limit.to_string();
            let bound = next.as_deref().map(|next| (if forwards { "after" } else { "before" }, next));
            let mut query = vec![self.conversation(with), ("limit", &limit_text)];
            query.extend(bound);
            let page_from = self.world.now_ms();
            let answer = self.call(&functions::get_history::FUNCTION, "GET", user, ("", ""), &query, None).await;
            let status = answer.as_ref().map(|answer| answer.status);
            let status = self.status_of(status, "a history is answered", user);
            self.note_asked(user, with, page_from, status);
            let Some(answer) = answer.filter(|_| status == Some(200)) else { break };
            let json = answer.json();
            let page = json.as_array().expect("an array").clone();
            let is_in_bound = |message: &Value| match bound {
                None => true,
                Some((_, next)) if forwards => id_of(message) > next,
                Some((_, next)) => id_of(message) < next,
            };
            if page.len() as u64 > limit || !page.iter().all(is_in_bound) {
                self.wrong("a page of a history keeps to its bounds", format!("{user} with {with:?}: {json}"));
            }
            if !page.iter().all(|message| self.is_of(message, user, with) || message["senderId"] == "mallory") {
                self.wrong("a history has one conversation", format!("{user} with {with:?}: {json}"));
            }
            if answer.has_more != answer.next.is_some() {
                self.wrong("a page of a history that has more says where to go on", format!("{user}: {json}"));
            }
            match forwards {
                true => messages.extend(page),
                false => drop(messages.splice(0..0, page)),
            }
            next = answer.next;
            if next.is_none() {
                is_whole = true;
                break;
            }
        }
        if !messages.is_sorted_by(|one, other| id_of(one) < id_of(other)) {
            let ids: Vec<&str> = messages.iter().map(id_of).collect();
            self.wrong("a history is sorted and repeats nothing", format!("{user} with {with:?}: {ids:?}"));
        }
        let during = During { from, to: self.world.now_ms() };
        let shown = Shown { user, with, during, messages: messages.clone(), is_whole };
        self.history.note(|notes| notes.shown.push(shown));
        is_whole.then_some(messages)
    }

    // ---------------------------------------------------------------------------------------------------------- lists
    /// Lists the conversations of a user. Returns nothing if there was no answer.
    async fn list(&self, user: User) -> Option<Vec<(To, Value)>> {
        let from = self.world.now_ms();
        let function = &functions::list_conversations::FUNCTION;
        let answer = self.call(function, "GET", user, ("", ""), &[], None).await;
        let status = answer.as_ref().map(|answer| answer.status);
        self.status_of(status, "a list of conversations is answered", user)?;
        let (during, answer) = (During { from, to: self.world.now_ms() }, answer?);
        if answer.has_more || answer.next.is_some() {
            self.wrong("a short list has one page", user.to_owned());
        }
        // The answer to the making of a group may be lost. Nobody here knows such a group.
        let address = |item: &Value| match item["userId"].as_str() {
            Some(other) => self.address(&json!({ "receiverId": other })),
            None => self.address(item),
        };
        let json = answer.json();
        let items = json.as_array().expect("an array").iter();
        let items: Vec<(To, Value)> = items.filter_map(|item| Some((address(item)?, item.clone()))).collect();
        for (with, item) in &items {
            let last = &item["last"];
            if last.is_null() {
                continue;
            }
            if !self.is_of(last, user, *with) && last["senderId"] != "mallory" {
                self.wrong("the last message is of its conversation", format!("{user}: {item}"));
            }
            let shown = Shown { user, with: *with, during, messages: vec![last.clone()], is_whole: false };
            self.history.note(|notes| notes.shown.push(shown));
        }
        self.history.note(|notes| notes.lists.push(Listed { user, during, items: items.clone() }));
        Some(items)
    }

    // -------------------------------------------------------------------------------------------------------- the end
    /// Reads all conversations of a user, when the index has every write. Checks that both directions give the same, and
    /// that the list agrees.
    pub(super) async fn check_conversations(&self, user: User) {
        let list = self.list(user).await.unwrap_or_default();
        let others = self.plan().users.iter().filter(|other| **other != user).map(|other| To::User(other));
        let groups = (0..self.groups.len()).map(To::Group);
        // A flood is long, so only the user reads it who blocks its sender.
        let is_long = self.plan().flooded && user != self.plan().users[0];
        for with in others.chain(groups).filter(|_| !is_long) {
            let forwards = self.look(user, with, true, MAX_PAGES).await;
            let backwards = self.look(user, with, false, MAX_PAGES).await;
            if forwards != backwards {
                let by = format!("{user} with {with:?}: {forwards:?} and {backwards:?}");
                self.wrong("a history is the same in both directions", by);
            }
            let item = list.iter().find(|(listed, _)| *listed == with).map(|(_, item)| item);
            if let (Some(item), Some(messages)) = (item, &backwards) {
                self.check_item(user, item, messages);
            }
        }
    }

    /// Checks an element of the list by the history of its conversation.
    fn check_item(&self, user: User, item: &Value, messages: &[Value]) {
        let last = messages.last().cloned().unwrap_or_default();
        if item["last"] != last {
            self.wrong("a list has the last message of each conversation", format!("{user}: {item}, and not {last}"));
        }
        let read_until = item["readUntil"].as_str().unwrap_or_default();
        let is_unread = |message: &&Value| {
            message["senderId"] != user && message.get("content").is_some() && id_of(message) > read_until
        };
        let unread = messages.iter().filter(is_unread).count();
        let told = item["unread"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        let is_right = match item["unreadMore"] == true {
            false => told == unread,
            // The work of one call is bounded. Only a flood reaches the bound.
            true => told <= unread.min(MAX_UNREAD) && (unread > MAX_UNREAD || self.plan().flooded),
        };
        if !is_right {
            self.wrong("a list counts the unread messages", format!("{user}: {item}, and {unread} are"));
        }
    }
}
