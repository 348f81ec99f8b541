//! What a user missed by name: recorded in their state, on condition that there is room. Without room, the time of the
//! message is uncovered instead.

use aws_sdk_dynamodb::types::AttributeValue;

use super::calls::{MAX_ATTEMPTS, Table};
use super::connections::connection_name;
use super::expression::Expression;
use super::keys::Key;
use super::kind::MissedRef;
use super::state::State;
use super::{item, keys};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::rules::timing::STAMP_MS;

/// How many connections one write uncovers: an expression has a limit of 4 KB.
const MAX_UNCOVERED: usize = 40;

/// Where it is recorded that a message was missed.
#[derive(Debug, Clone, Copy)]
pub enum MissTarget<'a> {
    /// In the state of the user who missed it.
    Of(&'a UserId),
    /// In a decoy beside that state: the message is withheld from the receiver. See `decoy`.
    Withheld {
        /// The receiver.
        receiver: &'a UserId,
        /// The sender.
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
            Self::Withheld { receiver, sender } => keys::decoy(receiver, "STATE", sender),
        }
    }
}

impl Table {
    /// Records that a user missed a message whose time their `state` hides from pulls.
    ///
    /// If there are too many names already, the time of the message is uncovered instead: a later pull then finds it by
    /// its time, and may repeat its neighbours.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if neither could be done: the message must not be acknowledged.
    pub async fn record_missed(&self, target: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<()> {
        if state.missed.len() < self.max_missed_names && self.add_name(target, missed).await? {
            return Ok(());
        }
        self.uncover(target, missed, state).await
    }

    /// Adds the name of a message. Returns whether there was room.
    async fn add_name(&self, target: MissTarget<'_>, missed: &MissedRef) -> Result<bool> {
        let mut change = Expression::default();
        change.set_user(target.receiver());
        let names = change.path(["missed"]);
        let name = AttributeValue::Ss(vec![missed.encode()]);
        match target {
            MissTarget::Of(_) => change.add(&names, name),
            MissTarget::Withheld { .. } => {
                let decoy = change.path(["decoy"]);
                change.set(&decoy, name);
            }
        }
        let one = change.value(item::text(missed.encode()));
        let most = change.value(item::number(self.max_missed_names));
        change.require(format!("attribute_not_exists({names}) OR size({names}) < {most} OR contains({names}, {one})"));
        self.change(&target.key(), change).await
    }

    /// Lets a pull find the time of a message: no connection covers it, and it is not dropped.
    async fn uncover(&self, target: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<()> {
        let receiver = target.receiver();
        tracing::warn!(%receiver, "too many messages are missed by name; the time of another is uncovered instead");
        let mut state = state.clone();
        for attempt in 0..2 * MAX_ATTEMPTS {
            let left = self.uncover_some(target, missed, &state).await?;
            // A decoy has no connections, so its write changes nothing.
            if left == Some(0) || matches!(target, MissTarget::Withheld { .. }) {
                return Ok(());
            }
            if left.is_none() {
                self.pause(attempt).await;
            }
            state = self.state(receiver).await?;
        }
        Err(Error::unavailable("uncovering the time of a message", "a state keeps changing"))
    }

    /// Uncovers the time of a message on some connections. Returns how many are left, or nothing if the state has changed.
    async fn uncover_some(&self, target: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<Option<usize>> {
        let (time, now) = (missed.id.time_ms(), self.clock.now_ms());
        let mut change = Expression::default();
        // A pull that has read the state may be about to drop that time: with another version it starts again.
        change.next_version(state.version);
        let uncovers = change.path(["uncovers"]);
        change.set(&uncovers, item::number(state.uncovers + 1));
        change.set_user(target.receiver());
        if time <= state.dropped(missed.kind()).until {
            let until = change.path([missed.kind().until()]);
            change.set(&until, item::number(time.saturating_sub(1)));
        }
        let hiding: Vec<_> = state.connections.iter().filter(|(_, connection)| connection.hides(time, now)).collect();
        for (id, connection) in hiding.iter().take(MAX_UNCOVERED) {
            let name = connection_name(id);
            let (whole, from) = (change.path([&name]), change.path([&name, "from"]));
            // One that is being opened covers from here on, as if it had been stamped so.
            let earliest = if connection.from.is_some() { 0 } else { connection.announced.saturating_add(STAMP_MS) };
            change.set(&from, item::number(time.saturating_add(1).max(earliest)));
            match connection.from {
                Some(was) => {
                    let was = change.value(item::number(was));
                    change.require(format!("{from} = {was}"));
                }
                None => change.require(format!("attribute_exists({whole}) AND attribute_not_exists({from})")),
            }
        }
        let left = hiding.len().saturating_sub(MAX_UNCOVERED);
        Ok(self.change(&target.key(), change).await?.then_some(left))
    }
}

impl Expression {
    /// Moves a state on from this version. If it has another one, nothing is written.
    pub(super) fn next_version(&mut self, version: u64) {
        let path = self.path(["version"]);
        self.set(&path, item::number(version + 1));
        let now = self.value(item::number(version));
        let never_written = if version == 0 { format!("attribute_not_exists({path}) OR ") } else { String::new() };
        self.require(format!("{never_written}{path} = {now}"));
    }
}
