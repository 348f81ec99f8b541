//! The calls of the REST API: decoded, authenticated, answered; errors become problem documents in one place.

use std::borrow::Cow;
use std::future::Future;

use lambda_http::http::Method;
use lambda_http::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use lambda_http::{Body, Request, RequestExt, Response};
use serde::Serialize;
use shared::frame::encode;
use shared::id::{Id, UserId};
use shared::{Error, Result};

use crate::{App, access};

/// The longest body of an answer, as it stands in a function's result: Lambda lets 6 MB of that pass, headers and all.
pub(crate) const MAX_ANSWER_BYTES: usize = 5_500_000;

/// A call by a user whose token has been verified.
#[derive(Debug)]
pub(crate) struct Call {
    /// Who calls.
    pub(crate) user: UserId,
    pub(crate) input: Input,
}

/// What a request brings along.
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
    /// 200 and nothing else.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// 200 and a value.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self { body: Some(encode(value)), ..Self::default() }
    }

    /// 200 and a value that is JSON already.
    pub(crate) fn text(json: String) -> Self {
        Self { body: Some(json), ..Self::default() }
    }

    /// An answer of that status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// The answer with a header.
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

impl Input {
    pub(crate) fn new(request: Request) -> Self {
        Self(request)
    }

    pub(crate) fn method(&self) -> &str {
        self.0.method().as_str()
    }

    /// A query parameter, which may come once.
    pub(crate) fn parameter(&self, name: &str) -> Result<Option<String>> {
        let query = self.0.query_string_parameters_ref();
        match query.and_then(|query| query.all(name)).as_deref() {
            None | Some([]) => Ok(None),
            Some([value]) => Ok(Some((*value).to_owned())),
            Some(_) => Err(Error::field(name, "is given more than once")),
        }
    }

    /// A query parameter that is one of these; the first if it is absent.
    pub(crate) fn choice(&self, name: &str, choices: &[&'static str]) -> Result<&'static str> {
        let Some(value) = self.parameter(name)? else { return Ok(choices[0]) };
        let found = choices.iter().find(|choice| **choice == value);
        found.copied().ok_or_else(|| Error::field(name, format!("must be one of {}", choices.join(", "))))
    }

    /// A query parameter that is an id.
    pub(crate) fn parameter_id<Kind>(&self, name: &str) -> Result<Option<Id<Kind>>> {
        self.parameter(name)?.map(|text| parse_id(name, &text)).transpose()
    }

    /// A variable of the path, which is an id.
    pub(crate) fn path_id<Kind>(&self, name: &str) -> Result<Id<Kind>> {
        let path = self.0.path_parameters_ref();
        let text = path.and_then(|path| path.first(name)).ok_or_else(|| Error::field(name, "is missing"))?;
        parse_id(name, text)
    }

    /// The path as it came.
    pub(crate) fn path(&self) -> &str {
        self.0.raw_http_path()
    }

    /// The body as text.
    pub(crate) fn body(&self) -> Result<&str> {
        match self.0.body() {
            Body::Text(text) => Ok(text),
            Body::Binary(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| Error::BadRequest("the body is not UTF-8".to_owned()))
            }
            _ => Ok(""),
        }
    }

    fn token(&self) -> Result<String> {
        let query = self.0.query_string_parameters_ref().and_then(|query| query.all("access_token"));
        access::only_one(&query.unwrap_or_default(), self.0.headers(), &[])
    }
}

/// The id that a field holds.
pub(crate) fn parse_id<Kind>(name: &str, text: &str) -> Result<Id<Kind>> {
    Id::parse(text).map_err(|why| Error::field(name, why))
}

/// Answer a request of the public HTTP API.
pub(crate) async fn answer<'a, F>(app: &'a App, method: &'static str, run: F, request: Request) -> Response<Body>
where
    F: for<'b> Fn(&'b App, &'b Call) -> futures::future::BoxFuture<'b, Result<Reply>>,
{
    // Where a path has an ANY route, the preflight of CORS comes here too. The gateway adds the headers.
    if request.method() == Method::OPTIONS {
        return respond(app, async { Ok(Reply::status(204)) }).await;
    }
    let outcome = async {
        let call = authenticate(app, method, Input(request)).await?;
        let outcome = run(app, &call).await;
        if matches!(outcome, Err(Error::Forbidden(_))) {
            // What is absent is found sooner than what is another's.
            app.wait_for_tick().await;
        }
        outcome
    };
    respond(app, outcome).await
}

async fn authenticate(app: &App, method: &'static str, input: Input) -> Result<Call> {
    if input.method() != method {
        return Err(Error::MethodNotAllowed(allowed_on(input.path())));
    }
    let identity = app.verifier()?.verify(&input.token()?, app.clock.now_ms()).await?;
    Ok(Call { user: identity.user, input })
}

/// The methods of a path of the REST API. Needed only where the gateway routes any other method to a function.
fn allowed_on(path: &str) -> &'static str {
    match path.trim_start_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["api", "message"] => "GET, DELETE",
        ["api", "group" | "request"] => "GET, POST",
        ["api", "group", _] => "GET, PUT, DELETE",
        _ => "PUT, DELETE",
    }
}

/// Await an outcome and make it a response. Nothing between here and the client may keep it.
pub(crate) async fn respond(app: &App, outcome: impl Future<Output = Result<Reply>>) -> Response<Body> {
    let mut response = match outcome.await {
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
        Error::MethodNotAllowed(allowed) => builder = builder.header(ALLOW, *allowed),
        _ => {}
    }
    builder.body(Body::Text(encode(&problem))).expect("the statuses and headers are our own")
}
