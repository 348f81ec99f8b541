//! Where a request carries its token: `access_token` in the query, `Authorization: Bearer`, or (WebSocket only) the
//! subprotocols `chat, <token>`.

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use shared::{Error, Result};

/// The subprotocol that the WebSocket answers with.
pub(crate) const SUBPROTOCOL: &str = "chat";

/// The one token among these. Two would leave it open which one counts, so they are refused.
pub(crate) fn only_one(mut tokens: Vec<String>) -> Result<String> {
    match (tokens.pop(), tokens.is_empty()) {
        (Some(token), true) if !token.is_empty() => Ok(token),
        (Some(_), true) => Err(Error::Unauthorized("the token is empty".to_owned())),
        (Some(_), false) => Err(Error::Unauthorized("there is more than one token".to_owned())),
        (None, _) => Err(Error::Unauthorized("there is no token".to_owned())),
    }
}

/// The tokens of the header `Authorization`.
pub(crate) fn bearer(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(AUTHORIZATION).iter().filter_map(|value| value.to_str().ok());
    let of_bearer = |value: &str| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    };
    values.filter_map(of_bearer).collect()
}

/// The subprotocols that a client offers.
pub(crate) fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).collect()
}

/// The tokens among the subprotocols: what stands behind `chat`.
pub(crate) fn offered(subprotocols: &[String]) -> Vec<String> {
    match subprotocols.split_first() {
        Some((first, rest)) if first == SUBPROTOCOL => rest.to_vec(),
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
    fn a_token_stands_behind_the_subprotocol() {
        let names = |values: &[&str]| offered(&subprotocols(&headers("sec-websocket-protocol", values)));
        assert_eq!(names(&["chat, abc"]), ["abc"]);
        assert_eq!(names(&["chat", "abc"]), ["abc"]);
        assert!(names(&["abc"]).is_empty());
        assert!(names(&["chat"]).is_empty());
    }

    #[test]
    fn there_is_one_token_or_none() {
        let text = |values: &[&str]| only_one(values.iter().map(|v| (*v).to_owned()).collect());
        assert_eq!(text(&["a"]).unwrap(), "a");
        assert!(text(&[]).is_err() && text(&["a", "a"]).is_err() && text(&[""]).is_err());
    }
}
