//! Builds the events for functions, as JSON in the format of API Gateway.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method, Uri};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};
use shared::clock::{Clock, Ms, SystemClock};

use crate::connections::{Close, Connection};
use crate::routes::{Match, decode};

pub(crate) const ACCOUNT: &str = "000000000000";
const SOCKET_API: &str = "localsocket";
const HTTP_API: &str = "localhttp";

/// The data of a handshake that events need.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) stage: String,
    pub(crate) connection_id: String,
    pub(crate) host: String,
    pub(crate) source_ip: String,
    pub(crate) user_agent: String,
    pub(crate) headers: HeaderMap,
    pub(crate) query: String,
    pub(crate) connected_at: Ms,
}

/// Returns a request id like those of WebSocket APIs: random bytes in base64.
pub(crate) fn request_id() -> String {
    let bytes: [u8; 11] = rand::random();
    STANDARD.encode(bytes)
}

impl Handshake {
    /// Returns the handshake for later events. It drops the request with its token, and frees its buffer.
    pub(crate) fn without_request(self) -> Self {
        Self { headers: HeaderMap::new(), query: String::new(), ..self }
    }

    /// Builds the event for the authorizer.
    pub(crate) fn authorizer_event(&self) -> Value {
        let context = self.context("$connect", "CONNECT", None);
        let mut event = json!({
            "type": "REQUEST",
            "methodArn": format!("arn:aws:execute-api:us-east-1:{ACCOUNT}:{SOCKET_API}/{}/$connect", self.stage),
            "stageVariables": {},
            "requestContext": context,
        });
        self.add_request(&mut event);
        event
    }

    /// Builds the event for `$connect`.
    pub(crate) fn connect_event(&self, authorizer: &Value) -> Value {
        let mut event = json!({
            "requestContext": self.context("$connect", "CONNECT", Some(authorizer)),
            "isBase64Encoded": false,
        });
        self.add_request(&mut event);
        event
    }

    /// Builds the event of a frame that arrived at that time, for its route.
    pub(crate) fn message_event(&self, route: &str, authorizer: &Value, frame: &str, arrived: Ms) -> Value {
        let mut context = self.context_at(arrived, route, "MESSAGE", Some(authorizer));
        context["messageId"] = json!(request_id());
        json!({ "requestContext": context, "body": frame, "isBase64Encoded": false })
    }

    /// Builds the event for `$disconnect` of a connection that ended at that time.
    pub(crate) fn disconnect_event(&self, authorizer: &Value, close: &Close, ended_at: Ms) -> Value {
        let mut context = self.context_at(ended_at, "$disconnect", "DISCONNECT", Some(authorizer));
        context["disconnectStatusCode"] = json!(close.code);
        context["disconnectReason"] = json!(close.reason);
        json!({
            "headers": { "Host": self.host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" },
            "multiValueHeaders": { "Host": [self.host], "x-api-key": [""], "X-Forwarded-For": [""], "x-restapi": [""] },
            "requestContext": context,
            "isBase64Encoded": false,
        })
    }

    fn context(&self, route: &str, event_type: &str, authorizer: Option<&Value>) -> Value {
        self.context_at(SystemClock.now_ms(), route, event_type, authorizer)
    }

    fn context_at(&self, time: Ms, route: &str, event_type: &str, authorizer: Option<&Value>) -> Value {
        let request_id = request_id();
        let mut context = json!({
            "routeKey": route,
            "eventType": event_type,
            "extendedRequestId": request_id,
            "requestTime": request_time(time),
            "messageDirection": "IN",
            "stage": self.stage,
            "connectedAt": self.connected_at,
            "requestTimeEpoch": time,
            "identity": { "userAgent": self.user_agent, "sourceIp": self.source_ip },
            "requestId": request_id,
            "domainName": self.host,
            "connectionId": self.connection_id,
            "apiId": SOCKET_API,
        });
        if let Some(authorizer) = authorizer {
            context["authorizer"] = authorizer.clone();
        }
        context
    }

    fn add_request(&self, event: &mut Value) {
        let (mut headers, mut all_headers) = (Map::new(), Map::new());
        for name in self.headers.keys() {
            let values: Vec<_> =
                self.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
            headers.insert(name.to_string(), json!(values.last()));
            all_headers.insert(name.to_string(), json!(values));
        }
        let query = query_pairs(&self.query);
        let (mut single, mut multiple) = (Map::new(), BTreeMap::<&str, Vec<&str>>::new());
        for (name, value) in &query {
            single.insert(name.clone(), json!(value));
            multiple.entry(name).or_default().push(value);
        }
        event["headers"] = Value::Object(headers);
        event["multiValueHeaders"] = Value::Object(all_headers);
        if !query.is_empty() {
            event["queryStringParameters"] = Value::Object(single);
            event["multiValueQueryStringParameters"] = json!(multiple);
        }
    }
}

/// Returns the authorizer's context as later events hold it: every value is a string.
pub(crate) fn authorizer_context(answer: &Value) -> Value {
    let mut context = Map::new();
    for (name, value) in answer["context"].as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        context.insert(name.clone(), Value::String(text));
    }
    context.insert("principalId".to_owned(), answer["principalId"].clone());
    context.insert("integrationLatency".to_owned(), json!(0));
    Value::Object(context)
}

