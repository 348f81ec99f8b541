//! The calls of a queue: an event is some of its records, and the answer says which of them have failed, so that only
//! these come again, and in the end are put aside.

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use futures::future::BoxFuture;
use shared::Result;

use crate::App;
use crate::function::{Failure, log_failure};

/// Run each record by itself, one after the other: what becomes of one does not touch the next.
pub(crate) async fn answer(
    app: &App,
    run: for<'a> fn(&'a App, &'a str) -> BoxFuture<'a, Result<()>>,
    event: &str,
) -> Result<String, Failure> {
    let event: SqsEvent = serde_json::from_str(event).map_err(|error| {
        // Not its text, which may quote the event.
        Failure::new("MalformedEvent", format!("line {}, column {}", error.line(), error.column()))
    })?;
    let mut response = SqsBatchResponse::default();
    for record in event.records {
        if let Err(error) = run(app, record.body.as_deref().unwrap_or_default()).await {
            // A record without a name fails all of them: the queue takes an empty name for that.
            let record = record.message_id.unwrap_or_default();
            tracing::warn!(record, "a record failed and will come again");
            log_failure(&error);
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = record;
            response.batch_item_failures.push(failure);
        }
    }
    serde_json::to_string(&response).map_err(|error| Failure::new("MalformedResult", error.to_string()))
}
