//! The state of a user: when he was connected, what he has dropped, and which messages he missed by name.
//!
//! One item, `USER#u` / `STATE`. `c#<connectionId>` is a map {announced, from?, to?} for each connection. Per kind of
//! message, `<kind>Until` and `<kind>Tail` say what is dropped. `missed` is a set of `u/<id>` and `g/<groupId>/<id>`.
//! `version` counts the drops.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::Table;
use super::item::{self, Item};
use super::keys::{self, Key};
use crate::clock::Ms;
use crate::coverage::{Connection, MARGIN_MS};
use crate::error::{Error, Result};
use crate::frame::Address;
use crate::id::{ConnectionId, GroupId, MessageId, UserId};
use crate::page::Dropped;

/// The most connections that one write forgets: an expression has a limit of its own.
const MAX_FORGOTTEN: usize = 100;

/// How many connections that have ended are remembered: some 16 KB of the item.
pub const MAX_ENDED: usize = 256;

/// A kind of message, which a pull can ask for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Private messages.
    Unicast,
    /// Group messages.
    Multicast,
}

impl Kind {
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
pub struct Missed {
    /// The message. First, so that the order is that of time.
    pub id: MessageId,
    /// The group in whose log it is; none for the user's own.
    pub group: Option<GroupId>,
}

impl Missed {
    /// The message of that log.
    pub fn new(log: &Address, id: MessageId) -> Self {
        match log {
            Address::User(_) => Self { id, group: None },
            Address::Group(group) => Self { id, group: Some(group.clone()) },
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        if self.group.is_some() { Kind::Multicast } else { Kind::Unicast }
    }

    /// The log that it is in.
    pub fn log(&self, user: &UserId) -> Address {
        self.group.clone().map_or_else(|| Address::User(user.clone()), Address::Group)
    }

    fn encode(&self) -> String {
        match &self.group {
            None => format!("u/{}", self.id),
            Some(group) => format!("g/{group}/{}", self.id),
        }
    }

    fn decode(text: &str) -> Option<Self> {
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
    pub missed: BTreeSet<Missed>,
    /// How often something was dropped.
    pub version: u64,
}

/// Where it is written down that a message was missed.
#[derive(Debug, Clone, Copy)]
pub enum Books<'a> {
    /// In the state of the one who missed it.
    Of(&'a UserId),
    /// Nowhere: it is withheld from him. The same is written with its sender, see `withheld`.
    Withheld(&'a UserId),
}

impl Books<'_> {
    fn key(self) -> Key {
        match self {
            Self::Of(user) => keys::state(user),
            Self::Withheld(sender) => keys::withheld(sender, "STATE"),
        }
    }

    /// The change that writes the name `:missed`.
    fn change(self) -> &'static str {
        match self {
            Self::Of(_) => "ADD missed :missed SET #user = :user",
            Self::Withheld(_) => "SET missed = :missed, #user = :user",
        }
    }
}

/// So many messages may be dropped of those that are too young to be dropped with their time, of each kind: some 100 KB
/// of the item.
const MAX_TAIL: usize = 4_000;

impl State {
    /// What is dropped of one kind.
    pub fn dropped(&self, kind: Kind) -> &Dropped {
        match kind {
            Kind::Unicast => &self.unicast,
            Kind::Multicast => &self.multicast,
        }
    }

    /// The connections that are pushed to.
    pub fn open(&self, now: Ms) -> impl Iterator<Item = (&ConnectionId, &Connection)> {
        self.connections.iter().filter(move |(_, connection)| connection.is_open(now))
    }

