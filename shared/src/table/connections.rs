//! The connections of a user, in their state: announced, stamped, ended, forgotten.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::expression::Expression;
use super::state::State;
use super::{Table, item, keys};
use crate::clock::Ms;
use crate::error::{Error, Result};
use crate::id::{ConnectionId, UserId};
use crate::rules::forget::Forgettable;

/// The most connections that one write forgets: an expression has a limit of its own.
const MAX_FORGOTTEN: usize = 100;

/// How many connections are remembered, those among them whose handshakes are under way or have failed: some 50 KB of the
/// item. Beyond, no handshake is let in.
pub const MAX_KNOWN: usize = 512;

/// What became of an announcement.
#[derive(Debug)]
pub enum Announced {
    /// It is pushed to from now on. The state with it.
    Yes(State),
    /// Too many connections are remembered. The state without it.
    NoRoom(State),
}

impl Table {
    /// Announces a connection: from now on senders push to it. A repeat changes nothing: the SDK repeats a write whose
    /// answer was lost.
    pub async fn announce(&self, user: &UserId, connection: &ConnectionId, now: Ms) -> Result<Announced> {
        let mut change = Expression::default();
        let one = change.path([&connection_name(connection)]);
        let announced = HashMap::from([("announced".to_owned(), item::number(now))]);
        change.set_if_absent(&one, AttributeValue::M(announced));
        change.set_user(user);
        let all = change.path(["known"]);
        change.add(&all, known(std::slice::from_ref(connection)));
        let (id, most) = (change.value(item::text(connection.as_str())), change.value(item::number(MAX_KNOWN)));
        change.require(format!("attribute_not_exists({all}) OR size({all}) < {most} OR contains({all}, {id})"));
        let update = change
            .request(self.update(&keys::state(user)))
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

    /// Stamps a connection: it covers from that time on. Returns whether it was announced, and not ended. A repeat changes
    /// nothing: what a sender has uncovered since stays uncovered.
    pub async fn stamp(&self, user: &UserId, connection: &ConnectionId, from: Ms) -> Result<bool> {
        let mut change = Expression::default();
        let one = Paths::of(&mut change, connection);
        change.set_if_absent(&one.from, item::number(from));
        change.require(format!("attribute_exists({}) AND attribute_not_exists({})", one.whole, one.to));
        self.change(&keys::state(user), change).await
    }

    /// Records that the gateway does not know a connection any more, unless its end is known.
    pub async fn mark_gone(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let mut change = Expression::default();
        let one = Paths::of(&mut change, connection);
        change.set_if_absent(&one.to, item::number(to));
        change.require(format!("attribute_exists({})", one.whole));
        self.change(&keys::state(user), change).await
    }

    /// Records that we closed a connection: its client did not, whatever the gateway says.
    pub async fn mark_closed(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let mut change = Expression::default();
        let one = Paths::of(&mut change, connection);
        change.set_if_absent(&one.to, item::number(to));
        change.set(&one.ours, item::number(to));
        change.remove(&one.clean);
        change.require(format!("attribute_exists({})", one.whole));
        self.change(&keys::state(user), change).await
    }

    /// Records when a connection ended, and whether its client closed it. A known end may become earlier, and never later:
    /// senders may have seen the time after it as uncovered.
    pub async fn mark_ended(&self, user: &UserId, connection: &ConnectionId, to: Ms, clean: bool) -> Result<()> {
        let mut change = Expression::default();
        let one = Paths::of(&mut change, connection);
        let time = change.value(item::number(to));
        change.require(format!("attribute_exists({})", one.whole));
        let mut earlier = change.clone();
        earlier.require(format!("attribute_not_exists({0}) OR {0} > {time}", one.to));
        earlier.set(&one.to, item::number(to));
        if !clean {
            return self.change(&keys::state(user), earlier).await.map(|_| ());
        }
        for change in [&mut earlier, &mut change] {
            change.set(&one.clean, item::number(to));
            change.require(format!("attribute_not_exists({})", one.ours));
        }
        if !self.change(&keys::state(user), earlier).await? {
            self.change(&keys::state(user), change).await?;
        }
        Ok(())
    }

    /// Forgets connections, after it has uncovered what others then no longer cover.
    pub async fn forget(&self, user: &UserId, forgotten: &Forgettable) -> Result<()> {
        let mut change = Expression::default();
        if !change.forget(forgotten) {
            return Ok(());
        }
        self.uncover_all(user, &forgotten.uncovered).await?;
        let update = change.request(self.update(&keys::state(user)));
        update.send().await.map(|_| ()).map_err(|error| Error::unavailable("UpdateItem", error))
    }

    /// Lets connections cover only from these times on.
    pub(super) async fn uncover_all(&self, user: &UserId, uncovered: &[(ConnectionId, Ms)]) -> Result<()> {
        for (connection, from) in uncovered {
            let mut change = Expression::default();
            let one = Paths::of(&mut change, connection);
            change.set(&one.from, item::number(from));
            // Never back: what a sender uncovered stays uncovered.
            let time = change.value(item::number(from));
            change.require(format!("attribute_exists({}) AND {} < {time}", one.whole, one.from));
            self.change(&keys::state(user), change).await?;
        }
        Ok(())
    }
}

/// The paths of a connection in a state.
struct Paths {
    whole: String,
    from: String,
    to: String,
    clean: String,
    ours: String,
}

impl Paths {
    fn of(change: &mut Expression, connection: &ConnectionId) -> Self {
        let name = connection_name(connection);
        let mut path = |attribute| change.path([&name, attribute]);
        let [from, to, clean, ours] = ["from", "to", "clean", "ours"].map(&mut path);
        Self { whole: change.path([&name]), from, to, clean, ours }
    }
}

impl Expression {
    /// Names the user of a state: a read of many states tells them apart by it.
    pub(super) fn set_user(&mut self, user: &UserId) {
        let path = self.path(["user"]);
        self.set(&path, item::text(user.as_str()));
    }

    /// Forgets as many connections as one write can. Returns whether there are any.
    pub(super) fn forget(&mut self, forgotten: &Forgettable) -> bool {
        let connections = &forgotten.connections[..forgotten.connections.len().min(MAX_FORGOTTEN)];
        for connection in connections {
            let path = self.path([&connection_name(connection)]);
            self.remove(&path);
        }
        if !connections.is_empty() {
            let all = self.path(["known"]);
            self.delete(&all, known(connections));
        }
        !connections.is_empty()
    }
}

/// The value of `known` with these connections.
fn known(connections: &[ConnectionId]) -> AttributeValue {
    AttributeValue::Ss(connections.iter().map(|id| id.as_str().to_owned()).collect())
}

pub(super) fn connection_name(connection: &ConnectionId) -> String {
    format!("c#{connection}")
}
