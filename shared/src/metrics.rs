//! The counters, for operators. They are sums over all users and identify none of them.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use crate::clock::Ms;

/// Defines the metrics: the name in CloudWatch and the help text of each.
macro_rules! metrics {
    ($($name:ident = $help:literal,)*) => {
        /// A metric.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $name,)*
        }

        impl Metric {
            /// All metrics.
            pub const ALL: [Self; [$($help),*].len()] = [$(Self::$name),*];

            /// Returns its name in CloudWatch.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Returns its help text, one line.
            pub fn help(self) -> &'static str {
                match self {
                    $(Self::$name => $help,)*
                }
            }
        }
    };
}

metrics! {
    Accepted = "Messages that were written to their log.",
    Pushed = "Pushes of messages and notifications that a connection took.",
    Gone = "Pushes to connections that are gone.",
    Failed = "Pushes with an unknown outcome.",
    Missed = "Receivers without a successful push of a message.",
    Withheld = "Receivers from whom a message was withheld.",
    Recalled = "Calls that recalled a message.",
    Signals = "Pushes of frames of version 2, and of echoes.",
    HistoryRead = "Messages that histories returned.",
    Pulled = "Messages that pulls returned.",
    Dropped = "Calls that dropped missed messages.",
    Throttled = "Calls to AWS that were throttled.",
    Unavailable = "Failures of the service.",
    RateLimited = "Calls that were refused, because the user sent too much.",
    EventsPut = "Events that the bus took.",
    EventsFailed = "Events that the bus did not take.",
    FanoutJobs = "Jobs of the fan-out that have begun.",
    FanoutLag = "Milliseconds that jobs of the fan-out waited before they began.",
}

impl Metric {
    /// Returns its unit in CloudWatch.
    pub fn unit(self) -> &'static str {
        match self {
            Self::FanoutLag => "Milliseconds",
            _ => "Count",
        }
    }
}

/// The counters of one process.
#[derive(Debug, Default)]
pub struct Metrics([AtomicU64; Metric::ALL.len()]);

impl Metrics {
    /// Adds one.
    pub fn count(&self, metric: Metric) {
        self.add(metric, 1);
    }

    /// Adds `more`.
    pub fn add(&self, metric: Metric, more: usize) {
        self.0[metric as usize].fetch_add(more as u64, Ordering::Relaxed);
    }

    /// Returns the count since the last [`Metrics::take`].
    pub fn total(&self, metric: Metric) -> u64 {
        self.0[metric as usize].load(Ordering::Relaxed)
    }

    /// Returns the counts since the last call, and resets them. Metrics with a count of zero are left out.
    pub fn take(&self) -> Vec<(Metric, u64)> {
        let counts = Metric::ALL.map(|metric| (metric, self.0[metric as usize].swap(0, Ordering::Relaxed)));
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// Returns a line of the log with counts, from which CloudWatch makes metrics without dimensions (embedded metric
/// format). The line keeps its other fields.
pub fn embedded(namespace: &str, at: Ms, counts: &[(Metric, u64)], mut line: Map<String, Value>) -> String {
    if !counts.is_empty() {
        let metrics: Vec<Value> =
            counts.iter().map(|(metric, _)| json!({ "Name": metric.name(), "Unit": metric.unit() })).collect();
        let directive = json!({ "Namespace": namespace, "Dimensions": [[]], "Metrics": metrics });
        line.insert("_aws".to_owned(), json!({ "Timestamp": at, "CloudWatchMetrics": [directive] }));
        line.extend(counts.iter().map(|(metric, count)| (metric.name().to_owned(), json!(count))));
    }
    Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_by_itself() {
        let metrics = Metrics::default();
        for (index, metric) in Metric::ALL.into_iter().enumerate() {
            metrics.add(metric, index);
        }
        metrics.count(Metric::Accepted);
        assert_eq!(metrics.total(Metric::Accepted), 1);
        let expected: Vec<_> = Metric::ALL.into_iter().zip([1, 1].into_iter().chain(2..)).collect();
        assert_eq!(metrics.take(), expected);
        assert!(metrics.take().is_empty());
    }

    #[test]
    fn a_line_is_in_the_embedded_metric_format() {
        let fields = || Map::from_iter([("function".to_owned(), json!("message"))]);
        let line = embedded("chat", 5, &[(Metric::Accepted, 1), (Metric::FanoutLag, 7)], fields());
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({
                "function": "message", "Accepted": 1, "FanoutLag": 7,
                "_aws": { "Timestamp": 5, "CloudWatchMetrics": [{
                    "Namespace": "chat", "Dimensions": [[]],
                    "Metrics": [{ "Name": "Accepted", "Unit": "Count" }, { "Name": "FanoutLag", "Unit": "Milliseconds" }],
                }] },
            })
        );
        assert_eq!(
            embedded("chat", 5, &[], fields()),
            r#"{"function":"message"}"#,
            "without counts, no metric that CloudWatch bills"
        );
    }
}
