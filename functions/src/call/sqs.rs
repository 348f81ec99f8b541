//! The calls of a queue. An event has some of its records, and the answer names those that failed. Only these are tried
//! again. After the last try they go to the dead letters.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use shared::Result;

use crate::App;
use crate::failure::Failure;

/// A handler of the body of a record.
pub(crate) type Handler = for<'a> fn(&'a App, &'a str) -> BoxFuture<'a, Result<()>>;

/// An event of SQS. It is declared here, because the crate that defines it depends on thirty others.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    body: String,
}

/// The answer. Every record that it does not name is done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    batch_item_failures: Vec<Failed>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed {
    item_identifier: String,
}

/// Handles the records one after the other. A failure of one does not affect the next.
pub(crate) async fn answer(app: &App, handler: Handler, event: &str) -> Result<String, Failure> {
    let event: Event = serde_json::from_str(event).map_err(|error| {
        // The text of the error may quote the event, so it is left out.
        Failure::new("MalformedEvent", format!("line {}, column {}", error.line(), error.column()))
    })?;
    let mut answer = Answer::default();
    for record in event.records {
        if let Err(error) = handler(app, &record.body).await {
            tracing::warn!(record = record.message_id, "a record failed");
            app.report(&error);
            answer.batch_item_failures.push(Failed { item_identifier: record.message_id });
        }
    }
    serde_json::to_string(&answer).map_err(|error| Failure::new("MalformedResult", error.to_string()))
}
