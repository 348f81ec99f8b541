//! `unicast`, `multicast`, `$default`: a message is sent.
//!
//! It is written once, to the log of its addressee, before anybody is told. Where it is withheld (blocked, no friends,
//! no member, no such user or group) the sender sees exactly what it would see had it been delivered. So that he cannot
//! tell by the time either, a message that is withheld from a user makes the same calls as one that is delivered. One to
//! a group that the sender is not in does not: that he may ask anyway.

use futures::future::BoxFuture;
use shared::frame::{Ack, Address, ErrorCode, ErrorFrame, Malformed, Message, Submission, encode};
use shared::id::{GroupId, RequestId, UserId};
use shared::metrics::Metric;
use shared::table::{Digest, RosterMember, Sent};
use shared::{Error, Result};

use crate::delivery::{Fate, Parcel};
use crate::function::{Function, Handler, Needs};
use crate::rest::Reply;
use crate::socket::SocketEvent;
use crate::{App, delivery, job};

/// The function.
pub static FUNCTION: Function =
    Function { name: "message", needs: Needs { tokens: false, pushes: true }, handler: Handler::Socket(handle) };

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let not_text = Malformed { message: "the frame must be text".to_owned(), request_id: None };
        let parsed = event.frame.as_deref().ok_or(not_text).and_then(Submission::parse);
        if app.clock.now_ms() >= event.expires_at {
            let request_id = parsed.map_or_else(|why| why.request_id, |submission| submission.request_id);
            let message = "the token of this connection has expired";
            refuse(app, event, ErrorCode::TokenExpired, message, request_id.as_ref()).await?;
            delivery::close(app, &event.user, &event.connection).await?;
            return Ok(Reply::empty());
        }
        match parsed {
            Ok(submission) => accept(app, event, submission).await?,
            Err(why) => refuse(app, event, ErrorCode::BadRequest, &why.message, why.request_id.as_ref()).await?,
        }
        Ok(Reply::empty())
    })
}

/// Deliver a message and acknowledge it, or say why not.
async fn accept(app: &App, event: &SocketEvent, submission: Submission<'_>) -> Result<()> {
    let request_id = submission.request_id.clone();
    let outcome = match &request_id {
        None => send(app, new_message(app, event, submission)).await,
        Some(request) => send_once(app, event, submission, request).await,
    };
    let Err(error) = outcome else { return Ok(()) };
    app.report(&error);
    let code = if error.is_ours() { ErrorCode::Unavailable } else { ErrorCode::BadRequest };
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

/// Send, unless this request has been sent before, and acknowledge. A first attempt that died on its way is taken up
/// with the id that it had: the same key and the same content, so doing it again is safe.
async fn send_once(app: &App, event: &SocketEvent, submission: Submission<'_>, request: &RequestId) -> Result<()> {
    let mut message = new_message(app, event, submission);
    let digest = Digest::of(&message.to, &message.content);
    let sent = Sent { id: message.id, timestamp: message.timestamp, digest: digest.clone(), done: false };
    if let Some(first) = app.table.begin(&event.user, request, &sent).await? {
        (message.id, message.timestamp) = (first.id, first.timestamp);
        if first.done {
            return acknowledge(app, event, request, &message).await;
        }
        if first.digest != digest {
            return Err(Error::field("requestId", "is that of another message, which is still being sent"));
        }
    }
    let receipt = Message { content: Box::default(), ..message.clone() };
    send(app, message).await?;
    let answer = async {
        // Writes that nobody will read and looks at connections take about as long as messages do, and not quite.
        app.wait_for_tick().await;
        acknowledge(app, event, request, &receipt).await
    };
    let (finished, acknowledged) = futures::join!(app.table.finish(&event.user, request), answer);
    // It is delivered all the same; only a repeat would deliver it again.
    finished.unwrap_or_else(|error| app.report(&error));
    acknowledged
}

async fn acknowledge(app: &App, event: &SocketEvent, request: &RequestId, message: &Message) -> Result<()> {
    let ack = encode(&Ack { request_id: request, id: message.id, timestamp: message.timestamp });
    // A client that is gone will ask again.
    app.pusher()?.post(&event.connection, &ack).await;
    Ok(())
}

/// Write the message to its log, if it is not withheld, and push it.
async fn send(app: &App, message: Message) -> Result<()> {
    match message.to.clone() {
        Address::User(receiver) => send_to_user(app, &message, &receiver).await,
        Address::Group(group) => send_to_group(app, &message, &group).await,
    }
}

/// The one write.
async fn log(app: &App, message: &Message) -> Result<()> {
    app.table.log(message).await?;
    app.metrics.count(Metric::Accepted);
    Ok(())
}

async fn send_to_user(app: &App, message: &Message, receiver: &UserId) -> Result<()> {
    let standing = app.table.standing(&message.sender, receiver).await?;
    let fate = if standing.friends && !standing.blocked { Fate::Delivered } else { Fate::Withheld };
    match fate {
        Fate::Delivered => log(app, message).await?,
        Fate::Withheld => app.table.log_withheld(message).await?,
    }
    let logged = app.clock.now_ms();
    let frame = encode(message);
    let parcel = Parcel::logged(&frame, message, logged);
    let state = app.table.state(receiver).await?;
    delivery::to_user(app, &parcel, receiver, &state, fate).await
}

async fn send_to_group(app: &App, message: &Message, group: &GroupId) -> Result<()> {
    if app.table.membership(group, &message.sender).await?.is_none() {
        app.metrics.count(Metric::Withheld);
        return Ok(());
    }
    log(app, message).await?;
    let logged = app.clock.now_ms();
    let (roster, blockers) = futures::try_join!(app.table.roster(group), app.table.blockers(&message.sender))?;
    // Dissolved in between: nobody is in it.
    let Some(roster) = roster else { return Ok(()) };
    let is_receiver = |member: &RosterMember| member.user != message.sender && member.joined <= message.id.time_ms();
    let receivers = |members: Vec<RosterMember>| -> Vec<UserId> {
        members.into_iter().filter(is_receiver).map(|member| member.user).collect()
    };
    let shards: Vec<Vec<UserId>> = roster.shards.into_iter().map(receivers).collect();
    match &app.queue {
        Some(queue) if shards.iter().map(Vec::len).sum::<usize>() > app.fanout_members => {
            app.metrics.add(Metric::Withheld, shards.iter().flatten().filter(|user| blockers.contains(user)).count());
            queue.send(&job::cut(group, message.id, logged, &shards, &blockers)).await
        }
        _ => {
            let frame = encode(message);
            delivery::to_users(app, &Parcel::logged(&frame, message, logged), shards.concat(), &blockers).await
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
