//! How an event becomes a call of a function: the same way in Lambda and on one machine.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use lambda_http::lambda_runtime::{self, Diagnostic, LambdaEvent};
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Body, Context, Request, Response, Service, service_fn};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use shared::config::Config;
use shared::metrics::embedded;

use crate::event::Event;
use crate::rest::{Call, Reply};
use crate::socket::SocketEvent;
use crate::{App, access, authorize, internal, records, rest, socket};

/// One function: its name, and what runs when it is called.
#[derive(Debug)]
pub struct Function {
    /// The name that module, binary, Lambda resource and tests share.
    pub name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) handler: Handler,
}

/// What a function cannot do without.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Needs {
    /// It verifies tokens.
    pub(crate) tokens: bool,
    /// It posts to connections.
    pub(crate) pushes: bool,
}

/// What runs, by the kind of event that it takes.
#[derive(Debug)]
pub(crate) enum Handler {
    /// A REQUEST authorizer event of the WebSocket API.
    Authorizer,
    /// A WebSocket event.
    Socket(for<'a> fn(&'a App, &'a SocketEvent) -> BoxFuture<'a, shared::Result<Reply>>),
    /// A request of the public HTTP API, with this method and a valid token.
    Rest(&'static str, for<'a> fn(&'a App, &'a Call) -> BoxFuture<'a, shared::Result<Reply>>),
    /// A request of the internal HTTP API, or a direct invocation.
    Internal(internal::Endpoint),
    /// Records of a queue, each by its body.
    Queue(for<'a> fn(&'a App, &'a str) -> BoxFuture<'a, shared::Result<()>>),
}

/// A failed invocation, as Lambda reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub error_type: String,
    /// What the caller may know of it.
    pub error_message: String,
}

impl Failure {
    pub(crate) fn new(error_type: &str, error_message: impl Into<String>) -> Self {
        Self { error_type: error_type.to_owned(), error_message: error_message.into() }
    }
}

impl From<Failure> for Diagnostic {
    fn from(failure: Failure) -> Self {
        Self { error_type: failure.error_type, error_message: failure.error_message }
    }
}

impl Function {
    /// A function of the public HTTP API.
    pub(crate) const fn rest(
        name: &'static str,
        method: &'static str,
        run: for<'a> fn(&'a App, &'a Call) -> BoxFuture<'a, shared::Result<Reply>>,
    ) -> Self {
        Self { name, needs: Needs { tokens: true, pushes: false }, handler: Handler::Rest(method, run) }
    }

    /// Run one invocation: the event as JSON in, the result as JSON out.
    ///
    /// # Errors
    /// What Lambda would report as a failed invocation; refusals of HTTP requests are results.
    pub async fn invoke(&self, app: &Arc<App>, event: &str) -> Result<String, Failure> {
        match &self.handler {
            Handler::Authorizer => authorize::answer(app, event).await,
            Handler::Socket(run) => http(event, |request| socket::answer(app, *run, request)).await,
            Handler::Rest(method, run) => http(event, |request| rest::answer(app, method, *run, request)).await,
            Handler::Queue(run) => records::answer(app, *run, event).await,
            Handler::Internal(endpoint) => match internal::is_http(event) {
                true => http(event, |request| internal::answer(app, *endpoint, request)).await,
                false => internal::answer_directly(app, *endpoint, event).await,
            },
        }
    }

    /// What the configuration lacks for this function.
    fn lacks(&self, config: &Config) -> Option<&'static str> {
        if self.needs.tokens && config.tokens.is_none() {
            return Some("JWT_SECRET or JWKS_URL must be set");
        }
        (self.needs.pushes && config.management_endpoint.is_none()).then_some("MANAGEMENT_ENDPOINT is not set")
    }
}

