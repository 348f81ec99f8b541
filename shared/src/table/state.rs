//! The state of a user: their connections, what they have dropped, and the messages that they missed by name.
//!
//! One item, `USER#u` / `STATE`, with these attributes:
//! - `c#<connectionId>`: a map {announced, version?, from?, to?, clean?, ours?} for each connection; `known`: the set of their ids;
//! - `unicastUntil` and `multicastUntil`: the time up to which all messages of the kind are dropped;
//! - `tail`: the mark of the item with the messages that are dropped after that time, and those that blocks hold back;
//! - `missed`: the names of missed messages, a set of `u/<id>` and `g/<groupId>/<id>`;
//! - `version`: how often something was dropped, or a time uncovered that a drop might have passed; `uncovers`: the latter alone;
//! - `dropMarks`: the marks of the last drops, newest first; `user`: the id of the user;
//! - `limitedUntil`, `bannedUntil`: until when the user may not send, and until when they may do nothing.
//!
//! Every sender reads this item, and an item has at most 400 KB. So nothing in it grows without a limit: writes to `known`
//! and `missed` have the condition that there is room.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::calls::Table;
use super::item::{self, Item};
use super::keys;
use super::kind::{Held, MAX_HELD, MessageKind, MissedRef};
use super::pages::ShownPage;
use super::tails::{self, Tails};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{ConnectionId, UserId};
use crate::rules::coverage::Connection;
use crate::rules::dropped::{Dropped, Shown};
use crate::rules::forget::Forgettable;
use crate::rules::must_be_recorded::Receiver;

/// The most reads of a state whose tails are not there.
const MAX_READS: usize = 3;

/// The state of a user. The default is that of a user without an item.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The remembered connections.
    pub connections: BTreeMap<ConnectionId, Connection>,
    /// The dropped private messages.
    pub unicast: Dropped,
    /// The dropped group messages.
    pub multicast: Dropped,
    /// The messages that are missed by name.
    pub missed: BTreeSet<MissedRef>,
    /// The missed messages that blocks hold back. They are not read with the state, see [`Tails`].
    pub held: BTreeSet<Held>,
    /// The marks of the last drops, newest first.
    pub marks: Vec<String>,
    /// How often something was dropped, or a time uncovered that a drop might have passed.
    pub version: u64,
    /// How often a time was uncovered that a drop might have passed.
    pub uncovers: u64,
    /// The mark of the item that holds the tails. They are not read with the state, see [`Tails`].
    pub tail: Option<String>,
    /// Until when the user may not send, because they sent too much.
    pub limited_until: Option<Ms>,
    /// Until when the user is banned.
    pub banned_until: Option<Ms>,
}

impl State {
    /// Returns what is dropped of one kind.
    pub fn dropped(&self, kind: MessageKind) -> &Dropped {
        match kind {
            MessageKind::Unicast => &self.unicast,
            MessageKind::Multicast => &self.multicast,
        }
    }

    /// Returns what is dropped of one kind once these pages are dropped too.
    pub fn with_pages(&self, kind: MessageKind, pages: &[ShownPage]) -> Dropped {
        let shown = |page: &ShownPage| {
            let (_, shown) = page.kinds.iter().find(|(of, _)| *of == kind)?;
            let is_complete = page.uncovers == self.uncovers;
            Some(if is_complete { shown.clone() } else { Shown { floor: 0, ..shown.clone() } })
        };
        let mut all: Vec<Shown> = pages.iter().filter_map(shown).collect();
        all.sort_by_key(|shown| (shown.after, shown.floor));
        all.iter().fold(self.dropped(kind).clone(), |dropped, shown| dropped.with(shown))
    }

    /// Sets what the item of the tails has.
    pub fn set_tails(&mut self, tails: Tails) {
        (self.unicast.tail, self.multicast.tail, self.held) = (tails.unicast, tails.multicast, tails.held);
    }

    /// Returns the names of all messages that do not come by their time.
    pub fn names(&self) -> impl Iterator<Item = &MissedRef> {
        self.missed.iter().chain(self.held.iter().map(|held| &held.name))
    }

    /// Returns whether a message comes by its name.
    pub fn is_named(&self, name: &MissedRef) -> bool {
        self.missed.contains(name) || self.held.iter().any(|held| held.name == *name)
    }

    /// Returns what is held once these names are gone and these messages are added, as far as there is room.
    pub fn held_after(&self, gone: &BTreeSet<MissedRef>, added: impl Iterator<Item = Held>) -> BTreeSet<Held> {
        let mut held: BTreeSet<_> = self.held.iter().filter(|held| !gone.contains(&held.name)).cloned().collect();
        for one in added {
            if held.len() < MAX_HELD {
                held.insert(one);
            }
        }
        held
    }

    /// Returns whether the tails have room for so many more messages of these kinds.
    pub fn has_room_in_tails(&self, kinds: &[MessageKind], more: usize) -> bool {
        let length = |kind: MessageKind| self.dropped(kind).tail.ids.len();
        let with =
            |more_of: MessageKind| MessageKind::ALL.map(|kind| length(kind) + if kind == more_of { more } else { 0 });
        kinds.iter().all(|kind| tails::has_room(with(*kind)))
    }

    /// Returns the end of the user's ban, if they are banned.
    pub fn ban(&self, now: Ms) -> Option<Ms> {
        self.banned_until.filter(|until| *until > now)
    }

    /// Returns the connections to which messages are pushed.
    pub fn open(&self, now: Ms) -> impl Iterator<Item = (&ConnectionId, &Connection)> {
        self.connections.iter().filter(move |(_, connection)| connection.is_open(now))
    }

