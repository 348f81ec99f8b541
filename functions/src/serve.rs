//! Runs a function as a Lambda process: configuration, log, and the loop that handles events.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use lambda_http::lambda_runtime::{self, LambdaEvent};
use lambda_http::service_fn;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use shared::config::Config;
use shared::metrics::embedded;
use tracing::{Instrument, error_span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use crate::App;
use crate::failure::Failure;
use crate::function::{Function, Trigger};

/// Where the runtime logs failed invocations.
const FAILURES: &str = "lambda_runtime::layers::panic";

/// Runs a function as a Lambda process. If the configuration is wrong, it prints the reason and returns.
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
    let app = Arc::new(App::of(&function.needs, &config));
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
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    tracing_subscriber::registry().with(lines.with_filter(filter(level))).init();
    // The message of a panic may quote what a user wrote.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        tracing::error!(at, "panicked");
    }));
}

/// Returns what is logged at a level.
fn filter(level: &str) -> Targets {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let ours = ["functions", "shared", "refused_token"].map(|target| (target, level));
    // The runtime logs the answer to each invocation that fails, with the ids in it. Strangers can make handshakes fail.
    Targets::new().with_default(LevelFilter::WARN).with_target(FAILURES, LevelFilter::OFF).with_targets(ours)
}

/// Polls Lambda for events. The futures are boxed, so that this loop is compiled once for all binaries.
async fn poll(function: &'static Function, app: Arc<App>, started: Instant) -> Result<(), lambda_runtime::Error> {
    // Lambda gives a function a whole processor until it asks for its first event, and often a small part of one afterwards.
    app.warm_up(&function.needs, function.trigger != Trigger::Authorizer).await;
    // Only the first invocation waits for the start of the process.
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
    // Each line tells which function wrote it, and in which invocation.
    let invocation = error_span!("invocation", function = function.name, request_id = event.context.request_id);
    let result = function.invoke(app, event.payload.get()).instrument(invocation).await;
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

/// Logs a line about an invocation with its metrics. A line with metrics is written at every level.
fn log_invocation(app: &App, fields: Map<String, Value>) {
    let counts = app.metrics.take();
    if counts.is_empty() && !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let line = embedded(&app.metrics_namespace, app.clock.now_ms(), &counts, fields);
    // An error means that the log is closed. There is no other place to report it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Returns the milliseconds since an instant, rounded to the microsecond.
fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_log_warnings_and_no_answers() {
        let filter = filter("debug");
        assert!(filter.would_enable("functions::app", &Level::DEBUG));
        assert!(filter.would_enable("lambda_runtime::runtime", &Level::WARN));
        assert!(!filter.would_enable("lambda_runtime::runtime", &Level::INFO));
        assert!(!filter.would_enable(FAILURES, &Level::ERROR));
    }
}
