//! Serves the page at `/`, a chat client, and the calls that it makes beside the protocol: get a token for any user, set
//! friends and blocks, notify, and tell the log that a message reaches nobody. In AWS, the host application does this.
//! None of this is deployed to AWS.

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

/// The content security policy of the page: it may call this address only, and runs no inline script or style. Pictures
/// may be anywhere: the page loads one that a message links to when the user clicks it.
const POLICY: &str = "default-src 'none'; connect-src 'self' ws: wss:; style-src 'self'; script-src 'self'; \
     img-src data: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The header in which browsers name the relation between the calling page and this address.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The functions that the page may invoke in the name of the host application.
const HOST_FUNCTIONS: [&str; 2] = ["notification", "relationship"];

/// Serves `GET /` and the files of the page. Their source is `clients/page`.
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

/// Serves `/dev/…`, where the page makes the calls of the host application.
pub(crate) fn host_application() -> Router<Arc<Gateway>> {
    // A page of another site may load these answers as a script. The browser must not run them.
    let unread = map_response(async |mut response: Response| {
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    });
    let routes = Router::new().route("/dev/token", get(token)).route("/dev/unheard", post(unheard));
    routes.route("/dev/{function}", post(host)).layer(unread)
}

/// Handles `GET /dev/token?user=…`: a token for any user, for the page of this address and programs of this machine.
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

/// Handles `POST /dev/unheard?sender=…&receiver=…`: the page sends a message to a user who is no friend. The sender gets
/// the same answers as if it arrived, so the log tells the developer why it does not.
async fn unheard(State(gateway): State<Arc<Gateway>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    if development_tokens(&gateway, &headers).is_none() {
        return message(StatusCode::NOT_FOUND, "Not Found");
    }
    match (user("sender", query.as_deref()), user("receiver", query.as_deref())) {
        (Ok(sender), Ok(receiver)) => {
            tracing::info!(
                "{receiver} gets no messages of {sender}: they are not friends. Make them friends: PUT \
                 /relationship/{sender}/friends/{receiver} at the internal address."
            );
            StatusCode::NO_CONTENT.into_response()
        }
        (Err(why), _) | (_, Err(why)) => message(StatusCode::BAD_REQUEST, &why),
    }
}

/// Handles `POST /dev/{function}`: a call of the host application, with the payload of a direct invocation. The same
/// callers are allowed as for a token.
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

/// Returns the user that a query names.
fn user(name: &str, query: Option<&str>) -> Result<UserId, String> {
    let query = query_pairs(query.unwrap_or_default());
    let text = query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    UserId::parse(text).map_err(|why| format!("{name} {why}"))
}

/// Returns the settings of tokens if the secret is the development secret and the request may ask for a token.
fn development_tokens<'a>(gateway: &'a Gateway, headers: &HeaderMap) -> Option<&'a TokenConfig> {
    gateway.development_tokens.as_ref().filter(|_| is_own(headers))
}

/// Returns whether a request uses a name of this machine and does not come from a page of another site.
fn is_own(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = format!("http://{host}");
    // No browser sends two, so a request with two is always refused.
    let mut origins = headers.get_all(ORIGIN).iter();
    let is_same_origin = origins.next().is_none_or(|origin| origin.as_bytes() == own.as_bytes());
    // A script or an image for a page of another site has no origin. Browsers mark such a request as cross-site.
    let is_loaded_here = headers.get(SEC_FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none");
    is_loopback(host) && is_same_origin && origins.next().is_none() && is_loaded_here
}
