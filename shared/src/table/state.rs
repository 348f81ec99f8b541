//! The state of a user: when he was connected, what he has dropped, and which messages he missed by name.
//!
//! One item, `USER#u` / `STATE`. `c#<connectionId>` is a map {announced, from?, to?, clean?, ours?} for each connection,
//! and `known` is the set of their ids. Per kind of message, `<kind>Until` says up to when all is dropped; `tail` names
//! the item that holds what is dropped beyond. `missed` is a set of `u/<id>` and `g/<groupId>/<id>`. `version` counts the
//! drops.
//!
//! Every sender reads this item, and it has 400 KB at most, so nothing in it grows without a limit: `known` and `missed`
//! are added to on condition that they have room.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::item::{self, Item};
use super::keys::{self, Key};
use super::{MAX_ATTEMPTS, ShownPage, Table};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::frame::Address;
use crate::id::{ConnectionId, GroupId, MessageId, UserId};
use crate::rules::coverage::Connection;
use crate::rules::dropped::{Dropped, Shown};
use crate::rules::forget::Forgettable;
use crate::rules::must_be_recorded::Receiver;
use crate::rules::timing::STAMP_MS;

/// The most connections that one write forgets: an expression has a limit of its own.
const MAX_FORGOTTEN: usize = 100;

/// How many connections are remembered, those among them whose handshakes are under way or have failed: some 50 KB of the
/// item. Beyond, no handshake is let in.
pub const MAX_KNOWN: usize = 512;

/// How many connections one write uncovers: an expression has a limit of 4 KB.
const MAX_UNCOVERED: usize = 40;

/// So many messages may be dropped of those that are too young to be dropped with their time: 270 KB of the item that
/// holds them.
const MAX_TAIL: usize = 10_000;

/// How often a state is read that names tails which are not there.
const MAX_READS: usize = 3;

/// A kind of message, which a pull can ask for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// Private messages.
    Unicast,
    /// Group messages.
    Multicast,
}

impl MessageKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Unicast, Self::Multicast];

    /// The kind of a message in that log.
    pub fn of(log: &Address) -> Self {
        match log {
            Address::User(_) => Self::Unicast,
            Address::Group(_) => Self::Multicast,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Multicast => "multicast",
        }
    }

    fn until(self) -> &'static str {
        match self {
            Self::Unicast => "unicastUntil",
            Self::Multicast => "multicastUntil",
        }
    }

    fn tail(self) -> &'static str {
        match self {
            Self::Unicast => "unicastTail",
            Self::Multicast => "multicastTail",
        }
    }
}

/// A message that a user missed though some connection covers its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissedRef {
    /// The message. First, so that the order is that of time.
    pub id: MessageId,
    /// The group in whose log it is; none for the user's own.
    pub group: Option<GroupId>,
}

impl MissedRef {
    /// The message of that log.
    pub fn new(log: &Address, id: MessageId) -> Self {
        match log {
            Address::User(_) => Self { id, group: None },
            Address::Group(group) => Self { id, group: Some(group.clone()) },
        }
    }

    /// Its kind.
    pub fn kind(&self) -> MessageKind {
        if self.group.is_some() { MessageKind::Multicast } else { MessageKind::Unicast }
    }

    /// The log that it is in.
    pub fn log(&self, user: &UserId) -> Address {
        self.group.clone().map_or_else(|| Address::User(user.clone()), Address::Group)
    }

    pub(super) fn encode(&self) -> String {
        match &self.group {
            None => format!("u/{}", self.id),
            Some(group) => format!("g/{group}/{}", self.id),
        }
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let (log, id) = text.rsplit_once('/')?;
        let id = MessageId::parse(id).ok()?;
        match log.strip_prefix("g/") {
            Some(group) => Some(Self { id, group: Some(GroupId::parse(group).ok()?) }),
            None => (log == "u").then_some(Self { id, group: None }),
        }
    }
}

