//! `unicast`, `multicast`, `$default`: a message is sent.
//!
//! The function writes the message once, to the log of its addressee, before it pushes anything. A message is withheld
//! if the receiver blocks the sender, the two are not friends, the sender is not a member, or the user or group does
//! not exist. The sender then gets the same answer. A message that is withheld from a user also makes the same calls,
//! so that its time tells little. A message to a group without the sender does not: the sender may ask for the group
//! anyway.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use shared::clock::Ms;
use shared::frame::{Ack, Address, ErrorCode, ErrorFrame, Malformed, Message, Submission, encode};
use shared::id::{GroupId, RequestId, UserId};
use shared::metrics::Metric;
use shared::table::{Digest, RosterMember, SendRecord};
use shared::{Error, Result};

use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;
use crate::delivery::job;
use crate::delivery::push::{self, Handling, Parcel};
use crate::function::{Function, Needs};

/// The function.
pub static FUNCTION: Function =
    Function::socket("message", &["unicast", "multicast", "$default"], Needs::Pushes, handle);

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let not_text = Malformed { message: "the frame must be text".to_owned(), request_id: None };
        let parsed = event.frame.as_deref().ok_or(not_text).and_then(Submission::parse);
        if app.clock.now_ms() >= event.expires_at {
            let request_id = parsed.map_or_else(|why| why.request_id, |submission| submission.request_id);
            let message = "the token of this connection has expired";
            refuse(app, event, ErrorCode::TokenExpired, message, request_id.as_ref()).await?;
            push::close(app, &event.user, &event.connection).await?;
            return Ok(Reply::empty());
        }
        match parsed {
            Ok(submission) => accept(app, event, submission).await?,
            Err(why) => refuse(app, event, ErrorCode::BadRequest, &why.message, why.request_id.as_ref()).await?,
        }
        Ok(Reply::empty())
    })
}

/// When a message is acknowledged. The time of the answer must not show whether the message was delivered.
#[derive(Debug, Clone, Copy)]
enum Tick {
    /// At the next fine tick: no receiver has a connection open.
    Fine,
    /// At a whole number of coarse ticks after the log write: a receiver has a connection open.
    Coarse { logged: Ms },
}

impl Tick {
    async fn wait(self, app: &App) {
        match self {
            Self::Fine => app.wait_for_tick().await,
            Self::Coarse { logged } => app.wait_for_coarse_tick(logged).await,
        }
    }
}

/// Sends a message and acknowledges it, or answers with an error.
async fn accept(app: &App, event: &SocketEvent, submission: Submission<'_>) -> Result<()> {
    let request_id = submission.request_id.clone();
    let outcome = match &request_id {
        None => send(app, &new_message(app, event, submission), async |_| Ok(())).await,
        Some(request) => send_once(app, event, submission, request).await,
    };
    let Err(error) = outcome else { return Ok(()) };
    app.report(&error);
    let code = if error.is_ours() { ErrorCode::Unavailable } else { ErrorCode::BadRequest };
    app.wait_for_tick().await;
    refuse(app, event, code, &error.problem().detail, request_id.as_ref()).await
}

fn new_message(app: &App, event: &SocketEvent, submission: Submission<'_>) -> Message {
    Message {
        id: app.ids.message(app.clock.now_ms()),
        sender: event.user.clone(),
        to: submission.to,
        content: submission.content.to_owned(),
        timestamp: event.arrived,
    }
}

/// Sends a message and acknowledges it. A request that was delivered before is only acknowledged. A first attempt that
/// did not finish is repeated with its id. The key and the content are the same, so the repeat is safe.
async fn send_once(app: &App, event: &SocketEvent, submission: Submission<'_>, request: &RequestId) -> Result<()> {
    let mut message = new_message(app, event, submission);
    let digest = Digest::of(&message.to, &message.content);
    let record = SendRecord { id: message.id, timestamp: message.timestamp, digest: digest.clone(), done: false };
    if let Some(first) = app.table.record_send(&event.user, request, &record).await? {
        if first.digest != digest {
            let why = "requestId was used for another message in the last ten minutes";
            return refuse(app, event, ErrorCode::RequestIdReused, why, Some(request)).await;
        }
        (message.id, message.timestamp) = (first.id, first.timestamp);
        if first.done {
            return acknowledge(app, event, request, &message).await;
        }
    }
    let answer = async |tick: Tick| {
        let acknowledged = async {
            tick.wait(app).await;
            acknowledge(app, event, request, &message).await
        };
        let (finished, acknowledged) = futures::join!(app.table.mark_delivered(&event.user, request), acknowledged);
        // The message is delivered in any case. If this write fails, a repeat of the request delivers it again.
        finished.unwrap_or_else(|error| app.report(&error));
        acknowledged
    };
    send(app, &message, answer).await
}

async fn acknowledge(app: &App, event: &SocketEvent, request: &RequestId, message: &Message) -> Result<()> {
    let ack = encode(&Ack { request_id: request, id: message.id, timestamp: message.timestamp });
    // A client that misses this sends the request again.
    app.pusher()?.post(&event.connection, &ack).await;
    Ok(())
}

