//! DynamoDB's API for the programs of this machine. Web pages cannot use it.
//!
//! Any page can make a browser send requests to this address. So each request is checked. It must name its operation in
//! `X-Amz-Target`, which a page cannot send without an `Origin` or a preflight. Its `Host` must name this machine, so a
//! foreign name that resolves to it (DNS rebinding) is refused. No answer has CORS headers.

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::runtime::Handle;

use crate::answer;
use crate::engine::Engine;
use crate::event::request_id;

/// The largest request that DynamoDB accepts.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The prefix of the operation in `X-Amz-Target`.
const SERVICES: [&str; 2] = ["DynamoDB_20120810.", "DynamoDBStreams_20120810."];

const JSON: &str = "application/x-amz-json-1.0";

/// Returns the API over a database.
pub(crate) fn router(engine: Engine) -> Router {
    Router::new().fallback(call).with_state(engine)
}

async fn call(State(engine): State<Engine>, request: Request) -> Response {
    let Some(operation) = operation(request.method(), request.headers()) else {
        return answer::message(StatusCode::FORBIDDEN, "Forbidden");
    };
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY_BYTES).await else {
        return answer::message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
    };
    // A separate thread, because a scan would block the sockets.
    let (runtime, blocking, name) = (Handle::current(), engine.clone(), operation.clone());
    let performing = move || runtime.block_on(blocking.perform(&name, &body));
    let Ok(answered) = tokio::task::spawn_blocking(performing).await else {
        return answer::message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    };
    let (status, body) = engine.keep(&operation, answered).await;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [(CONTENT_TYPE, JSON.to_owned()), (REQUEST_ID, request_id())];
    (status, headers, body).into_response()
}

/// Returns the operation that a program of this machine calls. Returns `None` if a page could have sent the request.
fn operation(method: &Method, headers: &HeaderMap) -> Option<String> {
    if method != Method::POST || answer::comes_from_a_page(headers) {
        return None;
    }
    let target = headers.get(TARGET)?.to_str().ok()?;
    SERVICES.iter().find_map(|service| target.strip_prefix(service)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_accepted_and_pages_are_not() {
        let operation = |method: Method, headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            operation(&method, &headers)
        };
        let (host, target) = (("host", "127.0.0.1:8000"), ("x-amz-target", "DynamoDB_20120810.GetItem"));
        assert_eq!(operation(Method::POST, &[host, target]).as_deref(), Some("GetItem"));
        assert_eq!(operation(Method::POST, &[("host", "LocalHost"), target]).as_deref(), Some("GetItem"));
        for headers in [
            &[host][..],
            &[target],
            &[host, ("x-amz-target", "GetItem")],
            &[host, target, ("origin", "null")],
            &[host, target, ("origin", "http://127.0.0.1:8000")],
            &[("host", "evil.example:8000"), target],
        ] {
            assert_eq!(operation(Method::POST, headers), None, "{headers:?}");
        }
        for method in [Method::GET, Method::OPTIONS, Method::PUT] {
            assert_eq!(operation(method, &[host, target]), None);
        }
    }
}