/// The state of a user. A user without an item has the default.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The connections that are remembered.
    pub connections: BTreeMap<ConnectionId, Connection>,
    /// What is dropped of the private messages.
    pub unicast: Dropped,
    /// What is dropped of the group messages.
    pub multicast: Dropped,
    /// What was missed by name.
    pub missed: BTreeSet<MissedRef>,
    /// How often something was dropped, or the time of a message uncovered.
    pub version: u64,
    /// How often the time of a message was uncovered.
    pub uncovers: u64,
    /// By what the item is known that holds the tails. They are not read with the state, see [`Tails`].
    pub tail: Option<String>,
}

/// Where it is written down that a message was missed.
#[derive(Debug, Clone, Copy)]
pub enum MissTarget<'a> {
    /// In the state of the user who missed it.
    Of(&'a UserId),
    /// In a decoy beside that state: the message is withheld from the receiver. See `withheld`.
    Withheld {
        /// From whom.
        receiver: &'a UserId,
        /// Who sent it.
        sender: &'a UserId,
    },
}

impl MissTarget<'_> {
    fn receiver(&self) -> &UserId {
        let (Self::Of(receiver) | Self::Withheld { receiver, .. }) = self;
        receiver
    }

    fn key(&self) -> Key {
        match self {
            Self::Of(user) => keys::state(user),
            Self::Withheld { receiver, sender } => keys::withheld(receiver, "STATE", sender),
        }
    }

    /// The change that writes the names `:missed`.
    fn change(&self) -> &'static str {
        match self {
            Self::Of(_) => "ADD missed :missed SET #user = :user",
            Self::Withheld { .. } => "SET decoy = :missed, #user = :user",
        }
    }
}

impl State {
    /// What is dropped of one kind.
    pub fn dropped(&self, kind: MessageKind) -> &Dropped {
        match kind {
            MessageKind::Unicast => &self.unicast,
            MessageKind::Multicast => &self.multicast,
        }
    }

    /// What is dropped of one kind once pages are dropped as well.
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

    /// The connections that are pushed to.
    pub fn open(&self, now: Ms) -> impl Iterator<Item = (&ConnectionId, &Connection)> {
        self.connections.iter().filter(move |(_, connection)| connection.is_open(now))
    }

    /// The connections that need not be remembered any more; nothing from before `oldest` is asked for.
    pub fn forgettable(&self, now: Ms, oldest: Ms) -> Forgettable {
        let needed_from = self.unicast.until.min(self.multicast.until).max(oldest);
        Forgettable::of(&self.connections, needed_from, now)
    }

    /// The user as a receiver of a message of that kind.
    pub fn receiver(&self, kind: MessageKind, now: Ms) -> Receiver<'_> {
        Receiver { connections: &self.connections, dropped_until: self.dropped(kind).until, now }
    }

    fn read(item: &Item) -> Result<Self> {
        let mut state = Self {
            unicast: read_until(item, MessageKind::Unicast)?,
            multicast: read_until(item, MessageKind::Multicast)?,
            version: item::read_optional_number(item, "version")?.unwrap_or(0),
            uncovers: item::read_optional_number(item, "uncovers")?.unwrap_or(0),
            tail: item.contains_key("tail").then(|| item::read_text(item, "tail")).transpose()?.map(str::to_owned),
            ..Self::default()
        };
        for text in item::read_set(item, "missed")? {
            state.missed.insert(MissedRef::decode(text).ok_or_else(|| item::corrupt("missed"))?);
        }
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
    })
}

fn read_until(item: &Item, kind: MessageKind) -> Result<Dropped> {
    let until = item::read_optional_number(item, kind.until())?.unwrap_or(0);
    Ok(Dropped { until, tail: BTreeSet::new() })
}

/// What is dropped beyond the time up to which all is, of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tails {
    /// By what the item is known.
    pub mark: String,
    /// Of private messages.
    pub unicast: BTreeSet<MessageId>,
    /// Of group messages.
    pub multicast: BTreeSet<MessageId>,
}

impl Tails {
    fn len(&self) -> usize {
        self.unicast.len() + self.multicast.len()
    }