/// Builds the body of an error, for the client of a socket or of a refused handshake.
pub(crate) fn socket_error(message: &str, connection_id: &str) -> Value {
    json!({ "message": message, "connectionId": connection_id, "requestId": request_id() })
}

/// Describes a connection, as the management API answers `GET`.
pub(crate) fn connection_view(connection: &Connection) -> Value {
    json!({
        "connectedAt": iso_time(connection.connected_at),
        "identity": { "sourceIp": connection.source_ip, "userAgent": connection.user_agent },
        "lastActiveAt": iso_time(connection.last_active()),
    })
}

/// A request to an HTTP API.
#[derive(Debug)]
pub(crate) struct HttpRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) source_ip: &'a str,
}

impl HttpRequest<'_> {
    /// Builds the event in payload format 2.0.
    pub(crate) fn event(&self, route: &Match<'_>) -> Value {
        let now = SystemClock.now_ms();
        let path = decode(self.uri.path());
        let host = self.header("host");
        let mut event = json!({
            "version": "2.0",
            "routeKey": route.key,
            "rawPath": path,
            "rawQueryString": self.uri.query().unwrap_or_default(),
            "headers": self.joined_headers(),
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": HTTP_API,
                "domainName": host,
                "domainPrefix": host.split('.').next(),
                "http": {
                    "method": self.method.as_str(),
                    "path": path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": self.source_ip,
                    "userAgent": self.header("user-agent"),
                },
                "requestId": request_id(),
                "routeKey": route.key,
                "stage": "$default",
                "time": request_time(now),
                "timeEpoch": now,
            },
            "isBase64Encoded": false,
        });
        self.add_optional(&mut event, route);
        event
    }

    /// Adds the fields that are absent when they are empty.
    fn add_optional(&self, event: &mut Value, route: &Match<'_>) {
        let mut query = BTreeMap::<String, String>::new();
        for (name, value) in query_pairs(self.uri.query().unwrap_or_default()) {
            query.entry(name).and_modify(|joined| *joined = format!("{joined},{value}")).or_insert(value);
        }
        if !query.is_empty() {
            event["queryStringParameters"] = json!(query);
        }
        if !route.variables.is_empty() {
            event["pathParameters"] = json!(route.variables);
        }
        let cookies: Vec<String> =
            self.header("cookie").split("; ").filter(|c| !c.is_empty()).map(str::to_owned).collect();
        if !cookies.is_empty() {
            event["cookies"] = json!(cookies);
        }
        if !self.body.is_empty() {
            let text = std::str::from_utf8(self.body).ok().filter(|_| self.is_text());
            event["isBase64Encoded"] = json!(text.is_none());
            event["body"] = json!(text.map_or_else(|| STANDARD.encode(self.body), str::to_owned));
        }
    }

    fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
    }

    /// Returns the headers in lower case, with repeated ones joined and without cookies.
    fn joined_headers(&self) -> Map<String, Value> {
        let names = self.headers.keys().filter(|name| *name != "cookie");
        let join = |name| {
            let values = self.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            values.collect::<Vec<_>>().join(",")
        };
        names.map(|name| (name.to_string(), Value::String(join(name)))).collect()
    }

    /// Returns whether the event holds the body as text. Otherwise it holds it in base64.
    fn is_text(&self) -> bool {
        let content_type = self.header("content-type").to_lowercase();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        kind.starts_with("text/") || kind.ends_with("json") || kind.ends_with("xml") || kind == "application/javascript"
    }
}

