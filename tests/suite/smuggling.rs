//! Addresses, headers and bodies that two parsers may read differently: doubled, encoded or cut short. Some requests
//! cannot be sent by a client library. They are written to the socket as bytes, and so need a local stack.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stack::{Local, with};
use crate::world::deployment::free_ports;
use crate::world::scene::group_of;
use crate::world::{Answer, Claims, Handshake, User, within};

/// Sends bytes to an address, and returns the status and the body. Status 0 means that the connection was closed.
async fn send_raw(base: &str, request: &[u8]) -> (u16, String) {
    let address = base.strip_prefix("http://").expect("a local stack speaks HTTP");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request).await.expect("it reads");
        let mut answer = Vec::new();
        // A reset connection counts as a refusal.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = within("an answer to a raw request", exchange).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// A request with this first line and this host, and nothing else.
fn request(line: &str, host: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Makes a call with exactly this query.
async fn query(user: &User, query: &str) -> Answer {
    user.anonymous_call(Method::GET, &format!("/api/group?{query}")).send().await
}

#[tokio::test]
async fn a_token_is_accepted_once_and_in_one_place() {
    let alice = User::new("alice");
    let (good, bad) = (alice.token(), Claims::of(alice.id()).signed("another secret"));
    query(&alice, &format!("access_token={good}")).await.ok();
    for doubled in [
        format!("access_token={good}&access_token={good}"),
        format!("access_token={good}&access_token={bad}"),
        format!("access_token={bad}&access_token={good}"),
        format!("access_token=&access_token={good}"),
        format!("access_token={good}&access_token="),
        format!("access_token={good}&access_token"),
        format!("access%5Ftoken={bad}&access_token={good}"),
        format!("access_token={good}&%61ccess_token={bad}"),
        format!("access_token={good},{good}"),
        format!("access_token={good};access_token={good}"),
        format!("access_token={good}%26access_token={good}"),
        format!("access_token[]={good}"),
        format!("access_token[0]={good}"),
        format!("access.token={good}"),
        format!("access+token={good}"),
        format!("ACCESS_TOKEN={good}"),
        format!("Access_Token={good}"),
        format!("access_token%00={good}"),
        format!("access_token%20={good}"),
        format!("+access_token={good}"),
        format!(";access_token={good}"),
        format!("?access_token={good}"),
        format!("x=1;access_token={good}"),
        format!("access_token=={good}"),
        format!("access_token={good}%00"),
        format!("access_token={good}%0A"),
        format!("access_token={good}%ff"),
        format!("access_token={good}%"),
        format!("access_token={good}%4"),
        format!("access_token={good}%zz"),
        format!("access_token=%c0%ae{good}"),
        format!("access_token={good}+"),
        format!("access_token=+{good}"),
        format!("token={good}"),
        format!("id_token={good}"),
    ] {
        let answer = query(&alice, &doubled).await;
        // A gateway may itself refuse an invalid query.
        assert!(matches!(answer.status, 400 | 401), "{doubled}: {answer:?}");
        let opened = Handshake::of(&alice).query(&doubled).attempt().await;
        assert!(matches!(opened, Err(400 | 401 | 403)), "{doubled}: {opened:?}");
    }
    // One token is accepted however it is encoded.
    let encoded: String = good.bytes().map(|byte| format!("%{byte:02x}")).collect();
    query(&alice, &format!("access%5ftoken={encoded}")).await.ok();
    Handshake::of(&alice).query(&format!("access%5Ftoken={encoded}")).accepted().await.expect_nothing().await;
}

#[tokio::test]
async fn a_token_in_a_wrong_header_is_refused() {
    let alice = User::new("alice");
    let bearer = format!("Bearer {}", alice.token());
    let call = || alice.anonymous_call(Method::GET, "/api/group");
    call().header("authorization", &bearer).send().await.ok();
    for values in [
        vec![("authorization", format!("{bearer}, {bearer}"))],
        vec![("authorization", format!("{bearer},Bearer x"))],
        vec![("authorization", format!("Bearer x {}", alice.token()))],
        vec![("authorization", alice.token().to_owned())],
        vec![("authorization", format!("Bearer{}", alice.token()))],
        vec![("authorization", format!("Token {}", alice.token()))],
        vec![("x-authorization", bearer.clone())],
        vec![("proxy-authorization", bearer.clone())],
        vec![("x-forwarded-authorization", bearer.clone())],
        vec![("x-amz-security-token", alice.token().to_owned())],
        vec![("access_token", alice.token().to_owned())],
        vec![("sec-websocket-protocol", format!("chat, {}", alice.token()))],
        // A browser sends cookies for any page, so they prove nothing.
        vec![("cookie", format!("access_token={0}; authorization=Bearer {0}", alice.token()))],
    ] {
        let call = values.iter().fold(call(), |call, (name, value)| call.header(name, value));
        call.send().await.refused(401, "");
    }
    let body = json!({ "access_token": alice.token() });
    let call = alice.anonymous_call(Method::POST, "/api/group?name=mine").json(&body);
    call.send().await.refused(401, "");
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let bearer = format!("Bearer {}", alice.token());
    for (first, second) in [(bearer.as_str(), bearer.as_str()), (&bearer, "Bearer x"), ("Bearer x", &bearer)] {
        let call = alice.anonymous_call(Method::GET, "/api/group").header("authorization", first);
        call.header("authorization", second).send().await.refused(401, "");
    }
    local.stop().await;
}

#[tokio::test]
async fn repeated_parameters_are_refused() {
    let alice = User::new("alice");
    let group = alice.create_group("walkers").await;
    let path = format!("/api/group/{group}");
    let call = |method, path: &str, query: &str| {
        alice.anonymous_call(method, &format!("{path}?access_token={}&{query}", alice.token()))
    };
    call(Method::PUT, &path, "name=a&name=b").send().await.refused(400, "name");
    call(Method::PUT, &path, "name=a&n%61me=b").send().await.refused(400, "name");
    call(Method::POST, "/api/group", "name=&name=b").send().await.refused(400, "name");
    call(Method::POST, "/api/group", "x=1;name=b").send().await.refused(400, "name");
    call(Method::POST, "/api/group", "name[]=b").send().await.refused(400, "name");
    call(Method::DELETE, &path, &format!("userId=bob&userId={}", alice.id())).send().await.refused(400, "userId");
    call(Method::DELETE, &path, &format!("userId=bob,{}", alice.id())).send().await.refused(400, "userId");
    call(Method::DELETE, &path, "userId=").send().await.refused(400, "userId");
    call(Method::DELETE, &path, "userId=a%00b").send().await.refused(400, "userId");
    call(Method::GET, "/api/message", "drop=false&drop=true").send().await.refused(400, "drop");
    call(Method::GET, "/api/message", "drop=false%00").send().await.refused(400, "drop");
    for body in [
        format!(r#"{{"groupId":"{group}","userId":"bob","userId":"eve"}}"#),
        format!(r#"{{"groupId":"{group}","userId":"bob","user\u0049d":"eve"}}"#),
        format!(r#"{{"groupId":"{group}","groupId":"x","userId":"bob"}}"#),
    ] {
        let call = call(Method::POST, "/api/request", "").body("application/json", &body);
        call.send().await.refused(400, "twice");
    }
    assert_eq!(alice.group(&group).await.name, "walkers");
}

#[tokio::test]
async fn headers_do_not_change_the_method_or_the_path() {
    let alice = User::new("alice");
    let group = alice.create_group("walkers").await;
    let path = format!("/api/group/{group}");
    let headers = [
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-original-url", "/notification"),
        ("x-rewrite-url", "/notification"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-prefix", "/notification"),
        ("x-forwarded-proto", "::: not a scheme"),
        ("forwarded", "host=\"[::1\";proto=gopher"),
    ];
    let call = headers.iter().fold(alice.call(Method::GET, &path), |call, (name, value)| call.header(name, value));
    let answer = call.param("_method", "DELETE").send().await.ok();
    assert!(answer.body.contains(&group) && !answer.body.contains("evil"), "{answer:?}");
    assert_eq!(alice.groups().await.len(), 1);
}

#[tokio::test]
async fn any_host_header_gets_the_same_answer() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let line = format!("GET /api/group?access_token={}", alice.token());
    for host in ["localhost", "a b", "[::1", "host:99999", "a/b", "@", ":", "", "é", "%", "x".repeat(300).as_str()] {
        assert_eq!(
            send_raw(&local.deployment().public, request(&line, host).as_bytes()).await,
            (200, "[]".into()),
            "{host}"
        );
    }
    local.stop().await;
}

#[tokio::test]
async fn queries_of_any_bytes_are_answered() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let long = format!("x={}", "y".repeat(60_000));
    let odd = ["x=\"", "x=<>", "x={}", "x=|\\^`", "x=%", "x=%00%ff%c0%ae", "=", "&&&", "x=é", "x=%F0%9F", &long];
    for odd in odd {
        let line = format!("GET /api/group?access_token={}&{odd}", alice.token());
        let (status, body) = send_raw(&local.deployment().public, request(&line, "localhost").as_bytes()).await;
        // The gateway refuses an invalid URI.
        assert!(
            (status, body.as_str()) == (200, "[]") || matches!(status, 400 | 414 | 431),
            "{odd:.20}: {status} {body}"
        );
    }
    local.stop().await;
}

/// Ids in a path that could be read as something else.
const TRAVERSALS: [&str; 26] = [
    ".",
    "..",
    "...",
    "%2e",
    "%2e%2e",
    "..%2f",
    "..%2F..%2Fnotification",
    "%2e%2e%2fmessage",
    "%2F",
    "%5c",
    "..%5c..%5c",
    "a%2Fb",
    "a%2fmembers",
    "%00",
    "a%00",
    "a%00.json",
    "%0d%0aX-Injected:%201",
    "%252e%252e",
    "%c0%ae%c0%ae",
    "%ff",
    "..;",
    "..;/message",
    "%3F",
    "%23",
    "%",
    "%zz",
];

#[tokio::test]
async fn ids_in_a_path_reach_no_other_route() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let group = alice.create_group("walkers").await;
    for base in ["/api/group/", "/api/request/", &format!("/api/group/{group}/")] {
        for id in TRAVERSALS {
            for method in ["GET", "PUT", "DELETE"] {
                let line = format!(
                    "{method} {base}{id}?name=mine&page=00000000-0000-4000-8000-000000000000&access_token={}",
                    alice.token()
                );
                let (status, body) = send_raw(&local.deployment().public, request(&line, "localhost").as_bytes()).await;
                assert!(matches!(status, 400 | 403 | 404 | 405), "{method} {base}{id}: {status} {body}");
            }
        }
    }
    assert_eq!(alice.group(&group).await.name, "walkers");
    local.stop().await;
}

#[tokio::test]
async fn no_public_path_reaches_the_internal_api() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    let internal = local.deployment().internal.strip_prefix("http://").expect("an address").to_owned();
    let mut device = alice.connect().await;
    let body = r#"{"notificationType":"forged","content":1}"#;
    for path in [
        "/notification",
        "//notification",
        "/./notification",
        "/api/../notification",
        "/api/%2e%2e/notification",
        "/api/group/../../notification",
        "/api/group/..%2f..%2fnotification",
        "/api/message/..;/..;/notification",
        "/%6eotification",
        "/notification/",
        "/notification%00",
        "/NOTIFICATION",
        "/ws/../notification",
        "/ws/@connections/x",
        "/@connections/x",
        "/2015-03-31/functions/notification/invocations",
        &format!("http://{internal}/notification"),
    ] {
        for host in ["localhost", internal.as_str()] {
            let head =
                format!("POST {path}?to={}&access_token={} HTTP/1.1\r\nHost: {host}\r\n", alice.id(), alice.token());
            let head = format!(
                "{head}content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let (status, answer) = send_raw(&local.deployment().public, format!("{head}{body}").as_bytes()).await;
            assert!((400..500).contains(&status), "{path}: {status} {answer}");
        }
    }
    device.expect_nothing().await;
    local.stop().await;
}

/// Requests whose end is ambiguous: before or after an inner request. A last request ends the connection.
fn ambiguous(public: &str, token: &str) -> Vec<String> {
    let host = public.trim_start_matches("http://");
    let inner = format!("POST /api/group?name=smuggled&access_token={token} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let head = format!("GET /api/group HTTP/1.1\r\nHost: {host}\r\n");
    let last = request("GET /api/group", host);
    let length = inner.len();
    let requests = [
        format!("{head}content-length: 0\r\ncontent-length: {length}\r\n\r\n{inner}"),
        format!("{head}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{head}content-length: {length}\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("{head}content-length: +{length}\r\n\r\n{inner}"),
        format!("{head}content-length : {length}\r\n\r\n{inner}"),
        format!("{head}x: y\ncontent-length: {length}\r\n\r\n{inner}"),
    ];
    requests.map(|request| request + &last).into()
}

#[tokio::test]
async fn no_request_can_be_smuggled() {
    let Some(local) = Local::start(free_ports()).await else { return };
    let alice = local.user("alice");
    for request in ambiguous(&local.deployment().public, alice.token()) {
        let (status, body) = send_raw(&local.deployment().public, request.as_bytes()).await;
        assert!(matches!(status, 0 | 400 | 401), "{status} {body}");
        assert!(!body.contains("HTTP/1.1 200"), "{request:?} was read as two requests: {body}");
    }
    // Shows that this test would notice a smuggled request: the second of two honest ones is answered.
    let host = local.deployment().public.trim_start_matches("http://").to_owned();
    let two = format!("GET /api/group HTTP/1.1\r\nHost: {host}\r\n\r\n")
        + &request(&format!("GET /api/group?access_token={}", alice.token()), &host);
    let (status, body) = send_raw(&local.deployment().public, two.as_bytes()).await;
    assert!(status == 401 && body.contains("HTTP/1.1 200"), "{status} {body}");
    assert!(alice.groups().await.is_empty());
    local.stop().await;
}

#[tokio::test]
async fn malformed_ids_in_bodies_and_queries_are_refused() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = group_of(&alice, &[&bob]).await;
    let ids =
        ["../x", "a/b", "a\\b", "a\0b", "a#b", "USER#x", "a b", "é", "a\u{202e}b", "", "a\nb", "*", "a\"b", "{a}"];
    join_all(ids.map(async |id| {
        alice.post_json("/api/request", &json!({ "groupId": group, "userId": id })).await.refused(400, "userId");
        alice.post_json("/api/request", &json!({ "groupId": id, "userId": "bob" })).await.refused(400, "groupId");
        alice.delete(&format!("/api/group/{group}"), &[("userId", id)]).await.refused(400, "userId");
        bob.delete("/api/message", &[("page", id)]).await.refused(403, "page");
    }))
    .await;
    assert_eq!(alice.group(&group).await.users_id.len(), 2);
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let Some(local) = Local::start(with(&[("ALLOWED_ORIGINS", "https://chat.example")])).await else { return };
    let alice = local.user("alice");
    Handshake::of(&alice).origin("https://chat.example").accepted().await.expect_nothing().await;
    for origin in [
        "https://chat.example.",
        "https://chat.example/",
        "https://chat.example:443",
        "https://chat.example:8443",
        "https://sub.chat.example",
        "https://chat.example@evil.example",
        "https://evil.example/https://chat.example",
        "https://chat.example, https://evil.example",
        "https://evil.example https://chat.example",
        "https://chat-example",
        "HTTPS://EVIL.EXAMPLE",
        "wss://chat.example",
        "chat.example",
        "*",
        "null",
        "file://",
        "",
    ] {
        Handshake::of(&alice).origin(origin).refused().await;
        let call = alice.call(Method::GET, "/api/group").header("origin", origin).send().await;
        assert_eq!(call.header("access-control-allow-origin"), None, "{origin}");
        let preflight = alice.anonymous_call(Method::OPTIONS, "/api/group").header("origin", origin);
        let answer = preflight.header("access-control-request-method", "GET").send().await;
        assert_eq!(answer.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{origin}");
    }
    let good = alice.call(Method::GET, "/api/group").header("origin", "https://chat.example").send().await.ok();
    assert_eq!(good.header("access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(good.header("access-control-allow-credentials"), None);
    local.stop().await;
}

#[tokio::test]
async fn cookies_are_not_tokens() {
    let alice = User::new("alice");
    let cookies = format!("access_token={0}; token={0}; authorization=Bearer {0}", alice.token());
    Handshake::of(&alice).query("").header("Cookie", &cookies).refused().await;
}