/// Pass an HTTP or WebSocket event through lambda_http's decoder, a handler, and lambda_http's encoder.
async fn http<'a, F>(event: &str, handle: impl Fn(Request) -> F + Send + 'a) -> Result<String, Failure>
where
    F: Future<Output = Response<Body>> + Send + 'a,
{
    let Event { mut payload, address } = Event::parse(event)?;
    if let LambdaRequest::WebSocket(event) = &mut payload {
        // Of headers that are in both maps, lambda_http would keep the last value alone.
        let single = std::mem::take(&mut event.headers);
        event.multi_value_headers = access::all_headers(std::mem::take(&mut event.multi_value_headers), &single);
    }
    let service = service_fn(|request| {
        let answer = handle(address.of(request));
        async { Ok::<_, Infallible>(answer.await) }
    });
    let Ok(response) = Adapter::from(service).call(LambdaEvent { payload, context: Context::default() }).await;
    serde_json::to_string(&response).map_err(|error| Failure::new("MalformedResult", error.to_string()))
}

/// Run a function as a Lambda process. It says what is wrong with the configuration and ends, or never ends.
pub fn serve(function: &'static Function) -> ExitCode {
    let started = Instant::now();
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(error) => return misconfigured(function, &error.to_string()),
    };
    if let Some(missing) = function.lacks(&config) {
        return misconfigured(function, missing);
    }
    log_as_json(&config.log_level);
    let app = Arc::new(App::new(&config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended =
        runtime.map_err(lambda_runtime::Error::from).and_then(|runtime| runtime.block_on(poll(function, app, started)));
    ended.map_or_else(|error| misconfigured(function, &error.to_string()), |()| ExitCode::SUCCESS)
}

fn misconfigured(function: &Function, why: &str) -> ExitCode {
    eprintln!("{}: {why}", function.name);
    ExitCode::FAILURE
}

fn log_as_json(level: &str) {
    let filter = tracing_subscriber::EnvFilter::new(format!("warn,functions={level},shared={level}"));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_current_span(false).init();
}

/// Boxed at the boundary, so that this loop is compiled once and not once per binary.
async fn poll(function: &'static Function, app: Arc<App>, started: Instant) -> Result<(), lambda_runtime::Error> {
    // Of the first invocation only, which had to wait for it.
    let mut init_ms = Some(milliseconds(started));
    let handle = move |event: LambdaEvent<Box<RawValue>>| -> BoxFuture<'static, Result<Box<RawValue>, Failure>> {
        let (app, init_ms) = (app.clone(), init_ms.take());
        Box::pin(async move { invoke_and_log(function, &app, &event, init_ms).await })
    };
    lambda_runtime::run(service_fn(handle)).await
}

async fn invoke_and_log(
    function: &Function,
    app: &Arc<App>,
    event: &LambdaEvent<Box<RawValue>>,
    init_ms: Option<f64>,
) -> Result<Box<RawValue>, Failure> {
    let started = Instant::now();
    let result = function.invoke(app, event.payload.get()).await;
    let outcome = result.as_ref().map_or_else(|failure| failure.error_type.as_str(), |_| "answered");
    let fields = [
        ("level", json!("INFO")),
        ("message", json!("invoked")),
        ("function", json!(function.name)),
        ("request_id", json!(event.context.request_id)),
        ("outcome", json!(outcome)),
        ("duration_ms", json!(milliseconds(started))),
        ("init_ms", json!(init_ms)),
    ];
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    log_invocation(app, fields.map(|(name, value)| (name.to_owned(), value)).collect());
    let json = result?;
    RawValue::from_string(json).map_err(|error| Failure::new("MalformedResult", error.to_string()))
}

/// A line about an invocation, with what was counted during it: at every level if anything was.
fn log_invocation(app: &App, fields: Map<String, Value>) {
    let counts = app.metrics.take();
    if counts.is_empty() && !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let line = embedded(&app.metrics_namespace, app.clock.now_ms(), &counts, fields);
    // Nobody is left to be told that nobody reads it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Since then, to the microsecond.
fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