    /// Returns the connections to which frames of version 2 are pushed.
    pub fn open_of_version_2(&self, now: Ms) -> impl Iterator<Item = &ConnectionId> {
        self.open(now).filter(|(_, connection)| connection.version >= 2).map(|(id, _)| id)
    }

    /// Returns the connections that can be forgotten. No pull asks for a time before `oldest`.
    pub fn forgettable(&self, now: Ms, oldest: Ms) -> Forgettable {
        let needed_from = self.unicast.until.min(self.multicast.until).max(oldest);
        Forgettable::of(&self.connections, needed_from, now)
    }

    /// Returns the user as a receiver of a message of that kind.
    pub fn receiver(&self, kind: MessageKind, now: Ms) -> Receiver<'_> {
        Receiver { connections: &self.connections, dropped_until: self.dropped(kind).until, now }
    }

    pub(super) fn read(item: &Item) -> Result<Self> {
        let mut state = Self {
            unicast: read_until(item, MessageKind::Unicast)?,
            multicast: read_until(item, MessageKind::Multicast)?,
            version: item::read_optional_number(item, "version")?.unwrap_or(0),
            uncovers: item::read_optional_number(item, "uncovers")?.unwrap_or(0),
            limited_until: item::read_optional_number(item, "limitedUntil")?,
            banned_until: item::read_optional_number(item, "bannedUntil")?,
            tail: item.contains_key("tail").then(|| item::read_text(item, "tail")).transpose()?.map(str::to_owned),
            ..Self::default()
        };
        for text in item::read_set(item, "missed")? {
            state.missed.insert(MissedRef::decode(text).ok_or_else(|| item::corrupt("missed"))?);
        }
        state.marks = read_marks(item)?;
        for (name, value) in item {
            let Some(id) = name.strip_prefix("c#") else { continue };
            let map = value.as_m().map_err(|_| item::corrupt("c#"))?;
            state.connections.insert(ConnectionId::new(id), read_connection(map)?);
        }
        Ok(state)
    }
}

fn read_connection(map: &Item) -> Result<Connection> {
    Ok(Connection {
        announced: item::read_number(map, "announced")?,
        from: item::read_optional_number(map, "from")?,
        to: item::read_optional_number(map, "to")?,
        clean: map.contains_key("clean"),
        version: item::parsed("version", item::read_optional_number(map, "version")?.unwrap_or(1).try_into())?,
    })
}

/// Returns the marks of the last drops, newest first.
pub(super) fn read_marks(item: &Item) -> Result<Vec<String>> {
    let Some(marks) = item.get("dropMarks") else { return Ok(Vec::new()) };
    let marks = marks.as_l().map_err(|_| item::corrupt("dropMarks"))?;
    marks.iter().map(|mark| mark.as_s().cloned().map_err(|_| item::corrupt("dropMarks"))).collect()
}

fn read_until(item: &Item, kind: MessageKind) -> Result<Dropped> {
    let until = item::read_optional_number(item, kind.until())?.unwrap_or(0);
    Ok(Dropped { until, ..Dropped::default() })
}

impl Table {
    /// Returns the state of a user.
    pub async fn state(&self, user: &UserId) -> Result<State> {
        self.get(&keys::state(user)).await?.as_ref().map_or_else(|| Ok(State::default()), State::read)
    }

    /// Returns the state of a user among items that were read.
    pub(super) fn state_among(items: &[Item], user: &UserId) -> Result<State> {
        let key = keys::state(user);
        items.iter().find(|item| key.is_of(item)).map_or_else(|| Ok(State::default()), State::read)
    }

    /// Returns the state of a user with its tails.
    pub async fn state_with_tails(&self, user: &UserId) -> Result<State> {
        for read in 1.. {
            let mut state = self.state(user).await?;
            let Some(mark) = &state.tail else { return Ok(state) };
            let item = self.get(&keys::tails(user, mark)).await?;
            match item.as_ref().map(Tails::read).transpose()?.flatten() {
                Some(tails) => {
                    state.set_tails(tails);
                    return Ok(state);
                }
                None if read >= MAX_READS => {
                    // The tails have expired. If drops came in between instead, the drop that follows fails and retries.
                    state.tail = None;
                    return Ok(state);
                }
                None => {}
            }
        }
        unreachable!("the last read returns")
    }

    /// Returns the states of users, each with its own result: one may fail without the others.
    pub async fn states(&self, users: &[UserId]) -> BTreeMap<UserId, Result<State>> {
        let unread = || Err(Error::unavailable("BatchGetItem", "a state stays unprocessed"));
        let (items, left) = self.get_what_can_be_read(users.iter().map(keys::state).collect()).await;
        let mut of: HashMap<String, &UserId> = users.iter().map(|user| (keys::state(user).pk, user)).collect();
        let mut states = BTreeMap::new();
        for item in &items {
            if let Some(user) = item.get("pk").and_then(|pk| of.remove(pk.as_s().ok()?)) {
                states.insert(user.clone(), State::read(item));
            }
        }
        for key in left {
            if let Some(user) = of.remove(&key.pk) {
                states.insert(user.clone(), unread());
            }
        }
        states.extend(of.into_values().map(|user| (user.clone(), Ok(State::default()))));
        states
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    #[test]
    fn a_malformed_item_is_an_error_and_no_panic() {
        let item = HashMap::from([("missed".to_owned(), item::text("u/1"))]);
        assert!(State::read(&item).is_err());
        let item = HashMap::from([("c#x".to_owned(), AttributeValue::M(HashMap::new()))]);
        assert!(State::read(&item).is_err());
    }
}