/// Returns the parameters of a query string, decoded, in order.
pub(crate) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |part: &str| {
        let part = part.replace('+', " ");
        percent_decode(part.as_bytes()).decode_utf8_lossy().into_owned()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// Returns year, month, day, hour, minute and second of a time, in UTC.
fn calendar(ms: Ms) -> (u64, u64, u64, u64, u64, u64) {
    let seconds = ms / 1000;
    let days = seconds / 86_400;
    // Years have 365.2425 days on average. They are counted from March, so that a leap day is the last of a year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Returns a time in the format of access logs: `22/Nov/2026:09:08:07 +0000`.
fn request_time(ms: Ms) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day, hour, minute, second) = calendar(ms);
    let name = MONTHS[usize::try_from(month - 1).unwrap_or_default() % 12];
    format!("{day:02}/{name}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
}

/// Returns a time in the format of the management API: `2026-11-22T09:08:07.006Z`.
fn iso_time(ms: Ms) -> String {
    let (year, month, day, hour, minute, second) = calendar(ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_format_of_api_gateway() {
        assert_eq!(iso_time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso_time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(iso_time(1_795_338_487_006), "2026-11-22T09:08:07.006Z");
        assert_eq!(request_time(1_795_338_487_006), "22/Nov/2026:09:08:07 +0000");
        assert_eq!(iso_time(1_798_761_599_999), "2026-12-31T23:59:59.999Z");
    }

    #[test]
    fn an_http_event_has_the_shape_of_payload_format_2() {
        let headers = [("host", "chat.example"), ("content-type", "application/json"), ("x-a", "1"), ("x-a", "2")];
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let uri = "/api/group/a%20b?name=x%26y&name=z".parse().unwrap();
        let request = HttpRequest { method: &Method::PUT, uri: &uri, headers: &headers, body: b"{}", source_ip: "::1" };
        let variables = BTreeMap::from([("groupId".to_owned(), "a b".to_owned())]);
        let event = request.event(&Match { key: "PUT /api/group/{groupId}", function: "f", variables });
        assert_eq!(event["rawPath"], "/api/group/a b");
        assert_eq!(event["rawQueryString"], "name=x%26y&name=z");
        assert_eq!(event["queryStringParameters"]["name"], "x&y,z");
        assert_eq!(event["pathParameters"]["groupId"], "a b");
        assert_eq!(event["headers"]["x-a"], "1,2");
        assert_eq!(event["body"], "{}");
        assert_eq!(event["isBase64Encoded"], false);
        assert_eq!(event["requestContext"]["http"]["method"], "PUT");
    }

    #[test]
    fn a_body_that_is_not_text_is_in_base64() {
        let (headers, uri) = (HeaderMap::new(), "/".parse().unwrap());
        let request = HttpRequest { method: &Method::POST, uri: &uri, headers: &headers, body: b"{}", source_ip: "" };
        let event = request.event(&Match { key: "POST /", function: "f", variables: BTreeMap::new() });
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("e30="), &json!(true)));
    }

    #[test]
    fn the_authorizers_context_becomes_strings() {
        let answer = json!({ "principalId": "ann", "context": { "userId": "ann", "exp": 5 } });
        let context = authorizer_context(&answer);
        assert_eq!((&context["userId"], &context["exp"]), (&json!("ann"), &json!("5")));
        assert_eq!(context["principalId"], "ann");
    }
}