    /// The connections that no longer say anything: handshakes that failed, and what ended before everything that a
    /// pull may still ask for. Of the others the newest [`MAX_ENDED`] are kept; where an older one is forgotten, a
    /// pull may repeat what that one took.
    pub fn forgettable(&self, now: Ms, oldest: Ms) -> Vec<ConnectionId> {
        let needed_from = self.unicast.until.min(self.multicast.until).max(oldest);
        let mut ended: Vec<(Ms, &ConnectionId)> = Vec::new();
        let mut forgettable = Vec::new();
        for (id, connection) in &self.connections {
            match connection.span() {
                None if connection.to.is_some() || connection.is_settled(now) => forgettable.push(id.clone()),
                Some(span) if span.to < needed_from => forgettable.push(id.clone()),
                Some(span) if span.to < now => ended.push((span.to, id)),
                _ => {}
            }
        }
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(MAX_ENDED);
        forgettable.extend(ended[..surplus].iter().map(|(_, id)| (*id).clone()));
        forgettable
    }

    fn read(item: &Item) -> Result<Self> {
        let mut state = Self {
            unicast: read_dropped(item, Kind::Unicast)?,
            multicast: read_dropped(item, Kind::Multicast)?,
            version: item::read_optional_number(item, "version")?.unwrap_or(0),
            ..Self::default()
        };
        for text in item::read_set(item, "missed")? {
            state.missed.insert(Missed::decode(text).ok_or_else(|| item::corrupt("missed"))?);
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
    })
}

fn read_dropped(item: &Item, kind: Kind) -> Result<Dropped> {
    let until = item::read_optional_number(item, kind.until())?.unwrap_or(0);
    let tail = item::read_set(item, kind.tail())?.iter().map(|id| MessageId::parse(id));
    Ok(Dropped { until, tail: item::parsed(kind.tail(), tail.collect())? })
}

/// What one drop writes.
#[derive(Debug, Default)]
pub struct DropPlan {
    /// The version that the pull started from.
    pub version: u64,
    /// What this drop is known by: a write whose answer was lost is seen to be our own.
    pub mark: String,
    /// What is then dropped, of the kinds that were pulled.
    pub dropped: Vec<(Kind, Dropped)>,
    /// What is then no longer missed by name.
    pub no_longer_missed: Vec<Missed>,
    /// Closed connections that nothing asks for any more.
    pub forgotten: Vec<ConnectionId>,
}

impl Table {
    /// The state of a user.
    pub async fn state(&self, user: &UserId) -> Result<State> {
        self.get(&keys::state(user)).await?.as_ref().map_or_else(|| Ok(State::default()), State::read)
    }

    /// The states of users.
    pub async fn states(&self, users: &[UserId]) -> Result<BTreeMap<UserId, State>> {
        let items = self.get_all(users.iter().map(keys::state).collect()).await?;
        let mut states: BTreeMap<_, _> = users.iter().map(|user| (user.clone(), State::default())).collect();
        for item in &items {
            let user = item::parsed("user", UserId::parse(item::read_text(item, "user")?))?;
            states.insert(user, State::read(item)?);
        }
        Ok(states)
    }

    /// Announce a connection: from now on it is pushed to. Answers the state with it. Once more, it changes nothing: the
    /// SDK repeats a write whose answer was lost.
    pub async fn announce(&self, user: &UserId, connection: &ConnectionId, now: Ms) -> Result<State> {
        let map = HashMap::from([("announced".to_owned(), item::number(now))]);
        let update = self
            .update(&keys::state(user))
            .update_expression("SET #c = if_not_exists(#c, :c), #user = :user")
            .expression_attribute_names("#c", connection_name(connection))
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":c", AttributeValue::M(map))
            .expression_attribute_values(":user", item::text(user.as_str()))
            .return_values(ReturnValue::AllNew);
        let answer = update.send().await.map_err(|error| Error::unavailable("UpdateItem", error))?;
        State::read(&answer.attributes.unwrap_or_default())
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

    /// Close a connection in the books, if that has not been done before.
    pub async fn close(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let expression = "SET #c.#to = if_not_exists(#c.#to, :time)";
        let key = keys::state(user);
        self.set_on_connection(&key, connection, expression, "attribute_exists(#c)", &["to"], to).await
    }

