//! `GET /metrics` at the internal address: the counters of the functions, open connections and queues, as text for
//! Prometheus. In AWS, CloudWatch has the same counters.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use shared::metrics::Metric;

use crate::gateway::Gateway;

/// Handles `GET /metrics`.
pub(crate) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut text = String::new();
    let counters = Metric::ALL.map(|metric| (name(metric), metric.help(), gateway.total(metric)));
    for (name, help, total) in counters {
        describe(&mut text, &name, help, "counter");
        line(&mut text, &name, total);
    }
    describe(&mut text, "chat_connections", "Connections that are open.", "gauge");
    line(&mut text, "chat_connections", gateway.connections.count() as u64);
    describe(&mut text, "chat_queue_messages", "Messages in a queue, including those in progress.", "gauge");
    for (queue, messages) in gateway.queues.iter().flat_map(|queue| queue.counts()) {
        line(&mut text, &format!("chat_queue_messages{{queue=\"{queue}\"}}"), messages as u64);
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Returns the name of a metric in the style of Prometheus: `chat_accepted_total`.
fn name(metric: Metric) -> String {
    let unit = match metric.unit() {
        "Milliseconds" => "_milliseconds",
        _ => "",
    };
    let mut name = String::from("chat");
    for letter in metric.name().chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    format!("{name}{unit}_total")
}

fn describe(text: &mut String, name: &str, help: &str, kind: &str) {
    let written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    written.expect("a string takes everything");
}

fn line(text: &mut String, name: &str, value: u64) {
    writeln!(text, "{name} {value}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_style_of_prometheus() {
        let names = [Metric::Accepted, Metric::FanoutJobs, Metric::FanoutLag].map(name);
        assert_eq!(names, ["chat_accepted_total", "chat_fanout_jobs_total", "chat_fanout_lag_milliseconds_total"]);
    }
}
