//! Recalls a message, for everybody: for its sender, for the manager of its group, or for the back end.
//!
//! A sender may recall a message for some time, and the others at any time. The content is taken out of the message, wherever
//! it is stored. An entry of the log names it, so that clients that were away learn of the recall. A message that was withheld
//! is recalled by the same calls.

use shared::clock::Ms;
use shared::frame::{Address, Body, Message, encode};
use shared::id::{GroupId, MessageId, UserId};
use shared::metrics::Metric;
use shared::table::{Place, State};
use shared::{Error, Result};

use super::push::{self, Handling};
use super::{gate, job};
use crate::App;

/// Who recalls a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By<'a> {
    /// Its sender, or the manager of its group.
    User(&'a UserId),
    /// The back end, which names the sender.
    BackEnd {
        /// The sender of the message.
        sender: &'a UserId,
    },
}

impl By<'_> {
    fn sender(&self) -> &UserId {
        let (Self::User(user) | Self::BackEnd { sender: user }) = self;
        user
    }

    /// Returns the error for a message that does not exist or may not be recalled. A user cannot tell which.
    fn refusal(&self) -> Error {
        match self {
            Self::User(_) => {
                Error::Forbidden("you may not recall this message, or it is too old, or there is none".to_owned())
            }
            Self::BackEnd { .. } => Error::NotFound("there is no such message of this sender".to_owned()),
        }
    }

    /// Reads what a recall needs. Refuses a user who is banned or has sent too much.
    async fn read<T>(
        &self,
        app: &App,
        reading: impl Future<Output = Result<T>>,
        state: impl Fn(&T) -> &State,
    ) -> Result<T> {
        let Self::User(caller) = self else { return reading.await };
        let (read, counted) = gate::counted(app, caller, reading).await?;
        gate::admit(app, caller, state(&read), counted)?;
        Ok(read)
    }
}

/// Recalls a message with this address and id.
///
/// # Errors
/// There is no such message, or it may not be recalled; or the service failed.
pub(crate) async fn recall(app: &App, by: By<'_>, to: &Address, id: MessageId) -> Result<()> {
    match to {
        Address::User(receiver) => recall_private(app, by, receiver, id).await?,
        Address::Group(group) => recall_in_group(app, by, group, id).await?,
    }
    app.metrics.count(Metric::Recalled);
    Ok(())
}

/// A message that is recalled.
struct Found {
    message: Message,
    /// Whether it was delivered to its receiver.
    is_delivered: bool,
}

/// Returns the message of what is stored by an id, if `may` recall it. A message may be stored twice, see
/// [`shared::table::Table::rewrite_message`].
fn find(by: By<'_>, stored: Vec<(Place, Message)>, may: impl Fn(&Message) -> bool) -> Result<Found> {
    let is_delivered = stored.iter().any(|(place, _)| *place == Place::Log);
    let is_message = |message: &Message| !matches!(message.body, Body::Recall { .. });
    let copies = stored.into_iter().map(|(_, message)| message).filter(|message| is_message(message) && may(message));
    // A copy that is recalled already has the time of the first recall.
    let message = copies.min_by_key(|message| message.content().is_some()).ok_or_else(|| by.refusal())?;
    Ok(Found { message, is_delivered })
}

/// Returns the entry that recalls a message. A recall that is repeated has the time, and so the id, of the first one.
pub(super) fn entry(app: &App, message: &Message) -> (Message, Ms) {
    let at = match message.body {
        Body::Recalled { at } => at,
        _ => app.clock.now_ms(),
    };
    let (id, sender, to) = (message.id.of_recall(at), message.sender.clone(), message.to.clone());
    (Message { id, sender, to, body: Body::Recall { of: message.id }, timestamp: at }, at)
}

/// Returns whether the sender may recall the message: it is young enough, or recalled already.
fn is_recallable(app: &App, by: By<'_>, message: &Message) -> bool {
    let is_young = message.id.time_ms().saturating_add(app.recall_ms) >= app.clock.now_ms();
    message.sender == *by.sender() && (message.content().is_none() || is_young || matches!(by, By::BackEnd { .. }))
}

