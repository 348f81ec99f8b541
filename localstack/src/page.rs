//! The page at `/`, a small chat client, and what it can do beside the protocol: have a token for anybody, and say who is
//! whose friend, block and notify, which in the cloud is the host application's. Nothing of this exists there.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use shared::clock::{Clock, SystemClock};
use shared::config::TokenConfig;
use shared::id::UserId;
use shared::token::sign;

use crate::answer::{is_loopback, message};
use crate::event::query_pairs;
use crate::gateway::Gateway;

/// How long the page's tokens are valid.
const LIFETIME_SECONDS: u64 = 8 * 60 * 60;

/// What the page may do: talk to this address, and nothing else.
const POLICY: &str = "default-src 'none'; connect-src 'self' ws: wss:; style-src 'self'; script-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How browsers say from where something is loaded.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the page may invoke in the name of the application around the chat.
const HOST_FUNCTIONS: [&str; 2] = ["notification", "relationship"];

/// `GET /`, and what the page is made of: `clients/page`, whose program is built from there.
pub(crate) fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let file = |kind: &'static str, text: &'static str| {
        let headers = [
            (CONTENT_TYPE, kind),
            (CONTENT_SECURITY_POLICY, POLICY),
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-cache"),
        ];
        get(async move || (headers, text))
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../../clients/page/src/index.html")))
        .route("/page.css", file("text/css; charset=utf-8", include_str!("../../clients/page/src/page.css")))
        .route("/page.js", file("text/javascript; charset=utf-8", include_str!("page.js")))
}

/// `/dev/…`: what the page asks of the application around a chat.
pub(crate) fn host_application() -> Router<Arc<Gateway>> {
    // A page elsewhere may name any of it as its script, and must not have it read as one.
    let unread = map_response(async |mut response: Response| {
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    });
    Router::new().route("/dev/token", get(token)).route("/dev/{function}", post(host)).layer(unread)
}

/// `GET /dev/token?user=…`: a token for anybody, for the page of this very address and for this machine's own programs.
async fn token(State(gateway): State<Arc<Gateway>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let Some(tokens) = development_tokens(&gateway, &headers) else {
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

/// `POST /dev/{function}`: what the application around the chat does, by the payload of a direct invocation, under the
/// same conditions.
async fn host(
    State(gateway): State<Arc<Gateway>>,
    Path(function): Path<String>,
    headers: HeaderMap,
    payload: String,
) -> Response {
    if development_tokens(&gateway, &headers).is_none() || !HOST_FUNCTIONS.contains(&function.as_str()) {
        return message(StatusCode::NOT_FOUND, "Not Found");
    }
    match gateway.invoke(&function, payload).await {
        Ok(result) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], result).into_response(),
        Err(failure) => message(StatusCode::BAD_REQUEST, &failure.error_message),
    }
}

/// The user that a query names.
fn user(name: &str, query: Option<&str>) -> Result<UserId, String> {
    let query = query_pairs(query.unwrap_or_default());
    let text = query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    UserId::parse(text).map_err(|why| format!("{name} {why}"))
}

/// What tokens are signed by, where the secret is the one that everybody knows, for a request that may ask for one.
fn development_tokens<'a>(gateway: &'a Gateway, headers: &HeaderMap) -> Option<&'a TokenConfig> {
    gateway.development_tokens.as_ref().filter(|_| is_own(headers))
}

/// Whether a request comes from this machine by a name of its own, and from no other site's page.
fn is_own(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = format!("http://{host}");
    // No browser sends two, so two are refused whatever they say.
    let mut origins = headers.get_all(ORIGIN).iter();
    let is_same_origin = origins.next().is_none_or(|origin| origin.as_bytes() == own.as_bytes());
    // What a page elsewhere loads as a script or an image has no origin; browsers say that it is cross-site.
    let is_loaded_here = headers.get(SEC_FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none");
    is_loopback(host) && is_same_origin && origins.next().is_none() && is_loaded_here
}
