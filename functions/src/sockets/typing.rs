//! `typing`: tells a friend that the user is typing. Only connections of version 2 may send it, and only they get it.
//!
//! Nothing is stored, and there is no answer but for a malformed frame. A user who blocks the sender gets nothing; the
//! function makes the same calls then.

use futures::future::BoxFuture;
use shared::frame::{ErrorCode, Typing, TypingFrame, encode};
use shared::{Error, Result};

use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;
use crate::delivery::gate;
use crate::delivery::push::{self, Handling};
use crate::delivery::reply::{self, refuse};
use crate::function::Function;

/// The function.
pub static FUNCTION: Function = Function::socket("typing", &["typing"], handle).pushing();

fn handle<'a>(app: &'a App, event: &'a SocketEvent) -> BoxFuture<'a, Result<Reply>> {
    Box::pin(async move {
        let text = event.frame.as_deref().unwrap_or_default();
        let parsed = TypingFrame::parse(text, event.version);
        if reply::has_expired(app, event) {
            let request_id = parsed.err().and_then(|why| why.request_id);
            return reply::end_expired(app, event, request_id.as_ref()).await;
        }
        let receiver = match parsed {
            Ok(frame) => frame.receiver,
            Err(why) => {
                refuse(app, event, ErrorCode::BadRequest, &why.message, why.request_id.as_ref()).await?;
                return Ok(Reply::empty());
            }
        };
        if gate::require_no_remembered_limit(app, &event.user).is_err() {
            return Ok(Reply::empty());
        }
        let reading =
            async { futures::try_join!(app.table.standing(&event.user, &receiver), app.table.state(&receiver)) };
        let ((standing, state), counted) = gate::counted(app, &event.user, reading).await?;
        match gate::admit(app, &event.user, &standing.sender, counted) {
            Ok(()) => {}
            Err(error @ Error::Banned { .. }) => {
                reply::refuse_by(app, event, &error, None).await?;
                return Ok(Reply::empty());
            }
            // A signal is worth no answer.
            Err(_) => return Ok(Reply::empty()),
        }
        let handling = if standing.delivers() { Handling::Deliver } else { Handling::Withhold };
        let connections: Vec<_> = state.open_of_version_2(app.clock.now_ms()).collect();
        push::signal(app, &connections, &encode(&Typing { sender_id: &event.user }), handling).await;
        Ok(Reply::empty())
    })
}
