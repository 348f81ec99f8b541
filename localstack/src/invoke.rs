//! Lambda's Invoke API: `aws lambda invoke --endpoint-url …`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use serde_json::value::RawValue;

use crate::gateway::Gateway;
use crate::management::exception;

/// The largest payload of a function.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;

/// Handles `POST /2015-03-31/functions/{name}/invocations` with the payload as body.
pub(crate) async fn invoke(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if !gateway.has_function(&name) {
        return exception(StatusCode::NOT_FOUND, "ResourceNotFoundException");
    }
    let payload = if body.is_empty() {
        Ok("{}".to_owned())
    } else {
        serde_json::from_slice::<Box<RawValue>>(&body).map(|json| json.get().to_owned())
    };
    let Ok(payload) = payload else { return exception(StatusCode::BAD_REQUEST, "InvalidRequestContentException") };
    if headers.get("x-amz-invocation-type").is_some_and(|kind| kind == "Event") {
        let tasks = gateway.tasks.clone();
        tasks.spawn(async move { gateway.invoke(&name, payload).await });
        return StatusCode::ACCEPTED.into_response();
    }
    match gateway.invoke(&name, payload).await {
        Ok(result) => ([("content-type", "application/json")], result).into_response(),
        Err(failure) => {
            let body = json!({ "errorType": failure.error_type, "errorMessage": failure.error_message });
            ([("content-type", "application/json"), ("x-amz-function-error", "Unhandled")], body.to_string())
                .into_response()
        }
    }
}