async fn recall_private(app: &App, by: By<'_>, receiver: &UserId, id: MessageId) -> Result<()> {
    let (table, log) = (&app.table, Address::User(receiver.clone()));
    let reading = async { futures::try_join!(table.stored_message(&log, id), table.standing(by.sender(), receiver)) };
    let (stored, standing) = by.read(app, reading, |(_, standing)| &standing.sender).await?;
    let found = find(by, stored, |message| is_recallable(app, by, message))?;
    let (entry, at) = entry(app, &found.message);
    // The receiver of a message that was withheld learns nothing of it, even if messages are delivered by now.
    // The back end need not ask whether the two are friends, as for its own messages.
    let is_told = match by {
        By::User(_) => standing.delivers(),
        By::BackEnd { .. } => !standing.blocked,
    };
    let (place, handling) = match found.is_delivered && is_told {
        true => (Place::Log, Handling::Deliver),
        false => (Place::Hidden, Handling::Withhold),
    };
    // The place beside the log comes first. A repeated send that writes to the log looks there in the same transaction: so
    // either it finds the recall, or the second write here finds the message in the log.
    futures::try_join!(table.recall(&log, id, Place::Hidden, at), table.write_message(&entry, place))?;
    let ((), state) = futures::try_join!(table.recall(&log, id, Place::Log, at), table.state(receiver))?;
    let (frame, now) = (encode(&entry), app.clock.now_ms());
    let own: Vec<_> = standing.sender.open_of_version_2(now).collect();
    let others: Vec<_> = state.open_of_version_2(now).collect();
    let pushing = async {
        futures::join!(
            push::signal(app, &own, &frame, Handling::Deliver),
            push::signal(app, &others, &frame, handling),
        );
    };
    push::before_answer(app, !own.is_empty() || !others.is_empty(), pushing).await;
    Ok(())
}

async fn recall_in_group(app: &App, by: By<'_>, group: &GroupId, id: MessageId) -> Result<()> {
    let (table, log) = (&app.table, Address::Group(group.clone()));
    let reading = async { futures::try_join!(table.stored_message(&log, id), table.sender(group, by.sender())) };
    let (stored, sender) = by.read(app, reading, |(_, sender)| &sender.state).await?;
    let is_member = sender.membership().is_some();
    let meta = sender.meta.ok_or_else(|| by.refusal())?;
    let is_manager = matches!(by, By::User(caller) if is_member && meta.manager == *caller);
    let may_recall = |message: &Message| is_manager || is_recallable(app, by, message);
    let Found { message, .. } = find(by, stored, may_recall)?;
    let (entry, at) = entry(app, &message);
    // The entry comes first. If the function dies in between, a repeat writes an entry of its own time.
    table.write_message(&entry, Place::Log).await?;
    table.recall(&log, id, Place::Log, at).await?;
    let frame = encode(&entry);
    let (roster, mut blockers) = futures::try_join!(table.roster(group), table.blockers(&message.sender))?;
    if let By::User(caller) = by {
        // A manager who blocks the sender has recalled the message, and is told on all devices.
        blockers.remove(caller);
    }
    let Some(roster) = roster else {
        app.wait_for_tick().await;
        return Ok(());
    };
    let shards: Vec<Vec<UserId>> = roster
        .shards
        .into_iter()
        .map(|members| members.into_iter().filter(|m| m.joined <= id.time_ms()).map(|m| m.user).collect())
        .collect();
    let mut told = shards.concat();
    // The sender may have left the group.
    let former = (!told.contains(&message.sender)).then_some(message.sender);
    if let Some(queue) = &app.queue {
        // So the answer waits for no push, whatever the size of the group.
        queue.send(&job::delivery(group, entry.id, app.clock.now_ms(), &shards, &blockers)).await?;
        told.clear();
    }
    told.extend(former);
    let pushing = push::signal_to_users(app, &told, &blockers, &frame);
    push::before_answer(app, !told.is_empty(), pushing).await;
    Ok(())
}
