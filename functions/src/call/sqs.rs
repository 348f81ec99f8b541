//! The calls of a queue: an event is some of its records, and the answer says which of them have failed, so that only
//! these come again, and in the end are put aside.

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use shared::Result;

use crate::App;
use crate::failure::Failure;

/// What handles a record, by its body.
pub(crate) type Handler = for<'a> fn(&'a App, &'a str) -> BoxFuture<'a, Result<()>>;

/// An event of SQS. Declared here, since the crate that has all of it brings thirty others.
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

/// The answer: what is not in it is done.
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

/// Run each record by itself, one after the other: what becomes of one does not touch the next.
pub(crate) async fn answer(app: &App, handler: Handler, event: &str) -> Result<String, Failure> {
    let event: Event = serde_json::from_str(event).map_err(|error| {
        // Not its text, which may quote the event.
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
