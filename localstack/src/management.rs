//! The `@connections` API, through which functions reach connections.

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::ws::Utf8Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::connections::{Close, Connection, Pushed};
use crate::event::connection_view;
use crate::gateway::Gateway;

/// The largest frame that a push may have.
const MAX_FRAME_BYTES: usize = 128 * 1024;

/// Handles `POST`, `GET` and `DELETE /@connections/{id}`. The id is already decoded.
pub(crate) async fn connections(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let method = request.method().clone();
    match to_bytes(request.into_body(), MAX_FRAME_BYTES).await {
        Ok(frame) => reach(&gateway, &id, &method, frame).await,
        Err(_) => exception(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException"),
    }
}

/// Pushes to a connection, describes it, or closes it.
pub(crate) async fn reach(gateway: &Gateway, id: &str, method: &Method, frame: Bytes) -> Response {
    let Some(connection) = gateway.connections.get(id) else { return exception(StatusCode::GONE, "GoneException") };
    match *method {
        Method::POST => post(&connection, frame).await,
        Method::GET => {
            ([("content-type", "application/json")], connection_view(&connection).to_string()).into_response()
        }
        Method::DELETE => {
            connection.close(Close::new(1000, "Connection Closed Normally"));
            StatusCode::NO_CONTENT.into_response()
        }
        _ => exception(StatusCode::FORBIDDEN, "MissingAuthenticationTokenException"),
    }
}

async fn post(connection: &Connection, frame: Bytes) -> Response {
    if frame.len() > MAX_FRAME_BYTES {
        return exception(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException");
    }
    let Ok(frame) = Utf8Bytes::try_from(frame) else {
        return exception(StatusCode::BAD_REQUEST, "BadRequestException");
    };
    match connection.push(frame).await {
        Pushed::Taken => StatusCode::OK.into_response(),
        Pushed::Gone => exception(StatusCode::GONE, "GoneException"),
        // AWS documents this answer for a client whose buffer is full.
        Pushed::Full => exception(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException"),
    }
}

/// Builds an error in the format of the SDKs.
pub(crate) fn exception(status: StatusCode, name: &str) -> Response {
    let headers = [("content-type", "application/json"), ("x-amzn-errortype", name)];
    (status, headers, json!({ "message": null }).to_string()).into_response()
}