/// Writes the message to its log and pushes it, unless it is withheld. `answer` runs as soon as the message is
/// accepted. Pushes may still be under way then.
async fn send(app: &App, message: &Message, answer: impl AsyncFnOnce(Tick) -> Result<()>) -> Result<()> {
    match &message.to {
        Address::User(receiver) => send_to_user(app, message, receiver, answer).await,
        Address::Group(group) => send_to_group(app, message, group, answer).await,
    }
}

/// Writes the message to its log, and counts it.
async fn log(app: &App, message: &Message) -> Result<()> {
    app.table.log(message).await?;
    app.metrics.count(Metric::Accepted);
    Ok(())
}

async fn send_to_user(
    app: &App,
    message: &Message,
    receiver: &UserId,
    answer: impl AsyncFnOnce(Tick) -> Result<()>,
) -> Result<()> {
    let relation = app.table.standing(&message.sender, receiver).await?;
    let handling = if relation.friends && !relation.blocked { Handling::Deliver } else { Handling::Withhold };
    match handling {
        Handling::Deliver => log(app, message).await?,
        Handling::Withhold => app.table.log_decoy(message, receiver).await?,
    }
    let logged = app.clock.now_ms();
    let frame = encode(message);
    let parcel = Parcel::logged(&frame, message, logged).to(1);
    let state = Ok(app.table.state(receiver).await?);
    let answering = async {
        match parcel.done().await.pop() {
            Some((_, error)) => Err(error),
            None => answer(tick(&parcel, logged)).await,
        }
    };
    let ((), answered) = futures::join!(push::to_user(app, &parcel, receiver, &state, handling), answering);
    answered
}

fn tick(parcel: &Parcel<'_>, logged: Ms) -> Tick {
    if parcel.meets_connections() { Tick::Coarse { logged } } else { Tick::Fine }
}

async fn send_to_group(
    app: &App,
    message: &Message,
    group: &GroupId,
    answer: impl AsyncFnOnce(Tick) -> Result<()>,
) -> Result<()> {
    if app.table.membership(group, &message.sender).await?.is_none() {
        app.metrics.count(Metric::Withheld);
        return answer(Tick::Fine).await;
    }
    log(app, message).await?;
    let logged = app.clock.now_ms();
    let (roster, blockers) = futures::try_join!(app.table.roster(group), app.table.blockers(&message.sender))?;
    // The group was dissolved in between, so it has no members.
    let Some(roster) = roster else { return answer(Tick::Fine).await };
    let is_receiver = |member: &RosterMember| member.user != message.sender && member.joined <= message.id.time_ms();
    let receivers = |members: Vec<RosterMember>| -> Vec<UserId> {
        members.into_iter().filter(is_receiver).map(|member| member.user).collect()
    };
    let shards: Vec<Vec<UserId>> = roster.shards.into_iter().map(receivers).collect();
    let all = shards.concat();
    if let Some(queue) = app.queue.as_ref().filter(|_| all.len() > app.fanout_members) {
        app.metrics.add(Metric::Withheld, all.iter().filter(|user| blockers.contains(user)).count());
        queue.send(&job::delivery(group, message.id, logged, &shards, &blockers)).await?;
        return answer(Tick::Fine).await;
    }
    let frame = encode(message);
    let parcel = Parcel::logged(&frame, message, logged).to(all.len());
    let answering = async {
        let failed = parcel.done().await;
        leave_to_queue(app, group, message, logged, shards, &blockers, failed).await?;
        answer(tick(&parcel, logged)).await
    };
    let ((), answered) = futures::join!(push::to_users(app, &parcel, &all, &blockers), answering);
    answered
}

/// Leaves the receivers whose delivery failed to the queue. The message is accepted for all others.
async fn leave_to_queue(
    app: &App,
    group: &GroupId,
    message: &Message,
    logged: Ms,
    mut shards: Vec<Vec<UserId>>,
    blockers: &BTreeSet<UserId>,
    mut failed: Vec<(UserId, Error)>,
) -> Result<()> {
    match (&app.queue, failed.pop()) {
        (_, None) => Ok(()),
        (None, Some((_, error))) => Err(error),
        (Some(queue), Some((last, error))) => {
            app.report(&error);
            let failed: BTreeSet<UserId> = failed.into_iter().map(|(user, _)| user).chain([last]).collect();
            shards.iter_mut().for_each(|users| users.retain(|user| failed.contains(user)));
            queue.send(&job::delivery(group, message.id, logged, &shards, blockers)).await
        }
    }
}

async fn refuse(
    app: &App,
    event: &SocketEvent,
    code: ErrorCode,
    message: &str,
    request_id: Option<&RequestId>,
) -> Result<()> {
    let frame = encode(&ErrorFrame { code, message, request_id });
    app.pusher()?.post(&event.connection, &frame).await;
    Ok(())
}
