//! Answers to a frame of a WebSocket, over its own connection.

use shared::frame::{ErrorCode, ErrorFrame, encode};
use shared::id::RequestId;
use shared::{Error, Result};

use super::push;
use crate::App;
use crate::call::http::Reply;
use crate::call::socket::SocketEvent;

/// Answers a frame with an error.
pub(crate) async fn refuse(
    app: &App,
    event: &SocketEvent,
    code: ErrorCode,
    message: &str,
    request_id: Option<&RequestId>,
) -> Result<()> {
    let frame = encode(&ErrorFrame::new(code, message, request_id));
    app.pusher()?.post(&event.connection, &frame).await;
    Ok(())
}

/// Answers a frame with the code of an error. The connection of a banned user is closed.
pub(crate) async fn refuse_by(
    app: &App,
    event: &SocketEvent,
    error: &Error,
    request_id: Option<&RequestId>,
) -> Result<()> {
    app.report(error);
    let (problem, otherwise) =
        (error.problem(), if error.is_ours() { ErrorCode::Unavailable } else { ErrorCode::BadRequest });
    let (until, retry_after_ms) = (problem.until, problem.retry_after_ms);
    let code = problem.code.unwrap_or(otherwise);
    let frame = ErrorFrame { until, retry_after_ms, ..ErrorFrame::new(code, &problem.detail, request_id) };
    app.pusher()?.post(&event.connection, &encode(&frame)).await;
    match error {
        Error::Banned { .. } => push::close(app, &event.user, &event.connection).await,
        _ => Ok(()),
    }
}

/// Returns whether the token of the connection has expired.
pub(crate) fn has_expired(app: &App, event: &SocketEvent) -> bool {
    app.clock.now_ms() >= event.expires_at
}

/// Says that the token has expired, and closes the connection.
pub(crate) async fn end_expired(app: &App, event: &SocketEvent, request_id: Option<&RequestId>) -> Result<Reply> {
    refuse(app, event, ErrorCode::TokenExpired, "the token of this connection has expired", request_id).await?;
    push::close(app, &event.user, &event.connection).await?;
    Ok(Reply::empty())
}
