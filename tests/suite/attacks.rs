//! Inputs that once broke something, as tables: contents that other clients cannot read, and misleading bodies, queries
//! and headers. Each runs against every endpoint that it can reach.

use functions::Function;
use serde_json::{Value, json};

use crate::fuzz::strangers::needed;
use crate::inside::{Inside, Rest, call, escaped, socket_event};
use crate::world::Deployment;
use crate::world::example::endpoints as public_endpoints;

/// The longest frame that a message function accepts, and the longest that the gateway passes on.
const FRAME_BYTES: usize = 32 * 1024;
const GATEWAY_BYTES: usize = 128 * 1024;

/// The largest answer of a function. Lambda counts it as JSON.
const RESULT_BYTES: usize = 6 * 1024 * 1024 - 16 * 1024;

/// JSON texts, and whether each may be the content of a message.
fn contents() -> Vec<(String, bool)> {
    let nested = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    let mut contents = vec![
        (nested("[", "]", 48), true),
        (nested("[", "]", 49), false),
        (nested("{\"a\":", "}", 48), true),
        (nested("{\"a\":", "}", 49), false),
        (nested("[", "]", 16_000), false),
        ("9".repeat(300), true),
        ("9".repeat(301), false),
        (format!("[-1.{}]", "0".repeat(5_000)), false),
        (format!("1e-{}", "0".repeat(5_000)), false),
        (format!("\"{}\"", "9".repeat(5_000)), true),
        // The largest contents that a frame allows. Escaping makes some of them larger.
        (format!("[{}]", "\n".repeat(32_600)), true),
        (format!("\"{}\"", "\\\"".repeat(16_000)), true),
        (format!("\"{}\"", "\\u0000".repeat(5_000)), true),
        (format!("[{}1]", "1,".repeat(15_000)), true),
        (format!("{{{}\"a\":1}}", "\"a\":1,".repeat(5_000)), true),
    ];
    let texts = [
        (r#""\ud83d\ude00""#, true),
        (r#""\ud800""#, false),
        (r#""\udfff""#, false),
        (r#"{"\ud800":1}"#, false),
        (r#"[[{"a":["\udead\ubeef"]}]]"#, false),
        (r#""\\ud800""#, true),
        ("\"\u{feff}\u{202e}\u{0}\"".trim_matches('\0'), true),
        ("1e400", true),
        ("-0.0", true),
    ];
    // A NUL is allowed only escaped.
    contents.extend(texts.map(|(text, may)| (text.replace('\0', "\\u0000"), may)));
    contents
}

/// The event of a frame from alice.
fn frame_event(connection: &str, kind: &str, frame: &str) -> String {
    socket_event(kind, "alice", connection, Some(frame)).to_string()
}

#[tokio::test(start_paused = true)]
async fn contents_that_other_clients_cannot_read_are_refused() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    inside.tie("alice", "friendId", "bob").await;
    let group = inside.create_group("alice").await;
    inside.bring("alice", &group, "bob").await;
    let (sender, receiver) = (inside.connect("alice").await, inside.connect("bob").await);
    for (number, (content, may_be)) in contents().into_iter().enumerate() {
        for (kind, name, to) in [("unicast", "receiverId", "bob"), ("multicast", "groupId", group.as_str())] {
            let request = format!("{kind}-{number}");
            let frame = format!(r#"{{"type":"{kind}","{name}":"{to}","requestId":"{request}","content":{content}}}"#);
            assert!(frame.len() <= FRAME_BYTES, "{}", frame.len());
            let before = inside.frames(&receiver).len();
            let event = frame_event(&sender, kind, &frame);
            inside.invoke(&functions::message::FUNCTION, &event).await.expect("a frame is answered");
            let answer = inside.frames(&sender).pop().expect("an answer");
            let expected = if may_be { "ACK" } else { "ERROR" };
            assert_eq!((&answer["type"], &answer["requestId"]), (&json!(expected), &json!(request)), "{content:.60}");
            assert_eq!(inside.frames(&receiver).len() - before, usize::from(may_be), "{content:.60}");
            if !may_be {
                assert_eq!(answer["code"], "bad_request");
                assert!(answer["message"].as_str().is_some_and(|why| why.starts_with("content ")), "{answer}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_frame_is_named_by_its_request_id() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    let sender = inside.connect("alice").await;
    let good = r#""type":"unicast","receiverId":"bob","content":1"#;
    let long = "x".repeat(GATEWAY_BYTES - 100);
    for (frame, expected) in [
        (format!(r#"{{{good},"requestId":"r","more":"{}"}}"#, "x".repeat(FRAME_BYTES)), Some("r")),
        (format!(r#"{{{good},"more":"{long}","requestId":"r"}}"#), Some("r")),
        (format!(r#"{{{good},"content":2,"requestId":"r"}}"#), Some("r")),
        (format!(r#"{{"requestId":"r",{good},"type":7}}"#), Some("r")),
        (format!(r#"{{"requestId":"r",{good}"#), Some("r")),
        (format!(r#"{{"requestId":"r",{good},"requestId":"r"}}"#), Some("r")),
        (format!(r#"{{"requestId":"r",{good},"requestId":"s"}}"#), None),
        (format!(r#"{{{good},"requestId":7}}"#), None),
        ("r".to_owned(), None),
    ] {
        let event = frame_event(&sender, "$default", &frame);
        inside.invoke(&functions::message::FUNCTION, &event).await.expect("a frame is answered");
        let answer = inside.frames(&sender).pop().expect("an answer");
        assert_eq!((&answer["type"], &answer["code"]), (&json!("ERROR"), &json!("bad_request")), "{frame:.80}");
        assert_eq!(answer.get("requestId").and_then(Value::as_str), expected, "{frame:.80}");
    }
}

/// An HTTP endpoint and a valid call of it.
struct Endpoint {
    function: &'static Function,
    call: Rest,
    /// The status for a wrong query or body.
    wrong: u64,
}

/// Every endpoint of both HTTP APIs. Group and invitation ids exist nowhere.
fn endpoints() -> Vec<Endpoint> {
    let public = public_endpoints().into_iter().map(|(function, route)| {
        let of_route = Rest::of(route, |_| "none".to_owned());
        let mut call = call(route.method, "alice", &of_route.path, None, &needed(route), None);
        call.variables = of_route.variables;
        if function.name == "invite" {
            call.body = Some(json!({ "groupId": "none", "userId": "bob" }).to_string());
        }
        Endpoint { function, call, wrong: 400 }
    });
    let internal =
        |function, method: &str, path: &str, query: &str, variables: &[(&str, &str)], body: Option<Value>, wrong| {
            let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let call = Rest {
                method: method.to_owned(),
                path: path.to_owned(),
                variables,
                query: query.to_owned(),
                body: body.map(|body| body.to_string()),
            };
            Endpoint { function, call, wrong }
        };
    let (user, other) = (("userId", "alice"), ("otherId", "bob"));
    let notification = json!({ "notificationType": "n", "content": 1 });
    let relationship = &functions::relationship::FUNCTION;
    let mut endpoints: Vec<Endpoint> = public.collect();
    endpoints.extend([
        internal(&functions::notification::FUNCTION, "POST", "/notification", "to=bob", &[], Some(notification), 403),
        internal(relationship, "GET", "/relationship/alice", "", &[user], None, 400),
        internal(relationship, "PUT", "/relationship/alice/friends/bob", "", &[user, other], None, 400),
        internal(relationship, "DELETE", "/relationship/alice/blocks/bob", "", &[user, other], None, 400),
    ]);
    endpoints
}

/// Invokes an endpoint and returns the status and the body. Asserts that the status is not a server error.
async fn status(inside: &Inside, endpoint: &Endpoint, event: &Value) -> (u64, String) {
    let name = endpoint.function.name;
    let result =
        inside.invoke(endpoint.function, &event.to_string()).await.unwrap_or_else(|why| panic!("{name}: {why:?}"));
    let answer: Value = serde_json::from_str(&result).expect("a result is JSON");
    let status = answer["statusCode"].as_u64().expect("a status");
    assert!(status < 500, "{name}: {answer}");
    (status, answer["body"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(start_paused = true)]
async fn queries_that_are_not_utf_8_are_refused_everywhere() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    for endpoint in endpoints() {
        for query in ["name=%C5%DC%B2%BD", "x=%ff", "%ff=x", "%F0%9F", "x=%ed%a0%80", "x=%c0%ae", "a=%E8&b=%B7%91"] {
            let mut event = endpoint.call.event();
            event["rawQueryString"] = json!(format!("{}&{query}", endpoint.call.query));
            let (status, body) = status(&inside, &endpoint, &event).await;
            assert_eq!(status, endpoint.wrong, "{}: {query}: {body}", endpoint.function.name);
            assert!(body.contains("UTF-8"), "{}: {query}: {body}", endpoint.function.name);
        }
    }
    let groups = call("GET", "alice", "/api/group", None, "", None);
    assert_eq!(inside.done(&functions::list_groups::FUNCTION, &groups).await["body"], "[]");
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_too_large_or_encoded_are_refused() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    for endpoint in endpoints() {
        let (name, is_notification) = (endpoint.function.name, endpoint.function.name == "notification");
        let (usual, _) = status(&inside, &endpoint, &endpoint.call.event()).await;
        let with = |field: &str, value: Value| {
            let mut event = endpoint.call.event();
            event[field] = value;
            event
        };
        let most = endpoint.function.max_body_bytes();
        for bytes in [most.min(6_000_000), most.saturating_add(1).min(6_000_000), 6_000_000] {
            let is_too_large = bytes > most;
            let body = format!("{}{}", " ".repeat(bytes - 2), "{}");
            let (status, why) = status(&inside, &endpoint, &with("body", json!(body))).await;
            assert_eq!(status == 413, is_too_large, "{name}: {bytes}: {status} {why}");
        }
        for (encoding, is_refused) in
            [("gzip", true), ("br", true), ("identity, gzip", true), ("Identity", false), ("", false)]
        {
            let mut event = endpoint.call.event();
            event["headers"]["content-encoding"] = json!(encoding);
            let (status, why) = status(&inside, &endpoint, &event).await;
            let expected = if is_notification { 403 } else { 415 };
            assert_eq!(status, if is_refused { expected } else { usual }, "{name}: {encoding:?}: {why}");
        }
        // A byte order mark before the body changes nothing.
        if let Some(body) = &endpoint.call.body {
            let (marked, why) = status(&inside, &endpoint, &with("body", json!(format!("\u{feff}{body}")))).await;
            assert_eq!(marked, usual, "{name}: {why}");
            for (fields, is_refused) in [(64, false), (65, true), (1_000, true)] {
                let own: serde_json::Map<String, Value> = serde_json::from_str(body).expect("an object");
                let more: Vec<String> = (own.len()..fields).map(|n| format!(",\"{n}\":0")).collect();
                let body = format!("{}{}}}", body.strip_suffix('}').expect("an object"), more.concat());
                let (status, why) = status(&inside, &endpoint, &with("body", json!(body))).await;
                let names_fields = why.contains("fields");
                assert_eq!(
                    (status, names_fields),
                    (if is_refused { endpoint.wrong } else { usual }, is_refused),
                    "{name}: {why}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn misspelt_parameters_are_refused() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    let spellings = |name: &str| {
        let mut capital = name.to_owned();
        capital[..1].make_ascii_uppercase();
        [
            capital,
            name.to_ascii_uppercase(),
            format!("{name}[]"),
            format!("{name}%5B%5D"),
            format!("{name}[0]"),
            format!("%20{name}"),
        ]
    };
    for endpoint in endpoints() {
        let name = endpoint.function.name;
        for parameter in endpoint.function.parameters() {
            for spelling in spellings(parameter) {
                let mut event = endpoint.call.event();
                event["rawQueryString"] = json!(format!("{}&{spelling}=false", endpoint.call.query));
                let (status, why) = status(&inside, &endpoint, &event).await;
                assert_eq!(status, endpoint.wrong, "{name}: {spelling}: {why}");
                assert!(why.contains(&format!("\"{parameter} must be spelt")), "{name}: {spelling}: {why}");
            }
        }
    }
}

/// An algorithm of quadratic cost would not finish here. `tests/instructions.py` counts instructions.
#[tokio::test(start_paused = true)]
async fn the_largest_inputs_are_answered() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    let numbered = |bytes: usize| {
        let fields: Vec<String> = (0..bytes / 11).map(|n| format!("\"{n:06}\":0")).collect();
        format!("{{{}}}", fields.join(","))
    };
    let query: Vec<String> = (0..800).map(|n| format!("{n:04}=%20")).collect();
    for endpoint in endpoints() {
        for (field, value) in [
            ("body", numbered(5_000_000)),
            ("body", format!("{{\"a\":{}", "[".repeat(5_000_000))),
            ("rawQueryString", format!("{}&{}", endpoint.call.query, query.join("&"))),
            ("rawQueryString", format!("{}{}", endpoint.call.query, "&access_token=x".repeat(500))),
            ("rawQueryString", format!("{}&name={}", endpoint.call.query, escaped(&"\u{200b}".repeat(1_000)))),
        ] {
            let mut event = endpoint.call.event();
            event[field] = json!(value);
            status(&inside, &endpoint, &event).await;
        }
    }
    for function in [&functions::notification::FUNCTION, &functions::relationship::FUNCTION] {
        for payload in [numbered(6_000_000), format!("{{\"userId\":{}", "[".repeat(6_000_000))] {
            inside.invoke(function, &payload).await.expect_err("there are too many fields");
        }
    }
    let sender = inside.connect("alice").await;
    for frame in [
        numbered(FRAME_BYTES),
        numbered(GATEWAY_BYTES),
        "{".repeat(GATEWAY_BYTES),
        "{\"requestId\":".repeat(GATEWAY_BYTES / 13),
        format!("{{{}", "\"requestId\":\"r\",".repeat(GATEWAY_BYTES / 17)),
    ] {
        let event = frame_event(&sender, "$default", &frame);
        inside.invoke(&functions::message::FUNCTION, &event).await.expect("a frame is answered");
        assert_eq!(inside.frames(&sender).pop().expect("an answer")["code"], "bad_request");
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_friends_for_one_answer_is_a_400() {
    if Deployment::is_elsewhere() {
        return;
    }
    let inside = Inside::new(1);
    let befriend = |number: usize| {
        let friend = format!("{number:0>128}");
        inside.world().put(&json!({
            "pk": { "S": "USER#alice" }, "sk": { "S": format!("FRIEND#{friend}") }, "user": { "S": friend },
        }));
    };
    // Each friend takes 128 bytes, two escaped quotes and a comma.
    let (all, frame) = (5_500_000, r#""{\"friends\":[],\"blocks\":[]}""#.len());
    let fit = (all - frame + 1) / 133;
    (0..fit).for_each(befriend);
    let read = Rest {
        method: "GET".to_owned(),
        path: "/relationship/alice".to_owned(),
        variables: vec![("userId".to_owned(), "alice".to_owned())],
        ..Rest::default()
    };
    let function = &functions::relationship::FUNCTION;
    let payload = json!({ "method": "GET", "userId": "alice" }).to_string();
    let answer = inside.invoke(function, &read.event().to_string()).await.expect("an answer");
    assert!((5_490_000..RESULT_BYTES).contains(&answer.len()), "{}", answer.len());
    inside.invoke(function, &payload).await.expect("an answer");
    befriend(fit);
    let refused = inside.rest(function, &read).await;
    assert_eq!(refused["statusCode"], 400, "{refused}");
    assert!(refused["body"].as_str().is_some_and(|why| why.contains("too many friends")), "{refused}");
    let refused = inside.invoke(function, &payload).await.expect_err("there are too many friends");
    assert_eq!(refused.error_type, "BadRequest", "{refused:?}");
}
