//! The messages that a user missed by name. They are recorded in the user's state if there is room. If there is none, the
//! time of the message is uncovered instead.

use aws_sdk_dynamodb::types::AttributeValue;

use super::calls::{MAX_ATTEMPTS, Table};
use super::connections::connection_name;
use super::expression::Expression;
use super::keys::Key;
use super::kind::MissedRef;
use super::state::State;
use super::{decoy, item, keys};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::rules::dropped::may_be_passed;
use crate::rules::timing::STAMP_MS;

/// The most connections that one write uncovers, since an expression has a limit of 4 KB.
const MAX_UNCOVERED: usize = 40;

/// The item in which a missed message is recorded.
#[derive(Debug, Clone, Copy)]
pub enum MissTarget<'a> {
    /// The state of the user who missed it.
    Of(&'a UserId),
    /// A decoy of that state, since the message is withheld from the receiver. See `decoy`.
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
    /// Returns a change of the item of a target. A decoy expires.
    fn change_of(&self, target: MissTarget<'_>) -> Expression {
        let mut change = Expression::default();
        change.set_user(target.receiver());
        let path = change.path(["expiresAt"]);
        let time = change.value(Self::expires_at(self.clock.now_ms(), decoy::LIFETIME_MS));
        match target {
            MissTarget::Withheld { .. } => change.set_to(&path, &time),
            // Always true. Without it, this request would be shorter than that for a decoy.
            MissTarget::Of(_) => {
                change.require(format!("attribute_not_exists({path}) OR {path} <= {time} OR {path} > {time}"));
            }
        }
        change
    }

    /// Records that a user missed a message. By their `state`, a pull would not find it by its time.
    ///
    /// If there is no room for another name, the time of the message is uncovered instead. A later pull then finds the
    /// message by its time. It may repeat what the same connections took before.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if both fail. The message must not be acknowledged then.
    pub async fn record_missed(&self, target: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<()> {
        if state.missed.len() < self.max_missed_names && self.add_name(target, missed).await? {
            return Ok(());
        }
        self.uncover(target, missed, state).await
    }

    /// Adds the name of a message. Returns whether there was room.
    async fn add_name(&self, target: MissTarget<'_>, missed: &MissedRef) -> Result<bool> {
        let mut change = self.change_of(target);
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
        tracing::warn!("there is no room to record a missed message by name; its time is uncovered instead");
        let mut state = state.clone();
        for attempt in 0..2 * MAX_ATTEMPTS {
            let left = self.uncover_some(target, missed, &state).await?;
            // A decoy has no connections, so there is nothing to uncover.
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

    /// Uncovers the time of a message on as many connections as one write can. Returns how many are left, or nothing if the
    /// state has changed.
    async fn uncover_some(&self, target: MissTarget<'_>, missed: &MissedRef, state: &State) -> Result<Option<usize>> {
        let (time, now) = (missed.id.time_ms(), self.clock.now_ms());
        let mut change = self.change_of(target);
        let hiding: Vec<_> = state.connections.iter().filter(|(_, connection)| connection.hides(time, now)).collect();
        // What a connection covered before the message is uncovered with it.
        let begins = hiding.iter().take(MAX_UNCOVERED).filter_map(|(_, connection)| connection.from);
        let oldest = begins.min().unwrap_or(time).min(time);
        let until = state.dropped(missed.kind()).until;
        if time <= until || may_be_passed(oldest, now) {
            // Of many messages that are uncovered, only the first gets here. If all did, no drop would succeed meanwhile.
            change.count_uncovering();
            // A drop since the state was read may have passed that time.
            let (path, was) = (change.path([missed.kind().until()]), change.value(item::number(until)));
            let never_set = if until == 0 { format!("attribute_not_exists({path}) OR ") } else { String::new() };
            change.require(format!("{never_set}{path} = {was}"));
            if time <= until {
                change.set(&path, item::number(time.saturating_sub(1)));
            }
        }
        for (id, connection) in hiding.iter().take(MAX_UNCOVERED) {
            let name = connection_name(id);
            let (whole, from) = (change.path([&name]), change.path([&name, "from"]));
            // A connection without a stamp gets one here.
            let earliest = if connection.from.is_some() { 0 } else { connection.announced.saturating_add(STAMP_MS) };
            let first = change.value(item::number(time.saturating_add(1).max(earliest)));
            change.set_to(&from, &first);
            // The time never goes back: what another message uncovered stays uncovered.
            match connection.from {
                Some(_) => change.require(format!("{from} < {first}")),
                None => change.require(format!("attribute_exists({whole}) AND attribute_not_exists({from})")),
            }
        }
        let left = hiding.len().saturating_sub(MAX_UNCOVERED);
        Ok(self.change(&target.key(), change).await?.then_some(left))
    }
}

impl Expression {
    /// Counts that a time was uncovered that a drop may pass. A pull that has read the state before may be about to drop it: its
    /// drop fails on the new version, and it reads again. A page that was shown before is dropped message by message.
    pub(super) fn count_uncovering(&mut self) {
        for count in ["version", "uncovers"] {
            let path = self.path([count]);
            self.add(&path, item::number(1));
        }
    }
}
