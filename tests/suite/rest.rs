//! Section 4: rules for every call of the REST API.

use std::collections::{BTreeMap, BTreeSet};

use functions::Trigger;
use reqwest::Method;
use serde_json::json;

use crate::world::call::filled;
use crate::world::scene::friends;
use crate::world::{Answer, User};

/// The origin of a page from which browsers may call.
fn origin() -> String {
    std::env::var("CHAT_ORIGIN").unwrap_or_else(|_| "http://localhost:5173".to_owned())
}

/// Valid and invalid calls of every endpoint.
async fn answers_of_every_endpoint() -> Vec<Answer> {
    let alice = User::new("alice");
    let group = alice.create_group("walkers").await;
    let group = format!("/api/group/{group}");
    vec![
        alice.get("/api/message", &[]).await,
        alice.get("/api/message", &[("sort", "up")]).await,
        alice.delete("/api/message", &[("until", "00000000000000000000000000")]).await,
        alice.delete("/api/message", &[]).await,
        alice.post("/api/group", &[("name", "runners")]).await,
        alice.post("/api/group", &[]).await,
        alice.put(&group, &[("name", "hikers")]).await,
        alice.put("/api/group/none", &[("name", "hikers")]).await,
        alice.get(&group, &[]).await,
        alice.get("/api/group/none", &[]).await,
        alice.get("/api/group", &[]).await,
        alice.get("/api/group", &[("detailed", "maybe")]).await,
        alice.delete(&group, &[]).await,
        alice.delete(&group, &[]).await,
        alice.post_json("/api/request", &json!({})).await,
        alice.post_json("/api/request", &json!({"groupId": "none", "userId": "none"})).await,
        alice.get("/api/request", &[]).await,
        alice.put("/api/request/none", &[]).await,
        alice.delete("/api/request/none", &[]).await,
        alice.anonymous_call(Method::GET, "/api/message").send().await,
        alice.put("/api/message", &[]).await,
    ]
}

#[tokio::test]
async fn no_answer_may_be_cached() {
    for answer in answers_of_every_endpoint().await {
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    for answer in answers_of_every_endpoint().await {
        if answer.status != 200 {
            let status = answer.status;
            let problem = answer.refused(status, "");
            assert!(!problem.detail.is_empty(), "{problem:?}");
        }
    }
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let alice = User::new("alice");
    for path in ["/api", "/api/groups", "/api/message/1/2", "/api/group/g/members", "/api/request/r/accept", "/nothing"]
    {
        let answer = alice.get(path, &[]).await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
}

#[tokio::test]
async fn a_405_names_the_allowed_methods() {
    let alice = User::new("alice");
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for function in functions::ALL {
        if let Trigger::Rest(route) = function.trigger {
            methods.entry(route.path).or_default().insert(route.method);
        }
    }
    for (path, right) in methods {
        for wrong in ["GET", "POST", "PUT", "DELETE", "PATCH"].into_iter().filter(|method| !right.contains(method)) {
            let method = Method::from_bytes(wrong.as_bytes()).expect("a method");
            let answer = alice.call(method, &filled(path)).send().await;
            let allow = answer.header("allow").unwrap_or_default().to_owned();
            answer.refused(405, "");
            assert_eq!(allow.split(", ").collect::<BTreeSet<_>>(), right, "{wrong} {path}");
        }
    }
}

#[tokio::test]
async fn preflight_requests_are_answered() {
    let alice = User::new("alice");
    for (path, method) in [
        ("/api/message", "GET"),
        ("/api/message", "DELETE"),
        ("/api/group", "POST"),
        ("/api/group/g", "PUT"),
        ("/api/request", "POST"),
    ] {
        let preflight = alice.anonymous_call(Method::OPTIONS, path).header("origin", &origin());
        let preflight = preflight.header("access-control-request-method", method);
        let answer = preflight.header("access-control-request-headers", "authorization,content-type").send().await;
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        assert_open_to_browsers(&answer);
        let listed = |name| answer.header(name).unwrap_or_default().to_ascii_lowercase();
        let methods = listed("access-control-allow-methods");
        assert!(methods == "*" || methods.contains(&method.to_ascii_lowercase()), "{answer:?}");
        let headers = listed("access-control-allow-headers");
        assert!(headers.contains("authorization") && headers.contains("content-type"), "{answer:?}");
    }
}

fn assert_open_to_browsers(answer: &Answer) {
    let allowed = answer.header("access-control-allow-origin");
    assert!(allowed == Some("*") || allowed == Some(&origin()), "{answer:?}");
}

#[tokio::test]
async fn browsers_may_read_answers_and_x_has_more() {
    let (_, bob) = friends().await;
    let answer = bob.call(Method::GET, "/api/message").header("origin", &origin()).send().await.ok();
    assert_open_to_browsers(&answer);
    let exposed = answer.header("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
    assert!(exposed.contains("x-has-more"), "{answer:?}");
}

#[tokio::test]
async fn browsers_may_read_refusals() {
    let alice = User::new("alice");
    let answer = alice.anonymous_call(Method::GET, "/api/group").header("origin", &origin()).send().await;
    assert_eq!(answer.status, 401);
    assert_open_to_browsers(&answer);
}
