//! The services of AWS that share one address, in their JSON protocols: SQS and EventBridge. Also shows the events of
//! the bus.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::answer::message;
use crate::bus::put_events;
use crate::gateway::Gateway;
use crate::queue::sqs;

/// Handles `POST /` at the internal address, with service and operation in `X-Amz-Target`.
pub(crate) async fn call(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    match target.and_then(|target| target.split_once('.')) {
        Some((sqs::SERVICE, operation)) => sqs::call(&gateway.queues, operation, &body),
        Some((put_events::SERVICE, operation)) => put_events::call(&gateway.bus, operation, &body),
        _ => message(StatusCode::NOT_FOUND, "Not Found"),
    }
}

/// Handles `GET /dev/events` at the internal address: returns the last events as EventBridge delivers them, the oldest
/// first.
pub(crate) async fn events(State(gateway): State<Arc<Gateway>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], gateway.bus.all()).into_response()
}
