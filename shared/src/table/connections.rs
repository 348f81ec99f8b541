//! The connections of a user, in their state: announced, stamped, ended, forgotten.

use std::collections::HashMap;

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::calls::Table;
use super::expression::Expression;
use super::state::State;
use super::{item, keys};
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
        let mut change = Expression::of_connection(connection);
        let [start, to] = ["from", "to"].map(|name| change.path([&connection_name(connection), name]));
        change.set_if_absent(&start, item::number(from));
        change.require(format!("attribute_not_exists({to})"));
        self.change(&keys::state(user), change).await
    }

    /// Records that the gateway does not know a connection any more, unless its end is known.
    pub async fn mark_gone(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let mut change = Expression::of_connection(connection);
        let path = change.path([&connection_name(connection), "to"]);
        change.set_if_absent(&path, item::number(to));
        self.change(&keys::state(user), change).await
    }

    /// Records that we closed a connection: its client did not, whatever the gateway says.
    pub async fn mark_closed(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let mut change = Expression::of_connection(connection);
        let [end, ours, clean] = ["to", "ours", "clean"].map(|name| change.path([&connection_name(connection), name]));
        change.set_if_absent(&end, item::number(to));
        change.set(&ours, item::number(to));
        change.remove(&clean);
        self.change(&keys::state(user), change).await
    }

    /// Records when a connection ended, and whether its client closed it. A known end may become earlier, and never later:
    /// senders may have seen the time after it as uncovered.
    pub async fn mark_ended(&self, user: &UserId, connection: &ConnectionId, to: Ms, clean: bool) -> Result<()> {
        let state = keys::state(user);
        let ended = |is_earlier: bool| {
            let mut change = Expression::of_connection(connection);
            if is_earlier {
                let path = change.path([&connection_name(connection), "to"]);
                change.set(&path, item::number(to));
                let time = change.value(item::number(to));
                change.require(format!("attribute_not_exists({path}) OR {path} > {time}"));
            }
            if clean {
                let [clean, ours] = ["clean", "ours"].map(|name| change.path([&connection_name(connection), name]));
                change.set(&clean, item::number(to));
                change.require(format!("attribute_not_exists({ours})"));
            }
            change
        };
        if !self.change(&state, ended(true)).await? && clean {
            self.change(&state, ended(false)).await?;
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
            let mut change = Expression::of_connection(connection);
            let path = change.path([&connection_name(connection), "from"]);
            change.set(&path, item::number(from));
            // Never back: what a sender uncovered stays uncovered.
            let time = change.value(item::number(from));
            change.require(format!("{path} < {time}"));
            self.change(&keys::state(user), change).await?;
        }
        Ok(())
    }
}

impl Expression {
    /// A change of a connection that is remembered.
    fn of_connection(connection: &ConnectionId) -> Self {
        let mut change = Self::default();
        let path = change.path([&connection_name(connection)]);
        change.require(format!("attribute_exists({path})"));
        change
    }

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
