//! `unicast`, `multicast`, `$default`: a message is sent. Every frame that no other function answers comes here too.

use futures::future::BoxFuture;
use shared::Result;
use shared::frame::{Ack, ErrorCode, Malformed, Submission, encode};

use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;
use crate::delivery::reply::{self, refuse};
use crate::delivery::send::{self, Accepted, Author, Pushes, Sending};
use crate::function::Function;

/// The function.
pub static FUNCTION: Function =
    Function::socket("message", &["unicast", "multicast", "$default"], handle).pushing().queueing().announcing();

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

/// Sends a message and acknowledges it, or answers with an error. Without a request id, an accepted message is not
/// acknowledged.
async fn accept(app: &App, event: &SocketEvent, submission: Submission<'_>) -> Result<()> {
    let request_id = submission.request_id.clone();
    let sending = Sending {
        sender: &event.user,
        author: Author::User,
        connection: Some(&event.connection),
        arrived: event.arrived,
        submission,
        pushes: Pushes::Finish,
    };
    let acknowledge = async |Accepted { id, timestamp }| {
        if let Some(request_id) = &request_id {
            // A client that misses this sends the request again.
            app.pusher()?.post(&event.connection, &encode(&Ack { request_id, id, timestamp })).await;
        }
        Ok(())
    };
    let Err(error) = send::send(app, sending, acknowledge).await else { return Ok(()) };
    app.wait_for_tick().await;
    reply::refuse_by(app, event, &error, request_id.as_ref()).await
}
