//! Requests and answers of both HTTP APIs. It reads parameters and bodies, and measures answers. Only here an error
//! becomes a problem document.

use std::borrow::Cow;
use std::future::Future;
use std::str::FromStr;

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use lambda_http::request::RequestContext;
use lambda_http::{Body, Request, RequestExt, Response};
use serde::Serialize;
use shared::clock::Ms;
use shared::frame::{Address, encode};
use shared::id::{Id, MessageId};
use shared::json::{Object, escaped_bytes};
use shared::{Error, Result};

use super::decode::Query;
use crate::App;

/// The largest body of a call, unless its endpoint sets another limit: 16 KiB.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024;

/// The highest number of fields of the object in a body.
const MAX_FIELDS: usize = 64;

/// The largest body of an answer, in bytes, with its escapes in the result of a function. Lambda refuses a result of
/// more than 6 MB. The rest is for the headers.
pub(crate) const MAX_ANSWER_BYTES: usize = 5_500_000;

/// A request.
#[derive(Debug)]
pub(crate) struct Input(Request);

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    status: Option<u16>,
    body: Option<String>,
    headers: Vec<(&'static str, Cow<'static, str>)>,
}

impl Reply {
    /// Creates an answer with status 200 and no body.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// Creates an answer with status 200 and a value.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self::encoded(encode(value))
    }

    /// Creates an answer with status 200 and a value that is already JSON.
    pub(crate) fn encoded(json: String) -> Self {
        Self { body: Some(json), ..Self::default() }
    }

    /// Returns the answer if it fits into the result of a function, or else `refusal`.
    pub(crate) fn or_too_large(self, refusal: impl FnOnce() -> Error) -> Result<Self> {
        if self.fits() { Ok(self) } else { Err(refusal()) }
    }

    fn fits(&self) -> bool {
        self.body.as_deref().is_none_or(fits)
    }

    /// Creates an answer with this status and no body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Sets the status.
    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }

    /// Adds a header.
    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let mut builder = Response::builder().status(self.status.unwrap_or(200));
        for (name, value) in self.headers {
            builder = builder.header(name, value.as_ref());
        }
        if self.body.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        let body = self.body.map_or(Body::Empty, Body::Text);
        builder.body(body).expect("the statuses and headers are our own")
    }
}

/// Returns whether a body fits into an answer.
pub(crate) fn fits(body: &str) -> bool {
    // An escaped character has at most six bytes, so short bodies need no exact count.
    body.len() < MAX_ANSWER_BYTES / 6 || escaped_bytes(body) <= MAX_ANSWER_BYTES
}

/// A JSON array that grows item by item, as long as it fits into an answer.
#[derive(Debug)]
pub(crate) struct Array {
    json: String,
    bytes: usize,
}

impl Array {
    pub(crate) fn new() -> Self {
        let json = "[]".to_owned();
        Self { bytes: escaped_bytes(&json), json }
    }

    /// Adds an item at the end if there is room for it. Returns whether there was room.
    pub(crate) fn push(&mut self, item: &impl Serialize) -> bool {
        let item = encode(item);
        // The item has no quotes of its own, but a comma. The first has no comma, and is counted as if it had one.
        let bytes = self.bytes + escaped_bytes(&item) - 2 + 1;
        if bytes > MAX_ANSWER_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.json.pop();
        if self.json.len() > 1 {
            self.json.push(',');
        }
        self.json.push_str(&item);
        self.json.push(']');
        true
    }

    /// Returns the array as an answer.
    pub(crate) fn into_reply(self) -> Reply {
        Reply::encoded(self.json)
    }
}

impl Input {
    pub(crate) fn new(request: Request) -> Self {
        Self(request)
    }

    /// Refuses requests that no endpoint accepts: a query that is not UTF-8, or a body that is encoded or too large. It
    /// runs before parameters and body are read.
    pub(crate) fn require_readable(&self, max_body_bytes: usize) -> Result<()> {
        if self.0.extensions().get() == Some(&Query::Other) {
            return Err(Error::BadRequest("the query is not UTF-8".to_owned()));
        }
        let is_identity = |value: &[u8]| value.trim_ascii().is_empty() || value.eq_ignore_ascii_case(b"identity");
        if !self.0.headers().get_all(CONTENT_ENCODING).iter().all(|value| is_identity(value.as_bytes())) {
            return Err(Error::Encoded);
        }
        match self.0.body().len() <= max_body_bytes {
            true => Ok(()),
            false => Err(Error::TooLarge { limit: max_body_bytes }),
        }
    }

    /// Refuses a parameter that differs from one of these in case or by brackets, such as `Drop` or `drop[]`. It is a
    /// mistake, and without it the call would do something else than the client asked for.
    pub(crate) fn refuse_misspelt(&self, names: &[&str]) -> Result<()> {
        let spells = |given: &str, name: &str| {
            let given = given.trim().split('[').next().unwrap_or_default();
            given.eq_ignore_ascii_case(name)
        };
        for given in self.parameters().filter(|given| !names.contains(given)) {
            if let Some(name) = names.iter().find(|name| spells(given, name)) {
                return Err(Error::field(name, "must be spelt exactly so, without brackets"));
            }
        }
        Ok(())
    }

