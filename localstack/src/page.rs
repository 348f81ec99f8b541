//! The page at `/`, a small chat client, and what it can do beside the protocol: have a token for anybody, and make
//! two users friends, which in the cloud is the host application's to say. Nothing of this exists there.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;
use shared::clock::{Clock, SystemClock};
use shared::id::UserId;
use shared::token::sign;

use crate::event::query_pairs;
use crate::gateway::Gateway;
use crate::rest::{is_loopback, message};

/// How long the page's tokens are valid.
const LIFETIME_SECONDS: u64 = 8 * 60 * 60;

/// What the page may do: talk to this address, and nothing else.
const POLICY: &str = "default-src 'none'; connect-src 'self' ws: wss:; style-src 'unsafe-inline'; \
     script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`.
pub(crate) async fn page() -> Response {
    let headers = [(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer"), (CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("page.html"))).into_response()
}

/// `GET /dev/token?user=…`: a token for anybody, for the page of this very address and for this machine's own programs.
pub(crate) async fn token(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some(tokens) = gateway.development_tokens.as_ref().filter(|_| is_own(&headers)) else {
        return message(StatusCode::NOT_FOUND, "Not Found");
    };
    let token = user("user", query.as_deref()).and_then(|user| {
        sign(tokens, &user, SystemClock.now_ms(), LIFETIME_SECONDS).map_err(|error| error.problem().detail)
    });
    match token {
        Ok(token) => ([(CONTENT_TYPE, "text/plain"), (CACHE_CONTROL, "no-store")], token).into_response(),
        Err(why) => message(StatusCode::BAD_REQUEST, &why),
    }
}

/// `POST /dev/friends?user=…&friend=…`: make two users friends, under the same conditions.
pub(crate) async fn friends(
    State(gateway): State<Arc<Gateway>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if gateway.development_tokens.is_none() || !is_own(&headers) {
        return message(StatusCode::NOT_FOUND, "Not Found");
    }
    let query = query.as_deref();
    let payload = user("user", query).and_then(|user_id| Ok((user_id, user("friend", query)?)));
    let payload = payload.map(|(user, friend)| json!({ "method": "PUT", "userId": user, "friendId": friend }));
    let outcome = match payload {
        Ok(payload) => {
            gateway.invoke("relationship", payload.to_string()).await.map_err(|failure| failure.error_message)
        }
        Err(why) => Err(why),
    };
    outcome.map_or_else(|why| message(StatusCode::BAD_REQUEST, &why), |_| StatusCode::NO_CONTENT.into_response())
}

/// The user that a query names.
fn user(name: &str, query: Option<&str>) -> Result<UserId, String> {
    let query = query_pairs(query.unwrap_or_default());
    let text = query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    UserId::parse(text).map_err(|why| format!("{name} {why}"))
}

/// Whether a request comes from this machine by a name of its own, and from no other site's page.
fn is_own(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_same_site =
        headers.get(ORIGIN).is_none_or(|origin| origin.as_bytes() == format!("http://{host}").as_bytes());
    is_loopback(host) && is_same_site
}
