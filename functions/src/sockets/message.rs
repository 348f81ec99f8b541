//! `unicast`, `multicast`, `$default`: a message is sent. Every frame that no other function answers comes here too.

use futures::future::BoxFuture;
use shared::Result;
use shared::clock::Ms;
use shared::frame::{Ack, ErrorCode, ErrorFrame, Malformed, Submission, encode};
use shared::id::RequestId;

use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;
use crate::delivery::reply::{self, refuse};
use crate::delivery::send::{self, Outcome, Pushes, Sending};
use crate::function::{Function, Needs};

/// The function.
pub static FUNCTION: Function =
    Function::socket("message", &["unicast", "multicast", "$default"], Needs::Pushes, handle);

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let not_text = Malformed { message: "the frame must be text".to_owned(), request_id: None };
        let parsed = event.frame.as_deref().ok_or(not_text).and_then(Submission::parse);
        if reply::has_expired(app, event) {
            let request_id = parsed.map_or_else(|why| why.request_id, |submission| submission.request_id);
            return reply::end_expired(app, event, request_id.as_ref()).await;
        }
        match parsed {
            Ok(submission) => accept(app, event, submission).await?,
            Err(why) => refuse(app, event, ErrorCode::BadRequest, &why.message, why.request_id.as_ref()).await?,
        }
        Ok(Reply::empty())
    })
}

/// Sends a message and acknowledges it, or answers with an error.
async fn accept(app: &App, event: &SocketEvent, submission: Submission<'_>) -> Result<()> {
    let request_id = submission.request_id.clone();
    let sending = Sending {
        sender: &event.user,
        connection: Some(&event.connection),
        arrived: event.arrived,
        submission,
        pushes: Pushes::Finish,
    };
    let answer = async |outcome| tell(app, event, request_id.as_ref(), outcome).await;
    let Err(error) = send::send(app, sending, answer).await else { return Ok(()) };
    app.report(&error);
    let code = if error.is_ours() { ErrorCode::Unavailable } else { ErrorCode::BadRequest };
    app.wait_for_tick().await;
    refuse(app, event, code, &error.problem().detail, request_id.as_ref()).await
}

/// Tells the sender the outcome. Without a request id, an accepted message is not acknowledged.
async fn tell(app: &App, event: &SocketEvent, request_id: Option<&RequestId>, outcome: Outcome) -> Result<()> {
    match (outcome, request_id) {
        (Outcome::Accepted { .. }, None) => {}
        (Outcome::Accepted { id, timestamp }, Some(request_id)) => {
            // A client that misses this sends the request again.
            app.pusher()?.post(&event.connection, &encode(&Ack { request_id, id, timestamp })).await;
        }
        (Outcome::RequestIdReused, _) => {
            let why = "requestId was used for another message in the last ten minutes";
            refuse(app, event, ErrorCode::RequestIdReused, why, request_id).await?;
        }
        (Outcome::Muted { until }, _) => tell_muted(app, event, request_id, until).await?,
    }
    Ok(())
}

async fn tell_muted(app: &App, event: &SocketEvent, request_id: Option<&RequestId>, until: Ms) -> Result<()> {
    let message = "the manager of the group has muted you";
    let frame = ErrorFrame { code: ErrorCode::Muted, message, request_id, until: Some(until) };
    app.pusher()?.post(&event.connection, &encode(&frame)).await;
    Ok(())
}