    /// The tails that an item holds, if it is one that holds tails.
    pub(super) fn read(item: &Item) -> Result<Option<Self>> {
        if !item.contains_key("tailMark") {
            return Ok(None);
        }
        let ids = |kind: MessageKind| {
            let ids = item::read_set(item, kind.tail())?.iter().map(|id| MessageId::parse(id));
            item::parsed(kind.tail(), ids.collect())
        };
        let mark = item::read_text(item, "tailMark")?.to_owned();
        Ok(Some(Self { mark, unicast: ids(MessageKind::Unicast)?, multicast: ids(MessageKind::Multicast)? }))
    }
}

/// What one drop writes.
#[derive(Debug, Default)]
pub struct DropPlan {
    /// The version that the pull started from.
    pub version: u64,
    /// What this drop is known by: a write whose answer was lost is seen to be our own.
    pub mark: String,
    /// Up to when all is then dropped, of the kinds that were pulled.
    pub until: Vec<(MessageKind, Ms)>,
    /// What is then dropped beyond, of both kinds. Nothing if that stays as it is.
    pub tails: Option<Tails>,
    /// By what the item with the present tails is known.
    pub old_tail: Option<String>,
    /// What is then no longer missed by name.
    pub no_longer_missed: Vec<MissedRef>,
    /// What is then forgotten of the connections.
    pub forgotten: Forgettable,
}

impl DropPlan {
    /// Whether there is room for what it drops beyond the time up to which everything is.
    pub fn fits(&self) -> bool {
        self.tails.as_ref().is_none_or(|tails| tails.len() <= MAX_TAIL)
    }
}

/// What became of an announcement.
#[derive(Debug)]
pub enum Announced {
    /// It is pushed to from now on. The state with it.
    Yes(State),
    /// Too many connections are remembered. The state without it.
    NoRoom(State),
}

impl Table {
    /// The state of a user.
    pub async fn state(&self, user: &UserId) -> Result<State> {
        self.get(&keys::state(user)).await?.as_ref().map_or_else(|| Ok(State::default()), State::read)
    }

    /// The state of a user with its tails.
    pub async fn state_with_tails(&self, user: &UserId) -> Result<State> {
        for read in 1.. {
            let mut state = self.state(user).await?;
            let Some(mark) = &state.tail else { return Ok(state) };
            let item = self.get(&keys::tails(user, mark)).await?;
            match item.as_ref().map(Tails::read).transpose()?.flatten() {
                Some(tails) => {
                    (state.unicast.tail, state.multicast.tail) = (tails.unicast, tails.multicast);
                    return Ok(state);
                }
                None if read >= MAX_READS => {
                    // It has expired. If drops came in between instead, the drop that follows fails and starts again.
                    state.tail = None;
                    return Ok(state);
                }
                None => {}
            }
        }
        unreachable!("the last read returns")
    }

    /// The states of users, each by itself: that one can not be read says nothing of the others.
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

