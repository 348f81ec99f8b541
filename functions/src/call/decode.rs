//! Decodes events of API Gateway for lambda_http.
//!
//! lambda_http builds a URI of host, path and query, and panics if it is invalid. A Host header may have any content.
//! No function reads this URI. So host, path and query are removed from the event, and the handler gets the path
//! separately.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayWebsocketProxyRequest};
use lambda_http::http::header::HOST;
use lambda_http::request::LambdaRequest;
use lambda_http::{Request, RequestExt};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::token;
use crate::failure::Failure;

/// An event for lambda_http, and the parts that were removed from it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) payload: LambdaRequest,
    pub(crate) address: Address,
}

/// The parts of an address that are removed from an event.
#[derive(Debug, Default)]
pub(crate) struct Address {
    /// The path as the client sent it.
    path: String,
    query: Query,
}

/// Whether the query is UTF-8. The decoder of queries replaces other bytes with U+FFFD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Query {
    /// UTF-8 after percent-decoding.
    #[default]
    Utf8,
    /// Another encoding, such as GBK.
    Other,
}

impl Address {
    /// Returns the request with its path, and with [`Query`] as an extension.
    pub(crate) fn of(&self, mut request: Request) -> Request {
        request.extensions_mut().insert(self.query);
        request.with_raw_http_path(&self.path)
    }
}

impl Event {
    /// Parses an event of an HTTP API.
    pub(crate) fn of_http(text: &str) -> Result<Self, Failure> {
        let mut event: ApiGatewayV2httpRequest = parse(text)?;
        require_body(event.body.as_deref(), event.is_base64_encoded)?;
        Ok(Self { address: take_address(&mut event), payload: LambdaRequest::ApiGatewayV2(event) })
    }

    /// Parses an event of the WebSocket API. lambda_http's own parser would first try to read it as one of an HTTP API.
    pub(crate) fn of_socket(text: &str) -> Result<Self, Failure> {
        let mut event: ApiGatewayWebsocketProxyRequest = parse(text)?;
        require_body(event.body.as_deref(), event.is_base64_encoded)?;
        // If a header is in both maps, lambda_http keeps its last value only.
        let single = std::mem::take(&mut event.headers);
        event.multi_value_headers = token::all_headers(std::mem::take(&mut event.multi_value_headers), &single);
        Ok(Self { address: take_handshake(&mut event), payload: LambdaRequest::WebSocket(event) })
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::new("MalformedEvent", error.to_string()))
}

fn require_body(body: Option<&str>, is_base64: bool) -> Result<(), Failure> {
    match is_base64 && STANDARD.decode(body.unwrap_or_default()).is_err() {
        true => Err(Failure::new("MalformedEvent", "the body is not base64")),
        false => Ok(()),
    }
}

/// Removes the address from a request of an HTTP API. The query stays as parsed parameters.
fn take_address(event: &mut ApiGatewayV2httpRequest) -> Address {
    event.headers.remove(HOST);
    event.request_context.domain_name = None;
    event.request_context.stage = None;
    let mut address = Address { path: event.raw_path.take().unwrap_or_default(), query: Query::Utf8 };
    let Some(query) = event.raw_query_string.take() else { return address };
    if percent_decode_str(&query).decode_utf8().is_err() {
        address.query = Query::Other;
    }
    let Ok(parameters) = query.parse();
    event.query_string_parameters = parameters;
    address
}

/// Removes the address and the query from an event of the WebSocket API. The authorizer has already read the token.
fn take_handshake(event: &mut ApiGatewayWebsocketProxyRequest) -> Address {
    event.headers.remove(HOST);
    event.multi_value_headers.remove(HOST);
    event.request_context.domain_name = None;
    event.request_context.stage = None;
    event.query_string_parameters = Default::default();
    event.multi_value_query_string_parameters = Default::default();
    Address { path: event.path.take().unwrap_or_default(), query: Query::Utf8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: &str = include_str!("../../../tests/events/http-pull.json");
    const CONNECT: &str = include_str!("../../../tests/events/websocket-connect.json");

    fn read(text: &str) -> Request {
        request(Event::of_http(text))
    }

    fn request(event: Result<Event, Failure>) -> Request {
        let event = event.unwrap();
        event.address.of(event.payload.into())
    }

    #[test]
    fn path_query_and_body_are_unchanged() {
        let request = read(PULL);
        assert_eq!(request.raw_http_path(), "/api/message");
        let query = request.query_string_parameters();
        assert_eq!((query.all("access_token"), query.all("sort")), (Some(vec!["one", "two"]), Some(vec!["desc"])));
        assert_eq!(&read(include_str!("../../../tests/events/http-invite-base64.json")).body()[..1], b"{");
    }

    #[test]
    fn a_query_that_is_not_utf_8_is_recognized() {
        for (query, expected) in [
            ("name=%E8%B7%91", Query::Utf8),
            ("name=\u{8dd1}", Query::Utf8),
            ("name=%EF%BF%BD", Query::Utf8),
            ("name=%zz%4%", Query::Utf8),
            ("name=%C5%DC%B2%BD", Query::Other),
            ("na%ffme=1", Query::Other),
            ("a=%E8&b=%B7%91", Query::Other),
        ] {
            assert_eq!(read(&PULL.replace("&sort=desc", query)).extensions().get(), Some(&expected), "{query}");
        }
    }

    #[test]
    fn no_host_path_or_query_makes_it_panic() {
        let host = "f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com";
        for odd in ["", ":", "a b", "[::1", "host:99999", "a/b", "é", "@"] {
            read(&PULL.replace(host, odd));
            let connect = CONNECT.replace("a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com", odd);
            request(Event::of_socket(&connect));
        }
        for query in ["a=<>", "a b", "#", "%", "%ff", "\\u0000", "\\\"", &"x".repeat(100_000)] {
            read(&PULL.replace("&sort=desc", query));
        }
        for path in ["", ":x", "api", "/a b", "/<>{}", "//", "/é"] {
            assert_eq!(read(&PULL.replace("\"/api/message\"", &format!("\"{path}\""))).raw_http_path(), path);
        }
        read(&PULL.replace("\"x-forwarded-proto\": \"https\"", "\"x-forwarded-proto\": \"\""));
    }

    #[test]
    fn an_invalid_base64_body_is_refused() {
        let binary = include_str!("../../../tests/events/http-invite-base64.json");
        let body = serde_json::from_str::<serde_json::Value>(binary).unwrap()["body"].as_str().unwrap().to_owned();
        assert_eq!(Event::of_http(&binary.replace(&body, "!")).unwrap_err().error_type, "MalformedEvent");
    }

    #[test]
    fn an_event_of_another_kind_is_refused() {
        for (event, kind) in [(Event::of_http(CONNECT), "HTTP"), (Event::of_socket(PULL), "WebSocket")] {
            assert_eq!(event.unwrap_err().error_type, "MalformedEvent", "{kind}");
        }
    }
}
