//! Genuine events of API Gateway, from `tests/events`, go through the decoder that runs in Lambda. The tests assert
//! that all the fields that the handlers need are there.

use lambda_http::aws_lambda_events::apigw::{ApiGatewayWebsocketProxyRequest, ApiGatewayWebsocketProxyRequestContext};
use lambda_http::request::{RequestContext, from_str};
use lambda_http::{Body, Request, RequestExt};

fn decoded(event: &str) -> Request {
    from_str(event).expect("a genuine event is decoded")
}

fn socket(request: &Request) -> &ApiGatewayWebsocketProxyRequestContext {
    match request.request_context_ref() {
        Some(RequestContext::WebSocket(context)) => context,
        other => panic!("expected a WebSocket event; got {other:?}"),
    }
}

/// Asserts the user and the connection, which every event after the handshake has.
fn assert_authorized(request: &Request) {
    let context = socket(request);
    assert_eq!(context.connection_id.as_deref(), Some("SdQ8yfeNliACJ9w="));
    assert_eq!(context.authorizer.fields["userId"], "alice");
    assert_eq!(context.authorizer.fields["exp"], "1760612282");
}

fn text(request: &Request) -> &str {
    match request.body() {
        Body::Text(text) => text,
        other => panic!("expected text; got {other:?}"),
    }
}

fn query(request: &Request, name: &str) -> Vec<String> {
    let parameters = request.query_string_parameters();
    parameters.all(name).unwrap_or_default().into_iter().map(str::to_owned).collect()
}

#[test]
fn an_authorize_event_has_all_tokens_the_origin_and_subprotocols() {
    let event = include_str!("../events/websocket-authorize.json");
    let request: ApiGatewayWebsocketProxyRequest = serde_json::from_str(event).unwrap();
    let tokens = &request.multi_value_query_string_parameters;
    assert_eq!(tokens.all("access_token").unwrap(), ["first", "second"]);
    assert_eq!(request.headers["origin"], "https://chat.example");
    assert_eq!(request.headers["sec-websocket-protocol"], "chat, eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmVk");
    assert_eq!(request.request_context.route_key.as_deref(), Some("$connect"));
}

#[test]
fn a_connect_event_has_the_user_the_expiry_and_the_subprotocol() {
    let request = decoded(include_str!("../events/websocket-connect.json"));
    assert_authorized(&request);
    assert_eq!(socket(&request).route_key.as_deref(), Some("$connect"));
    assert!(request.headers()["sec-websocket-protocol"].to_str().unwrap().starts_with("chat,"));
}

#[test]
fn a_message_event_has_the_exact_text_and_its_arrival_time() {
    let request = decoded(include_str!("../events/websocket-unicast.json"));
    assert_authorized(&request);
    assert_eq!(socket(&request).route_key.as_deref(), Some("unicast"));
    assert_eq!(socket(&request).request_time_epoch, 1_760_608_684_551);
    let frame =
        "{ \"type\": \"unicast\", \"receiverId\": \"bob\",\n  \"content\": {\"text\": \"caf\\u00e9\", \"n\": 1.0} }";
    assert_eq!(text(&request), frame);
}

#[test]
fn a_typing_event_has_the_version_of_its_connection() {
    let request = decoded(include_str!("../events/websocket-typing.json"));
    assert_authorized(&request);
    let context = socket(&request);
    assert_eq!((context.route_key.as_deref(), &context.authorizer.fields["version"]), (Some("typing"), &"2".into()));
    assert_eq!(text(&request), r#"{"type":"typing","receiverId":"bob"}"#);
}

#[test]
fn a_frame_that_is_not_json_has_the_default_route() {
    let request = decoded(include_str!("../events/websocket-default.json"));
    assert_authorized(&request);
    assert_eq!(socket(&request).route_key.as_deref(), Some("$default"));
    assert_eq!(text(&request), "hello, is this JSON?");
}

#[test]
fn a_binary_frame_is_decoded_as_bytes() {
    let request = decoded(include_str!("../events/websocket-binary.json"));
    assert_authorized(&request);
    assert!(matches!(request.body(), Body::Binary(bytes) if bytes[..] == [0, 1, 2, 3, 255]), "{request:?}");
}

#[test]
fn a_disconnect_event_has_the_user() {
    let request = decoded(include_str!("../events/websocket-disconnect.json"));
    assert_authorized(&request);
    assert_eq!(socket(&request).route_key.as_deref(), Some("$disconnect"));
    assert!(matches!(request.body(), Body::Empty), "{request:?}");
}

#[test]
fn a_pull_event_has_each_value_of_each_parameter() {
    let request = decoded(include_str!("../events/http-pull.json"));
    assert_eq!((request.method().as_str(), request.raw_http_path()), ("GET", "/api/message"));
    assert_eq!(query(&request, "access_token"), ["one", "two"]);
    assert_eq!(query(&request, "sort"), ["desc"]);
    assert_eq!(query(&request, "drop"), ["false"]);
    assert_eq!(query(&request, "type"), ["unicast"]);
    assert_eq!(query(&request, "after"), [""; 0]);
}

#[test]
fn a_query_value_is_decoded_once() {
    let request = decoded(include_str!("../events/http-rename.json"));
    assert_eq!((request.method().as_str(), request.raw_http_path()), ("PUT", "/api/group/g:1"));
    assert_eq!(query(&request, "name"), ["跑步 & more"]);
    assert_eq!(request.path_parameters().first("groupId"), Some("g:1"));
}

#[test]
fn an_invite_event_has_its_body_and_bearer_token() {
    let request = decoded(include_str!("../events/http-invite.json"));
    assert_eq!(request.headers()["authorization"], "Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmVk");
    assert_eq!(query(&request, "access_token"), [""; 0]);
    assert_eq!(text(&request), r#"{"groupId": "g:1", "userId": "bob"}"#);
}

#[test]
fn a_body_in_base64_is_decoded() {
    let request = decoded(include_str!("../events/http-invite-base64.json"));
    assert_eq!(&request.body()[..], br#"{"groupId": "g:1", "userId": "bob"}"#);
}

#[test]
fn an_event_without_query_path_parameters_and_body_is_decoded() {
    let request = decoded(include_str!("../events/http-bare.json"));
    assert_eq!((request.method().as_str(), request.raw_http_path()), ("GET", "/api/group"));
    assert!(request.query_string_parameters().is_empty());
    assert!(request.path_parameters().is_empty());
    assert!(matches!(request.body(), Body::Empty), "{request:?}");
}

#[test]
fn a_notification_event_has_its_parameters_and_body() {
    let request = decoded(include_str!("../events/http-notification.json"));
    assert_eq!((request.method().as_str(), request.raw_http_path()), ("POST", "/notification"));
    assert_eq!(query(&request, "type"), ["multicast"]);
    assert_eq!(query(&request, "to"), ["g:1"]);
    assert_eq!(query(&request, "from"), ["bob@example.com"]);
    assert_eq!(text(&request), r#"{"notificationType": "like", "content": {"post": 7.0}}"#);
}

#[test]
fn a_relationship_event_has_its_path_parameters() {
    let request = decoded(include_str!("../events/http-relationship.json"));
    assert_eq!(request.method().as_str(), "PUT");
    assert_eq!(request.path_parameters().first("userId"), Some("alice"));
    assert_eq!(request.path_parameters().first("otherId"), Some("bob@example.com"));
}