    /// Announce a connection: from now on it is pushed to. Once more, it changes nothing: the SDK repeats a write whose
    /// answer was lost.
    pub async fn announce(&self, user: &UserId, connection: &ConnectionId, now: Ms) -> Result<Announced> {
        let map = HashMap::from([("announced".to_owned(), item::number(now))]);
        let update = self
            .update(&keys::state(user))
            .update_expression("SET #c = if_not_exists(#c, :c), #user = :user ADD known :known")
            .condition_expression("attribute_not_exists(known) OR size(known) < :most OR contains(known, :id)")
            .expression_attribute_names("#c", connection_name(connection))
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":c", AttributeValue::M(map))
            .expression_attribute_values(":user", item::text(user.as_str()))
            .expression_attribute_values(":known", known([connection]))
            .expression_attribute_values(":id", item::text(connection.as_str()))
            .expression_attribute_values(":most", item::number(MAX_KNOWN))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(answer) => State::read(&answer.attributes.unwrap_or_default()).map(Announced::Yes),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    State::read(failed.item().unwrap_or(&HashMap::new())).map(Announced::NoRoom)
                }
                _ => Err(Error::unavailable("UpdateItem", error)),
            },
        }
    }

    /// Stamp a connection: it covers from that time on. Whether it was still announced, and not closed. Once more, it
    /// changes nothing: what a sender has uncovered since stays so.
    pub async fn stamp(&self, user: &UserId, connection: &ConnectionId, from: Ms) -> Result<bool> {
        let open = "attribute_exists(#c) AND attribute_not_exists(#c.#to)";
        let key = keys::state(user);
        self.set_on_connection(
            &key,
            connection,
            "SET #c.#from = if_not_exists(#c.#from, :time)",
            open,
            &["from", "to"],
            from,
        )
        .await
    }

    /// Write down that the gateway does not know a connection any more, unless its end is known.
    pub async fn mark_gone(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let expression = "SET #c.#to = if_not_exists(#c.#to, :time)";
        let key = keys::state(user);
        self.set_on_connection(&key, connection, expression, "attribute_exists(#c)", &["to"], to).await
    }

    /// Write down that a connection was closed by us: its client did not, whatever the gateway says.
    pub async fn mark_closed(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let expression = "SET #c.#to = if_not_exists(#c.#to, :time), #c.#ours = :time REMOVE #c.#clean";
        let key = keys::state(user);
        self.set_on_connection(&key, connection, expression, "attribute_exists(#c)", &["to", "ours", "clean"], to).await
    }

    /// Write down when a connection ended, and whether its client closed it. An end that is known may become earlier, and
    /// never later: senders may have seen the time behind it as uncovered.
    pub async fn mark_ended(&self, user: &UserId, connection: &ConnectionId, to: Ms, clean: bool) -> Result<()> {
        let key = keys::state(user);
        let is_later = "attribute_exists(#c) AND (attribute_not_exists(#c.#to) OR #c.#to > :time)";
        let is_ours = "attribute_exists(#c.#ours)";
        if !clean {
            self.set_on_connection(&key, connection, "SET #c.#to = :time", is_later, &["to"], to).await?;
            return Ok(());
        }
        let (change, condition) = ("SET #c.#to = :time, #c.#clean = :time", format!("{is_later} AND NOT {is_ours}"));
        if self.set_on_connection(&key, connection, change, &condition, &["to", "clean", "ours"], to).await? {
            return Ok(());
        }
        let condition = format!("attribute_exists(#c) AND NOT {is_ours}");
        let change = "SET #c.#clean = :time";
        self.set_on_connection(&key, connection, change, &condition, &["clean", "ours"], to).await.map(|_| ())
    }

    /// Let a connection cover only from that time on.
    async fn uncover_until(&self, user: &UserId, connection: &ConnectionId, from: Ms) -> Result<bool> {
        // Never back: what a sender uncovered stays so.
        let condition = "attribute_exists(#c) AND #c.#from < :time";
        self.set_on_connection(&keys::state(user), connection, "SET #c.#from = :time", condition, &["from"], from).await
    }

    /// `attributes` are those of the connection that the two texts name, each as `#name`.
    async fn set_on_connection(
        &self,
        state: &Key,
        connection: &ConnectionId,
        expression: &str,
        condition: &str,
        attributes: &[&str],
        time: Ms,
    ) -> Result<bool> {
        let mut update = self
            .update(state)
            .update_expression(expression)
            .condition_expression(condition)
            .expression_attribute_names("#c", connection_name(connection))
            .expression_attribute_values(":time", item::number(time));
        for name in attributes {
            update = update.expression_attribute_names(format!("#{name}"), *name);
        }
        Ok(self.conditionally("UpdateItem", || update.clone().send()).await?.is_some())
    }

    /// Forgets connections, after it has uncovered what others then no longer cover.
    pub async fn forget(&self, user: &UserId, forgotten: &Forgettable) -> Result<()> {
        let connections = first_forgotten(forgotten);
        if connections.is_empty() {
            return Ok(());
        }
        self.uncover_all(user, &forgotten.uncovered).await?;
        let (removals, names) = forgetting(connections);
        let update = self
            .update(&keys::state(user))
            .update_expression(format!("REMOVE {removals} DELETE known :known"))
            .expression_attribute_values(":known", known(connections))
            .set_expression_attribute_names(Some(names));
        update.send().await.map(|_| ()).map_err(|error| Error::unavailable("UpdateItem", error))
    }

    async fn uncover_all(&self, user: &UserId, uncovered: &[(ConnectionId, Ms)]) -> Result<()> {
        for (connection, from) in uncovered {
            self.uncover_until(user, connection, *from).await?;
        }
        Ok(())
    }

    /// Write down that a user missed a message, whose time `state`, which is theirs, hides from pulls.
    ///
    /// When there are too many names already, the time of the message is uncovered instead: a later pull then finds it by
    /// its time, and may repeat what lies beside it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if neither could be done: the message must not be acknowledged.
    pub async fn add_missed(&self, books: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<()> {
        if state.missed.len() < self.max_missed_names && self.add_name(books, missed).await? {
            return Ok(());
        }
        self.uncover(books, missed, state).await
    }

    /// Whether there was room for the name.
    async fn add_name(&self, books: MissTarget<'_>, missed: &MissedRef) -> Result<bool> {
        let update = self
            .update(&books.key())
            .update_expression(books.change())
            .condition_expression("attribute_not_exists(missed) OR size(missed) < :most OR contains(missed, :name)")
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":user", item::text(books.receiver().as_str()))
            .expression_attribute_values(":missed", AttributeValue::Ss(vec![missed.encode()]))
            .expression_attribute_values(":name", item::text(missed.encode()))
            .expression_attribute_values(":most", item::number(self.max_missed_names));
        Ok(self.conditionally("UpdateItem", || update.clone().send()).await?.is_some())
    }

    /// Let a pull find the time of a message: no connection covers it, and it is not among what is dropped by time.
    async fn uncover(&self, books: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<()> {
        let receiver = books.receiver();
        tracing::warn!(%receiver, "too many messages are missed by name; the time of another is uncovered instead");
        let mut state = state.clone();
        for attempt in 0..2 * MAX_ATTEMPTS {
            let written = self.uncover_some(books, missed, &state).await?;
            // A decoy has no connections, so its write changes nothing.
            if written == Some(0) || matches!(books, MissTarget::Withheld { .. }) {
                return Ok(());
            }
            if written.is_none() {
                self.pause(attempt).await;
            }
            state = self.state(receiver).await?;
        }
        Err(Error::unavailable("uncovering the time of a message", "a state keeps changing"))
    }

    /// Uncover the time of a message on some connections: how many are left. Nothing if the state has changed.
    async fn uncover_some(&self, books: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<Option<usize>> {
        let (time, now) = (missed.id.time_ms(), self.clock.now_ms());
        // A pull that has read the state before may be about to drop that time: it starts again.
        let mut sets = ["#version = :next", "uncovers = :uncovers", "#user = :user"].map(str::to_owned).to_vec();
        let never_dropped = if state.version == 0 { "attribute_not_exists(#version) OR " } else { "" };
        let mut conditions = vec![format!("({never_dropped}#version = :version)")];
        let mut names =
            HashMap::from([("#user", "user"), ("#version", "version")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let mut values = HashMap::from([
            (":next".to_owned(), item::number(state.version + 1)),
            (":version".to_owned(), item::number(state.version)),
            (":uncovers".to_owned(), item::number(state.uncovers + 1)),
            (":user".to_owned(), item::text(books.receiver().as_str())),
        ]);
        if time <= state.dropped(missed.kind()).until {
            sets.push(format!("{} = :until", missed.kind().until()));
            values.insert(":until".to_owned(), item::number(time.saturating_sub(1)));
        }
        let hiding: Vec<_> = state.connections.iter().filter(|(_, connection)| connection.hides(time, now)).collect();
        for (number, (id, connection)) in hiding.iter().take(MAX_UNCOVERED).enumerate() {
            names.insert("#from".to_owned(), "from".to_owned());
            names.insert(format!("#c{number}"), connection_name(id));
            // One that is being opened covers from here on, as if it had been stamped so.
            let earliest = if connection.from.is_some() { 0 } else { connection.announced.saturating_add(STAMP_MS) };
            values.insert(format!(":from{number}"), item::number(time.saturating_add(1).max(earliest)));
            sets.push(format!("#c{number}.#from = :from{number}"));
            match connection.from {
                Some(from) => {
                    values.insert(format!(":was{number}"), item::number(from));
                    conditions.push(format!("#c{number}.#from = :was{number}"));
                }
                None => {
                    conditions.push(format!("attribute_exists(#c{number}) AND attribute_not_exists(#c{number}.#from)"));
                }
            }
        }
        let update = self
            .update(&books.key())
            .update_expression(format!("SET {}", sets.join(", ")))
            .condition_expression(conditions.join(" AND "))
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values));
        let written = self.conditionally("UpdateItem", || update.clone().send()).await?;
        Ok(written.map(|_| hiding.len().saturating_sub(MAX_UNCOVERED)))
    }

    /// Drop what a pull returned, unless another drop came in between: then nothing is dropped, and the answer is false.
    ///
    /// # Errors
    /// [`Error::Unavailable`], also where more young messages would be dropped than an item has room for: half a minute
    /// later they are not young any more.
    pub async fn drop_missed(&self, user: &UserId, plan: &DropPlan) -> Result<bool> {
        self.uncover_all(user, &plan.forgotten.uncovered).await?;
        let tail = match &plan.tails {
            // The state names it only once it is there.
            Some(tails) => self.put_tails(user, tails).await?.then(|| tails.mark.clone()),
            None => plan.old_tail.clone(),
        };
        let dropped = self.write_drop(user, plan, tail.as_deref()).await?;
        let (kept, over) = if dropped { (&tail, &plan.old_tail) } else { (&plan.old_tail, &tail) };
        if let Some(mark) = over.as_ref().filter(|mark| Some(*mark) != kept.as_ref()) {
            self.delete_tails(user, std::slice::from_ref(mark)).await.unwrap_or_else(|error| {
                tracing::warn!(error = error.chain(), "a tail that nothing names was left; a pull deletes it");
            });
        }
        Ok(dropped)
    }

    /// Put the item with the tails. Whether there is anything in it.
    async fn put_tails(&self, user: &UserId, tails: &Tails) -> Result<bool> {
        match tails.len() {
            0 => return Ok(false),
            1..=MAX_TAIL => {}
            _ => return Err(Error::unavailable("dropping messages", "too many of the last half minute")),
        }
        let mut item = keys::tails(user, &tails.mark).attributes();
        item.insert("tailMark".to_owned(), item::text(&tails.mark));
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), self.retention_ms()));
        for (kind, ids) in [(MessageKind::Unicast, &tails.unicast), (MessageKind::Multicast, &tails.multicast)] {
            if !ids.is_empty() {
                let ids = ids.iter().map(ToString::to_string).collect();
                item.insert(kind.tail().to_owned(), AttributeValue::Ss(ids));
            }
        }
        self.put(item).send().await.map_err(|error| Error::unavailable("PutItem", error))?;
        Ok(true)
    }

    /// Delete items with tails that the state does not name.
    pub async fn delete_tails(&self, user: &UserId, marks: &[String]) -> Result<()> {
        self.delete_all(marks.iter().map(|mark| keys::tails(user, mark)).collect()).await
    }

    async fn write_drop(&self, user: &UserId, plan: &DropPlan, tail: Option<&str>) -> Result<bool> {
        let fixed = ["#version = :next", "dropMark = :mark", "#user = :user"];
        let (mut sets, mut removals, mut deletions) = (fixed.map(str::to_owned).to_vec(), Vec::new(), Vec::new());
        let mut names =
            HashMap::from([("#user", "user"), ("#version", "version")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let mut values = HashMap::from([
            (":next".to_owned(), item::number(plan.version + 1)),
            (":version".to_owned(), item::number(plan.version)),
            (":mark".to_owned(), item::text(&plan.mark)),
            (":user".to_owned(), item::text(user.as_str())),
        ]);
        for (kind, until) in &plan.until {
            sets.push(format!("{0} = :{0}", kind.until()));
            values.insert(format!(":{}", kind.until()), item::number(until));
        }
        match tail {
            Some(tail) => {
                sets.push("tail = :tail".to_owned());
                values.insert(":tail".to_owned(), item::text(tail));
            }
            None => removals.push("tail".to_owned()),
        }
        let forgotten = first_forgotten(&plan.forgotten);
        if !forgotten.is_empty() {
            let (paths, forgotten_names) = forgetting(forgotten);
            removals.push(paths);
            names.extend(forgotten_names);
            deletions.push("known :known");
            values.insert(":known".to_owned(), known(forgotten));
        }
        if !plan.no_longer_missed.is_empty() {
            deletions.push("missed :missed");
            let missed = plan.no_longer_missed.iter().map(MissedRef::encode).collect();
            values.insert(":missed".to_owned(), AttributeValue::Ss(missed));
        }
        let mut expression = format!("SET {}", sets.join(", "));
        for (clause, parts) in [(" REMOVE ", removals.join(", ")), (" DELETE ", deletions.join(", "))] {
            if !parts.is_empty() {
                expression.push_str(&format!("{clause}{parts}"));
            }
        }
        let never_dropped = if plan.version == 0 { "attribute_not_exists(#version) OR " } else { "" };
        let update = self
            .update(&keys::state(user))
            .update_expression(expression)
            .condition_expression(format!("{never_dropped}#version = :version"))
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(Some(values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = update.send().await else { return Ok(true) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                let mark = failed.item().and_then(|item| item.get("dropMark")?.as_s().ok());
                Ok(mark == Some(&plan.mark))
            }
            _ => Err(Error::unavailable("UpdateItem", error)),
        }
    }
}

/// The value of `known` with these connections.
fn known<'a>(connections: impl IntoIterator<Item = &'a ConnectionId>) -> AttributeValue {
    AttributeValue::Ss(connections.into_iter().map(|id| id.as_str().to_owned()).collect())
}

fn connection_name(connection: &ConnectionId) -> String {
    format!("c#{connection}")
}

/// The connections that one write forgets.
fn first_forgotten(forgotten: &Forgettable) -> &[ConnectionId] {
    &forgotten.connections[..forgotten.connections.len().min(MAX_FORGOTTEN)]
}

/// The paths that a REMOVE names, and their names.
fn forgetting(connections: &[ConnectionId]) -> (String, HashMap<String, String>) {
    let names = connections.iter().enumerate().map(|(i, c)| (format!("#c{i}"), connection_name(c))).collect();
    let paths: Vec<String> = (0..connections.len()).map(|i| format!("#c{i}")).collect();
    (paths.join(", "), names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_message_is_read_back_as_it_was_written() {
        let id = MessageId::first_at(1_764_000_000_000);
        for group in [None, Some(GroupId::parse("a:b@c").unwrap())] {
            let missed = MissedRef { id, group };
            assert_eq!(MissedRef::decode(&missed.encode()), Some(missed));
        }
        for wrong in ["", "u", "u/1", &format!("x/{id}"), &format!("g//{id}"), &format!("g/a b/{id}")] {
            assert_eq!(MissedRef::decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_item_that_is_not_ours_is_an_error_and_no_panic() {
        let item = HashMap::from([("missed".to_owned(), item::text("u/1"))]);
        assert!(State::read(&item).is_err());
        let item = HashMap::from([("c#x".to_owned(), AttributeValue::M(HashMap::new()))]);
        assert!(State::read(&item).is_err());
    }
}
