//! The gateway's own answers, and the check of which requests the local addresses accept.

use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Builds an answer of the gateway itself.
pub(crate) fn message(status: StatusCode, text: &str) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], json!({ "message": text }).to_string()).into_response()
}

/// Returns whether a request may come from a page of another site, or used a foreign name for this machine (DNS
/// rebinding). The internal address checks no token, so it accepts programs of this machine only.
pub(crate) fn comes_from_a_page(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    headers.contains_key(ORIGIN) || !is_loopback(host)
}

/// Returns whether a Host header names this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let has_port = |port: &str| port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let host = host.to_ascii_lowercase();
    let mut rests = ["localhost", "127.0.0.1", "[::1]"].into_iter().filter_map(|name| host.strip_prefix(name));
    rests.any(|rest| rest.is_empty() || has_port(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        assert!(["LocalHost:3001", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:1"].iter().all(|h| is_loopback(h)));
        assert!(
            !["", "evil.example:3001", "127.0.0.1.evil.example", "localhost:1.evil"].iter().any(|h| is_loopback(h))
        );
    }
}