    /// Refuses every parameter that is not one of these.
    pub(crate) fn require_only(&self, names: &[&str]) -> Result<()> {
        match self.parameters().all(|given| names.contains(&given)) {
            true => Ok(()),
            false if names.is_empty() => Err(Error::BadRequest("there are no parameters here".to_owned())),
            false => Err(Error::BadRequest(format!("the only parameters here are {}", names.join(" and ")))),
        }
    }

    /// Returns the names of the query's parameters.
    fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.query_string_parameters_ref().into_iter().flat_map(|query| query.iter().map(|(name, _)| name))
    }

    /// Returns all values of a query parameter.
    pub(crate) fn parameter_values(&self, name: &str) -> Vec<&str> {
        self.0.query_string_parameters_ref().and_then(|query| query.all(name)).unwrap_or_default()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    pub(crate) fn method(&self) -> &str {
        self.0.method().as_str()
    }

    /// Returns a query parameter. It may be given once.
    pub(crate) fn parameter(&self, name: &str) -> Result<Option<String>> {
        match self.parameter_values(name)[..] {
            [] => Ok(None),
            [value] => Ok(Some(value.to_owned())),
            _ => Err(Error::field(name, "is given more than once")),
        }
    }

    /// Returns a query parameter that is one of these, or the first of these if it is absent.
    pub(crate) fn choice(&self, name: &str, choices: &[&'static str]) -> Result<&'static str> {
        let Some(value) = self.parameter(name)? else { return Ok(choices[0]) };
        let found = choices.iter().find(|choice| **choice == value);
        found.copied().ok_or_else(|| Error::field(name, format!("must be one of {}", choices.join(", "))))
    }

    /// Returns a query parameter that is an id.
    pub(crate) fn parameter_id<Kind>(&self, name: &str) -> Result<Option<Id<Kind>>> {
        self.parameter(name)?.map(|text| parse_id(name, &text)).transpose()
    }

    /// Returns a query parameter that is the id of a message.
    pub(crate) fn message_id(&self, name: &str) -> Result<Option<MessageId>> {
        let text = self.parameter(name)?;
        text.map(|text| MessageId::parse(&text).map_err(|why| Error::field(name, why))).transpose()
    }

    /// Returns a query parameter that is a whole number from `min` to `max`.
    pub(crate) fn number<N>(&self, name: &str, min: N, max: N) -> Result<Option<N>>
    where
        N: FromStr + PartialOrd + std::fmt::Display + Copy,
    {
        let Some(text) = self.parameter(name)? else { return Ok(None) };
        // A sign is not part of a number here.
        let digits = Some(text.as_str()).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.and_then(|text| text.parse().ok()) {
            Some(number) if min <= number && number <= max => Ok(Some(number)),
            _ => Err(Error::field(name, format!("must be a whole number from {min} to {max}"))),
        }
    }

    /// Returns the conversation that the query names: another user by that parameter, or a group by `groupId`.
    pub(crate) fn address(&self, user: &str) -> Result<Address> {
        match (self.parameter_id(user)?, self.parameter_id("groupId")?) {
            (Some(user), None) => Ok(Address::User(user)),
            (None, Some(group)) => Ok(Address::Group(group)),
            (None, None) => Err(Error::BadRequest(format!("{user} or groupId is missing"))),
            (Some(_), Some(_)) => Err(Error::field("groupId", format!("does not go with {user}"))),
        }
    }

    /// Returns when the request reached the gateway.
    pub(crate) fn arrived(&self) -> Option<Ms> {
        match self.0.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => {
                u64::try_from(context.time_epoch).ok().filter(|time| *time > 0)
            }
            _ => None,
        }
    }

    /// Returns a variable of the path.
    pub(crate) fn path_text(&self, name: &str) -> Result<&str> {
        let path = self.0.path_parameters_ref();
        path.and_then(|path| path.first(name)).ok_or_else(|| Error::field(name, "is missing"))
    }

    /// Returns a variable of the path that is the id of a message.
    pub(crate) fn path_message_id(&self, name: &str) -> Result<MessageId> {
        MessageId::parse(self.path_text(name)?).map_err(|why| Error::field(name, why))
    }

    /// Returns a variable of the path that is an id.
    pub(crate) fn path_id<Kind>(&self, name: &str) -> Result<Id<Kind>> {
        parse_id(name, self.path_text(name)?)
    }

    /// Returns the path of the route, such as `/api/group/{groupId}`. The values of its variables do not change it.
    pub(crate) fn route(&self) -> &str {
        match self.0.request_context_ref() {
            Some(RequestContext::ApiGatewayV2(context)) => {
                context.route_key.as_deref().and_then(|key| key.split_once(' ')).map_or("", |(_, path)| path)
            }
            _ => "",
        }
    }

    /// Returns the body as text, without a byte order mark. Some clients send one before their JSON.
    pub(crate) fn body(&self) -> Result<&str> {
        let text = match self.0.body() {
            Body::Text(text) => text,
            Body::Binary(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| Error::BadRequest("the body is not UTF-8".to_owned()))?
            }
            _ => "",
        };
        Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
    }

    /// Returns the body as an object with at most 64 fields.
    pub(crate) fn object(&self) -> Result<Object<'_>> {
        let object = Object::parse(self.body()?).map_err(|why| Error::BadRequest(format!("the body {why}")))?;
        require_few_fields(&object)?;
        Ok(object)
    }
}

