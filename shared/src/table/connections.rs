//! The connections in the state of a user: announced, stamped, ended, forgotten.

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

/// The most connections that one write forgets, since an expression has a limit of 4 KB.
const MAX_FORGOTTEN: usize = 100;

/// The most connections that one write ends, for the same reason.
const MAX_CLOSED: usize = 25;

/// The most remembered connections of a user, about 50 KB of the item. Handshakes that are under way or failed count too.
/// Above it, new handshakes are refused.
pub const MAX_KNOWN: usize = 512;

/// The result of an announcement.
#[derive(Debug)]
pub enum Announced {
    /// Messages are pushed to the connection from now on. The state includes it.
    Yes(State),
    /// Too many connections are remembered, or the user is banned. The state does not include it.
    Refused(State),
}

impl Table {
    /// Announces a connection of that version: from now on senders push to it. A repeat changes nothing, since the SDK repeats a write
    /// whose answer is lost.
    pub async fn announce(&self, user: &UserId, connection: &ConnectionId, version: u8, now: Ms) -> Result<Announced> {
        let mut change = Expression::default();
        let one = change.path([&connection_name(connection)]);
        let mut announced = HashMap::from([("announced".to_owned(), item::number(now))]);
        if version > 1 {
            announced.insert("version".to_owned(), item::number(version));
        }
        change.set_if_absent(&one, AttributeValue::M(announced));
        change.set_user(user);
        let all = change.path(["known"]);
        change.add(&all, known(std::slice::from_ref(connection)));
        let (id, most) = (change.value(item::text(connection.as_str())), change.value(item::number(MAX_KNOWN)));
        change.require(format!("attribute_not_exists({all}) OR size({all}) < {most} OR contains({all}, {id})"));
        change.require_no_ban(now);
        // The state of an erased user expires. Now the user has begun again.
        let expires_at = change.path(["expiresAt"]);
        change.remove(&expires_at);
        let update = change
            .request(self.update(&keys::state(user)))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match Box::pin(update.send()).await {
            Ok(answer) => State::read(&answer.attributes.unwrap_or_default()).map(Announced::Yes),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    State::read(failed.item().unwrap_or(&HashMap::new())).map(Announced::Refused)
                }
                _ => Err(Error::unavailable("UpdateItem", error)),
            },
        }
    }

    /// Stamps a connection: it covers from that time on. Returns whether it is announced and has no end, and the user is not
    /// banned. A repeat changes
    /// nothing, so time that a sender has uncovered stays uncovered.
    pub async fn stamp(&self, user: &UserId, connection: &ConnectionId, from: Ms) -> Result<bool> {
        let mut change = Expression::of_connection(connection);
        let [start, to] = ["from", "to"].map(|name| change.path([&connection_name(connection), name]));
        change.set_if_absent(&start, item::number(from));
        change.require(format!("attribute_not_exists({to})"));
        change.require_no_ban(from);
        self.change(&keys::state(user), change).await
    }

    /// Records the end of a connection that the gateway does not know any more. A known end does not change.
    pub async fn mark_gone(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let mut change = Expression::of_connection(connection);
        let path = change.path([&connection_name(connection), "to"]);
        change.set_if_absent(&path, item::number(to));
        self.change(&keys::state(user), change).await
    }

    /// Records that the server closed a connection. It does not count as closed by its client, even if the gateway says so.
    pub async fn mark_closed(&self, user: &UserId, connection: &ConnectionId, to: Ms) -> Result<bool> {
        let mut change = Expression::of_connection(connection);
        let [end, ours, clean] = ["to", "ours", "clean"].map(|name| change.path([&connection_name(connection), name]));
        change.set_if_absent(&end, item::number(to));
        change.set(&ours, item::number(to));
        change.remove(&clean);
        self.change(&keys::state(user), change).await
    }

    /// Records that the server closed connections. A connection that has been forgotten is left out.
    pub async fn mark_all_closed(&self, user: &UserId, connections: &[ConnectionId], to: Ms) -> Result<()> {
        for some in connections.chunks(MAX_CLOSED) {
            let mut change = Expression::default();
            for connection in some {
                let name = connection_name(connection);
                let whole = change.path([&name]);
                let [end, ours, clean] = ["to", "ours", "clean"].map(|part| change.path([&name, part]));
                change.set_if_absent(&end, item::number(to));
                change.set(&ours, item::number(to));
                change.remove(&clean);
                change.require(format!("attribute_exists({whole})"));
            }
            if !self.change(&keys::state(user), change).await? {
                for connection in some {
                    self.mark_closed(user, connection, to).await?;
                }
            }
        }
        Ok(())
    }

    /// Records when a connection ended, and whether its client closed it. A known end may become earlier, but never later:
    /// senders may already treat the time after it as uncovered.
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

    /// Forgets connections. First uncovers the time that the others no longer cover then.
    pub async fn forget(&self, user: &UserId, forgotten: &Forgettable) -> Result<()> {
        let mut change = Expression::default();
        if !change.forget(&[&forgotten.surplus[..], &forgotten.silent].concat()) {
            return Ok(());
        }
        if !forgotten.surplus.is_empty() {
            change.count_uncovering();
        }
        self.uncover_all(user, &forgotten.uncovered).await?;
        let update = change.request(self.update(&keys::state(user)));
        Box::pin(update.send()).await.map(|_| ()).map_err(|error| Error::unavailable("UpdateItem", error))
    }

    /// Raises the first covered time of connections.
    async fn uncover_all(&self, user: &UserId, uncovered: &[(ConnectionId, Ms)]) -> Result<()> {
        for (connection, from) in uncovered {
            let mut change = Expression::of_connection(connection);
            let path = change.path([&connection_name(connection), "from"]);
            change.set(&path, item::number(from));
            // The time never goes back: what a sender uncovered stays uncovered.
            let time = change.value(item::number(from));
            change.require(format!("{path} < {time}"));
            change.count_uncovering();
            self.change(&keys::state(user), change).await?;
        }
        Ok(())
    }
}

impl Expression {
    /// Returns a change with the condition that the connection is remembered.
    fn of_connection(connection: &ConnectionId) -> Self {
        let mut change = Self::default();
        let path = change.path([&connection_name(connection)]);
        change.require(format!("attribute_exists({path})"));
        change
    }

    /// Adds the condition that the user of a state is not banned.
    fn require_no_ban(&mut self, now: Ms) {
        let (path, now) = (self.path(["bannedUntil"]), self.value(item::number(now)));
        self.require(format!("attribute_not_exists({path}) OR {path} <= {now}"));
    }

    /// Sets the user of a state.
    pub(super) fn set_user(&mut self, user: &UserId) {
        let path = self.path(["user"]);
        self.set(&path, item::text(user.as_str()));
    }

    /// Forgets as many connections as one write can. Returns whether there are some.
    pub(super) fn forget(&mut self, forgotten: &[ConnectionId]) -> bool {
        let connections = &forgotten[..forgotten.len().min(MAX_FORGOTTEN)];
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

/// Returns the value of `known` with these connections.
fn known(connections: &[ConnectionId]) -> AttributeValue {
    AttributeValue::Ss(connections.iter().map(|id| id.as_str().to_owned()).collect())
}

pub(super) fn connection_name(connection: &ConnectionId) -> String {
    format!("c#{connection}")
}
