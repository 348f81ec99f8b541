//! The HTTP APIs. Turns a request into an event, and a function's result into the response.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, SET_COOKIE, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use shared::config::Origins;

use crate::answer::message;
use crate::event::HttpRequest;
use crate::gateway::Gateway;
use crate::routes::Routes;
use crate::template::Cors;

/// The largest request body.
const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

/// Handles every request at the public address that is not for the WebSocket, the page or the documents.
pub(crate) async fn public(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let origin = only_origin(request.headers()).cloned();
    let Some(cors) = &gateway.cors else { return call(&gateway, &gateway.public, peer, request).await };
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let is_routed = gateway.public.find(request.method().as_str(), request.uri().path()).is_some();
    // The gateway answers a preflight by itself, unless a route such as ANY matches it.
    let mut response = match is_preflight && !is_routed {
        true => StatusCode::NO_CONTENT.into_response(),
        false => call(&gateway, &gateway.public, peer, request).await,
    };
    allow(response.headers_mut(), cors, &gateway.origins, origin.as_ref(), is_preflight);
    response
}

/// Handles every request at the internal address that is not for an API of AWS.
pub(crate) async fn internal(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    call(&gateway, &gateway.internal, peer, request).await
}

async fn call(gateway: &Gateway, routes: &Routes, peer: SocketAddr, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Some(route) = routes.find(parts.method.as_str(), parts.uri.path()) else {
        return message(StatusCode::NOT_FOUND, "Not Found");
    };
    let body = match tokio::time::timeout(gateway.request_timeout, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
        Err(_late) => return message(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
    };
    let source_ip = peer.ip().to_string();
    let (method, uri, headers) = (&parts.method, &parts.uri, &parts.headers);
    let event = HttpRequest { method, uri, headers, body: &body, source_ip: &source_ip }.event(&route);
    match gateway.invoke(route.function, event.to_string()).await {
        Ok(result) => response(&serde_json::from_str(&result).unwrap_or_default()),
        Err(failure) if failure.error_type == "IntegrationTimeout" => {
            message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
        }
        Err(_) => message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
    }
}

/// Builds the response from a function's result.
fn response(result: &Value) -> Response {
    let status = result["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
    let Some(Ok(status)) = status.map(StatusCode::from_u16) else {
        return message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    };
    let mut response = Response::new(Body::from(body(result)));
    *response.status_mut() = status;
    for (name, value) in result["headers"].as_object().into_iter().flatten() {
        let name = HeaderName::try_from(name.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value.as_str().unwrap_or_default())) {
            response.headers_mut().insert(name, value);
        }
    }
    for cookie in result["cookies"].as_array().into_iter().flatten() {
        if let Ok(cookie) = HeaderValue::try_from(cookie.as_str().unwrap_or_default()) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}

fn body(result: &Value) -> Bytes {
    let text = result["body"].as_str().unwrap_or_default();
    match result["isBase64Encoded"].as_bool() {
        Some(true) => STANDARD.decode(text).unwrap_or_default().into(),
        _ => text.to_owned().into(),
    }
}

/// The CORS headers. If CORS is configured, the gateway sets them, and those of functions are removed.
const CORS_HEADERS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// Returns the origin of the calling page. Two origins count as none, since no browser sends two.
fn only_origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

/// Sets the CORS headers if the origin is allowed. Removes those of the function first.
fn allow(headers: &mut HeaderMap, cors: &Cors, origins: &Origins, origin: Option<&HeaderValue>, is_preflight: bool) {
    for name in CORS_HEADERS {
        headers.remove(name);
    }
    let Some(origin) = origin.and_then(|origin| origin.to_str().ok()) else { return };
    if !origins.allows(origin) {
        return;
    }
    let any = *origins == Origins::Any;
    set(headers, ACCESS_CONTROL_ALLOW_ORIGIN, if any { "*" } else { origin });
    if !any {
        set(headers, VARY, "Origin");
    }
    if is_preflight {
        set(headers, ACCESS_CONTROL_ALLOW_METHODS, &cors.methods.join(","));
        set(headers, ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers.join(","));
        if let Some(seconds) = cors.max_age {
            set(headers, ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
        }
    } else if !cors.exposed.is_empty() {
        set(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &cors.exposed.join(","));
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_origins_may_read() {
        let allowed = |origins: &Origins, origin: &str| {
            // A header of the function is ignored.
            let mut headers = HeaderMap::from_iter([(ACCESS_CONTROL_ALLOW_ORIGIN, "null".parse().unwrap())]);
            allow(&mut headers, &Cors::default(), origins, Some(&origin.parse().unwrap()), false);
            headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed(&Origins::Any, "https://a").as_deref(), Some("*"));
        assert_eq!(allowed(&Origins::Loopback, "http://localhost:1").as_deref(), Some("http://localhost:1"));
        assert_eq!(allowed(&Origins::Loopback, "https://a"), None);
        let only = Origins::Only(vec!["https://a".to_owned()]);
        assert_eq!(allowed(&only, "https://a").as_deref(), Some("https://a"));
        assert_eq!(allowed(&only, "https://b"), None);
    }
}