/// Parses the id in a field.
pub(crate) fn parse_id<Kind>(name: &str, text: &str) -> Result<Id<Kind>> {
    Id::parse(text).map_err(|why| Error::field(name, why))
}

/// Refuses an object with more than 64 fields.
pub(crate) fn require_few_fields(object: &Object<'_>) -> Result<()> {
    match object.len() <= MAX_FIELDS {
        true => Ok(()),
        false => Err(Error::BadRequest(format!("there are {} fields; the limit is {MAX_FIELDS}", object.len()))),
    }
}

/// Awaits an outcome and builds its response. No cache on the way to the client may store it.
pub(crate) async fn respond(app: &App, outcome: impl Future<Output = Result<Reply>>) -> Response<Body> {
    // Each endpoint refuses an answer that is too large. If one does not, this answers with a problem document.
    let too_large = || Error::unavailable("answering", "the answer is larger than a function may give");
    let mut response = match outcome.await.and_then(|reply| reply.or_too_large(too_large)) {
        Ok(reply) => reply.into_response(),
        Err(error) => problem(app, &error),
    };
    response.headers_mut().insert(CACHE_CONTROL, "no-store".parse().expect("a constant header value"));
    response
}

fn problem(app: &App, error: &Error) -> Response<Body> {
    app.report(error);
    let problem = error.problem();
    let mut builder = Response::builder().status(problem.status).header(CONTENT_TYPE, "application/problem+json");
    match error {
        Error::Unauthorized(_) | Error::TokenGivenTwice => builder = builder.header(WWW_AUTHENTICATE, "Bearer"),
        Error::MethodNotAllowed(allowed) => builder = builder.header(ALLOW, allowed),
        Error::RateLimited { retry_after_ms } => {
            builder = builder.header(RETRY_AFTER, retry_after_ms.div_ceil(1000));
        }
        Error::Encoded => builder = builder.header(ACCEPT_ENCODING, "identity"),
        _ => {}
    }
    builder.body(Body::Text(encode(&problem))).expect("the statuses and headers are our own")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_query(query: &str) -> Input {
        let request = Request::default().with_query_string_parameters(
            query.parse::<lambda_http::aws_lambda_events::query_map::QueryMap>().unwrap(),
        );
        Input::new(request)
    }

    #[test]
    fn another_spelling_of_a_parameter_is_refused() {
        for query in [
            "Drop=false",
            "DROP",
            "drop[]=false",
            "drop%5B0%5D=x",
            "dRop[a]",
            "%20drop=1",
            "drop+=1",
            "drop=false&Drop=1",
        ] {
            let refused = with_query(query).refuse_misspelt(&["sort", "drop"]).unwrap_err();
            assert_eq!(refused.problem().detail, "drop must be spelt exactly so, without brackets", "{query}");
        }
        for query in ["", "drop=false", "drops=1", "_drop", "sort=asc&drop=1&drop=2", "[]=1", "x[drop]=1"] {
            assert!(with_query(query).refuse_misspelt(&["sort", "drop"]).is_ok(), "{query}");
        }
    }

    #[test]
    fn an_array_is_measured_as_it_grows() {
        let mut array = Array::new();
        let items = ["", "\"\\", "\u{1}é", &"x".repeat(1_000)];
        for item in items {
            assert!(array.push(&item));
        }
        assert_eq!(array.json, encode(&items));
        // The first item has no comma, but is counted with one.
        assert_eq!(array.bytes, escaped_bytes(&array.json) + 1);
        let item = "\"".repeat(300_000);
        while array.push(&item) {}
        assert!(fits(&array.json) && array.bytes > MAX_ANSWER_BYTES - 4 * 300_000 - 6, "{}", array.bytes);
        assert!(serde_json::from_str::<Vec<String>>(&array.json).is_ok());
    }

    #[test]
    fn a_body_fits_by_its_escaped_size() {
        assert!(fits(&"x".repeat(MAX_ANSWER_BYTES - 2)));
        assert!(!fits(&"x".repeat(MAX_ANSWER_BYTES - 1)));
        assert!(!fits(&"\"".repeat(MAX_ANSWER_BYTES / 2)));
        assert!(!fits(&"\u{1}".repeat(MAX_ANSWER_BYTES / 6 + 1)));
    }
}
