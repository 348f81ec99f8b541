//! `DELETE /api/message/{id}?receiverId=` or `?groupId=`: recalls a message, for everybody. 200: empty; recalling again too.
//! 400: a parameter is wrong. 403: the message is unknown or too old, or the caller may not recall it.
//!
//! A sender may recall a message for some time, and the manager of a group at any time. The content is taken out of the
//! message, wherever it is stored. An entry of the log names it, so that clients that were away learn of the recall. A message
//! that was withheld is recalled by the same calls.

use futures::future::BoxFuture;
use shared::clock::Ms;
use shared::frame::{Address, Body, Message, encode};
use shared::id::{GroupId, MessageId, UserId};
use shared::metrics::Metric;
use shared::table::Place;
use shared::{Error, Result};

use crate::App;
use crate::call::http::{Input, Reply};
use crate::call::rest::Call;
use crate::delivery::job;
use crate::delivery::push::{self, Handling};
use crate::function::Function;

/// The function.
pub static FUNCTION: Function =
    Function::rest("recall_message", "DELETE", "/api/message/{id}", &["receiverId", "groupId"], handle).pushing();

fn handle<'a>(app: &'a App, call: &'a Call) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let id = message_id(&call.input)?;
        match call.input.address("receiverId")? {
            Address::User(receiver) => recall_private(app, &call.user, &receiver, id).await?,
            Address::Group(group) => recall_in_group(app, &call.user, &group, id).await?,
        }
        app.metrics.count(Metric::Recalled);
        Ok(Reply::empty())
    })
}

fn message_id(input: &Input) -> Result<MessageId> {
    MessageId::parse(input.path_text("id")?).map_err(|why| Error::field("id", why))
}

fn not_yours() -> Error {
    Error::Forbidden("you may not recall this message, or it is too old, or there is none".to_owned())
}

/// A message that is recalled.
struct Found {
    message: Message,
    /// Whether it was delivered to its receiver.
    is_delivered: bool,
}

/// Returns the message of what is stored by an id, if `may` recall it. A message may be stored twice, see
/// [`shared::table::Table::rewrite_message`].
fn find(stored: Vec<(Place, Message)>, may: impl Fn(&Message) -> bool) -> Result<Found> {
    let is_delivered = stored.iter().any(|(place, _)| *place == Place::Log);
    let is_message = |message: &Message| !matches!(message.body, Body::Recall { .. });
    let copies = stored.into_iter().map(|(_, message)| message).filter(|message| is_message(message) && may(message));
    // A copy that is recalled already has the time of the first recall.
    let message = copies.min_by_key(|message| message.content().is_some()).ok_or_else(not_yours)?;
    Ok(Found { message, is_delivered })
}

/// Returns the entry that recalls a message. A recall that is repeated has the time, and so the id, of the first one.
fn entry(app: &App, message: &Message) -> (Message, Ms) {
    let at = match message.body {
        Body::Recalled { at } => at,
        _ => app.clock.now_ms(),
    };
    let (id, sender, to) = (message.id.of_recall(at), message.sender.clone(), message.to.clone());
    (Message { id, sender, to, body: Body::Recall { of: message.id }, timestamp: at }, at)
}

/// Returns whether a sender may recall a message, or has recalled it already.
fn is_recallable(app: &App, message: &Message) -> bool {
    message.content().is_none() || message.id.time_ms().saturating_add(app.recall_ms) >= app.clock.now_ms()
}

async fn recall_private(app: &App, caller: &UserId, receiver: &UserId, id: MessageId) -> Result<()> {
    let (table, log) = (&app.table, Address::User(receiver.clone()));
    let (stored, standing) = futures::try_join!(table.stored_message(&log, id), table.standing(caller, receiver))?;
    let found = find(stored, |message| message.sender == *caller && is_recallable(app, message))?;
    let (entry, at) = entry(app, &found.message);
    // The receiver of a message that was withheld learns nothing of it, even if messages are delivered by now.
    let (place, handling) = match found.is_delivered && standing.delivers() {
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

async fn recall_in_group(app: &App, caller: &UserId, group: &GroupId, id: MessageId) -> Result<()> {
    let (table, log) = (&app.table, Address::Group(group.clone()));
    let members = [caller];
    let (stored, found) = futures::try_join!(table.stored_message(&log, id), table.memberships(group, &members))?;
    let (meta, joined) = found.ok_or_else(not_yours)?;
    let is_manager = joined[0].is_some() && meta.manager == *caller;
    let may_recall = |message: &Message| is_manager || message.sender == *caller && is_recallable(app, message);
    let Found { message, .. } = find(stored, may_recall)?;
    let (entry, at) = entry(app, &message);
    // The entry comes first. If the function dies in between, a repeat writes an entry of its own time.
    table.write_message(&entry, Place::Log).await?;
    table.recall(&log, id, Place::Log, at).await?;
    let frame = encode(&entry);
    let (roster, mut blockers) = futures::try_join!(table.roster(group), table.blockers(&message.sender))?;
    // A manager who blocks the sender has recalled the message, and is told on all devices.
    blockers.remove(caller);
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