    /// Let a connection cover only what comes after that time.
    async fn uncover(&self, books: &Key, connection: &ConnectionId, time: Ms) -> Result<bool> {
        // Never back: what another sender uncovered stays so.
        let condition = "attribute_exists(#c) AND #c.#from < :time";
        let from = time.saturating_add(1);
        self.set_on_connection(books, connection, "SET #c.#from = :time", condition, &["from"], from).await
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

    /// Forget connections.
    pub async fn forget(&self, user: &UserId, connections: &[ConnectionId]) -> Result<()> {
        let connections = &connections[..connections.len().min(MAX_FORGOTTEN)];
        if connections.is_empty() {
            return Ok(());
        }
        let (removals, names) = forgetting(connections);
        let update = self.update(&keys::state(user)).update_expression(format!("REMOVE {removals}"));
        let update = update.set_expression_attribute_names(Some(names));
        update.send().await.map(|_| ()).map_err(|error| Error::unavailable("UpdateItem", error))
    }

    /// Write down that a user missed a message, whose time `state`, which is his, says to be covered.
    ///
    /// When there are too many names already, the time up to the message is uncovered instead, since the item has room for
    /// connections and tails as well: a later pull then finds the message in a gap, and may repeat what lies beside it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if neither could be done: the message must not be acknowledged.
    pub async fn add_missed(&self, books: Books<'_>, missed: &Missed, state: &State) -> Result<()> {
        if state.missed.len() >= self.max_missed_names && self.uncover_time(books, missed.id.time_ms(), state).await? {
            return Ok(());
        }
        let (Books::Of(user) | Books::Withheld(user)) = books;
        let update = self
            .update(&books.key())
            .update_expression(books.change())
            .expression_attribute_names("#user", "user")
            .expression_attribute_values(":user", item::text(user.as_str()))
            .expression_attribute_values(":missed", AttributeValue::Ss(vec![missed.encode()]));
        update.send().await.map(|_| ()).map_err(|error| Error::unavailable("UpdateItem", error))
    }

    /// Let no connection cover that time. Whether a gap then holds it; not if it is covered by a connection that is
    /// still being opened, or has been dropped, or may be by now.
    async fn uncover_time(&self, books: Books<'_>, time: Ms, state: &State) -> Result<bool> {
        let is_opening = state.connections.values().any(|connection| connection.from.is_none());
        // A pull that has read the state before this is written may drop all that is older than the margin.
        let is_old = self.clock.now_ms() > time.saturating_add(MARGIN_MS / 2);
        if is_opening || is_old || time <= state.unicast.until.max(state.multicast.until) {
            return Ok(false);
        }
        tracing::warn!(?books, "too many messages are missed by name; uncovering the time of another instead");
        for (connection, _) in
            state.connections.iter().filter(|(_, c)| c.span().is_some_and(|span| span.contains(time)))
        {
            // Where the books are not his there is no such connection, and nothing changes.
            self.uncover(&books.key(), connection, time).await?;
        }
        Ok(true)
    }

    /// Drop what a pull returned, unless another drop came in between: then nothing is written, and the answer is false.
    ///
    /// # Errors
    /// [`Error::Unavailable`], also where more young messages would be dropped than the item has room for: half a minute
    /// later they are not young any more.
    pub async fn drop_missed(&self, user: &UserId, plan: &DropPlan) -> Result<bool> {
        if plan.dropped.iter().any(|(_, dropped)| dropped.tail.len() > MAX_TAIL) {
            return Err(Error::unavailable("dropping messages", "too many of the last half minute"));
        }
        let fixed = ["#version = :next", "dropMark = :mark", "#user = :user"];
        let (mut sets, mut removals) = (fixed.map(str::to_owned).to_vec(), Vec::new());
        let mut names =
            HashMap::from([("#user", "user"), ("#version", "version")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let mut values = HashMap::from([
            (":next".to_owned(), item::number(plan.version + 1)),
            (":version".to_owned(), item::number(plan.version)),
            (":mark".to_owned(), item::text(&plan.mark)),
            (":user".to_owned(), item::text(user.as_str())),
        ]);
        for (kind, dropped) in &plan.dropped {
            sets.push(format!("{0} = :{0}", kind.until()));
            values.insert(format!(":{}", kind.until()), item::number(dropped.until));
            if dropped.tail.is_empty() {
                removals.push(kind.tail().to_owned());
            } else {
                sets.push(format!("{0} = :{0}", kind.tail()));
                let tail = dropped.tail.iter().map(ToString::to_string).collect();
                values.insert(format!(":{}", kind.tail()), AttributeValue::Ss(tail));
            }
        }
        if !plan.forgotten.is_empty() {
            let (forgotten, forgotten_names) = forgetting(&plan.forgotten[..plan.forgotten.len().min(MAX_FORGOTTEN)]);
            removals.push(forgotten);
            names.extend(forgotten_names);
        }
        let mut expression = format!("SET {}", sets.join(", "));
        if !removals.is_empty() {
            expression.push_str(&format!(" REMOVE {}", removals.join(", ")));
        }
        if !plan.no_longer_missed.is_empty() {
            expression.push_str(" DELETE missed :missed");
            let missed = plan.no_longer_missed.iter().map(Missed::encode).collect();
            values.insert(":missed".to_owned(), AttributeValue::Ss(missed));
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

fn connection_name(connection: &ConnectionId) -> String {
    format!("c#{connection}")
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
            let missed = Missed { id, group };
            assert_eq!(Missed::decode(&missed.encode()), Some(missed));
        }
        for wrong in ["", "u", "u/1", &format!("x/{id}"), &format!("g//{id}"), &format!("g/a b/{id}")] {
            assert_eq!(Missed::decode(wrong), None, "{wrong}");
        }
    }

    fn state(connections: &[(&str, Option<Ms>, Option<Ms>)]) -> State {
        let connection = |(id, from, to): &(&str, Option<Ms>, Option<Ms>)| {
            (ConnectionId::new(*id), Connection { announced: from.unwrap_or(100), from: *from, to: *to })
        };
        State { connections: connections.iter().map(connection).collect(), ..State::default() }
    }

    #[test]
    fn only_connections_that_say_nothing_are_forgotten() {
        let now = 1_000_000;
        let mut state = state(&[
            ("open", Some(500), None),
            ("shaking hands", None, None),
            ("old", Some(10), Some(20)),
            ("needed", Some(10), Some(40)),
        ]);
        state.connections.get_mut(&ConnectionId::new("shaking hands")).unwrap().announced = now;
        state.unicast.until = 30;
        assert!(state.forgettable(now, 0).is_empty(), "group messages of that time were not dropped");
        state.multicast.until = 30;
        assert_eq!(state.forgettable(now, 0), [ConnectionId::new("old")]);
        assert_eq!(state.forgettable(now, 41), ["needed", "old"].map(ConnectionId::new));
        assert_eq!(state.forgettable(now + 40_000, 0), ["old", "shaking hands"].map(ConnectionId::new));
    }

    #[test]
    fn no_more_ended_connections_are_kept_than_fit() {
        let names: Vec<String> = (0..MAX_ENDED + 2).map(|i| format!("{i:04}")).collect();
        let ended: Vec<_> = names.iter().zip(100u64..).map(|(name, t)| (name.as_str(), Some(t), Some(t))).collect();
        assert_eq!(state(&ended).forgettable(1_000_000, 0), ["0000", "0001"].map(ConnectionId::new));
    }

    #[test]
    fn an_item_that_is_not_ours_is_an_error_and_no_panic() {
        let item = HashMap::from([("missed".to_owned(), item::text("u/1"))]);
        assert!(State::read(&item).is_err());
        let item = HashMap::from([("c#x".to_owned(), AttributeValue::M(HashMap::new()))]);
        assert!(State::read(&item).is_err());
    }
}
