//! Finds the token of a request: `access_token` in the query, `Authorization: Bearer`, or (WebSocket only) the
//! subprotocols `chat, <token>`.

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use shared::{Error, Result};

/// The subprotocols of the protocol's versions, version 1 first. A client offers one of them before its token.
const SUBPROTOCOLS: [&str; 2] = ["chat", "chat.2"];

/// Returns the subprotocol of ours that a client offers first, with which the WebSocket answers, and its version.
pub(crate) fn subprotocol(offered: &[String]) -> Option<(&'static str, u8)> {
    let of = |name: &String| SUBPROTOCOLS.iter().zip(1..).find(|(ours, _)| *ours == name);
    offered.iter().find_map(of).map(|(name, version)| (*name, version))
}

/// Returns the one token of a request, from its query, its headers or its subprotocols.
///
/// If the query has a token, `Authorization` is not read: host applications send a header of their own with every call.
/// Any other two tokens are refused, because it would not be clear which one counts.
pub(crate) fn only_one(query: &[&str], headers: &HeaderMap, offered: &[String]) -> Result<String> {
    let in_headers = if query.is_empty() { bearer(headers) } else { Vec::new() };
    let mut tokens = query.iter().copied().chain(in_headers).chain(offered.iter().map(String::as_str));
    match (tokens.next(), tokens.next()) {
        _ if query.len() > 1 => Err(Error::TokenGivenTwice),
        (Some(""), None) => Err(unauthorized("the token is empty")),
        (Some(token), None) => Ok(token.to_owned()),
        (Some(_), Some(_)) => Err(unauthorized("there is more than one token")),
        (None, _) => Err(unauthorized("there is no token")),
    }
}

fn unauthorized(why: &str) -> Error {
    Error::Unauthorized(why.to_owned())
}

/// Returns the tokens of the header `Authorization`.
fn bearer(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    let of_bearer = |value| {
        let (scheme, token) = str::split_once(value, ' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    };
    values.filter_map(of_bearer).collect()
}

/// Returns the headers of an event of the WebSocket API with all their values. `single` has the last value of each.
pub(crate) fn all_headers(multi: HeaderMap, single: &HeaderMap) -> HeaderMap {
    let mut all = multi;
    for (name, value) in single {
        all.entry(name).or_insert_with(|| value.clone());
    }
    all
}

/// Returns the subprotocols that a client offers. Several headers are one list (RFC 6455, 11.3.4).
pub(crate) fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).collect()
}

/// Returns the tokens among the subprotocols: those after a leading `chat` or `chat.2`.
pub(crate) fn offered(subprotocols: &[String]) -> Vec<String> {
    match subprotocols.split_first() {
        Some((first, rest)) if SUBPROTOCOLS.contains(&first.as_str()) => rest.to_vec(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_bearer_token_is_found() {
        assert_eq!(bearer(&headers("authorization", &["Bearer abc"])), ["abc"]);
        assert_eq!(bearer(&headers("authorization", &["bearer  abc"])), ["abc"]);
        assert!(bearer(&headers("authorization", &["Basic abc"])).is_empty());
    }

    #[test]
    fn a_token_follows_the_subprotocol() {
        let names = |values: &[&str]| offered(&subprotocols(&headers("sec-websocket-protocol", values)));
        assert_eq!(names(&["chat, abc"]), ["abc"]);
        assert_eq!(names(&["chat", "abc"]), ["abc"]);
        assert!(names(&["abc"]).is_empty());
        assert!(names(&["chat"]).is_empty());
    }

    #[test]
    fn a_header_has_all_its_values() {
        let multi = headers("sec-websocket-protocol", &["chat", "abc"]);
        let mut single = headers("sec-websocket-protocol", &["abc"]);
        single.insert("origin", "https://a".parse().unwrap());
        let all = all_headers(multi, &single);
        assert_eq!(offered(&subprotocols(&all)), ["abc"]);
        assert_eq!(all["origin"], "https://a");
        assert_eq!(all_headers(HeaderMap::new(), &single), single);
    }

    #[test]
    fn more_than_one_token_is_refused() {
        let none = HeaderMap::new();
        let offered = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<String>>();
        let only =
            |query: &[&str], names: &[&str]| only_one(query, &none, &offered(names)).map_err(|e| e.problem().detail);
        assert_eq!(only(&["a"], &[]).unwrap(), "a");
        assert_eq!(only(&[], &["a"]).unwrap(), "a");
        assert!(only(&[], &[]).is_err() && only(&[""], &[]).is_err() && only(&["a"], &["a"]).is_err());
        assert!(only(&["a", "a"], &[]).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_header_is_read_if_the_query_has_no_token() {
        let own = headers("authorization", &["Bearer host"]);
        assert_eq!(only_one(&[], &own, &[]).unwrap(), "host");
        assert_eq!(only_one(&["ours"], &own, &[]).unwrap(), "ours");
        assert!(only_one(&[""], &own, &[]).is_err() && only_one(&[], &own, &["x".to_owned()]).is_err());
        assert!(only_one(&[], &headers("authorization", &["Bearer a", "Bearer b"]), &[]).is_err());
    }
}
