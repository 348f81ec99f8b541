//! Puts events on a bus of EventBridge, from which the back end learns what happens.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use futures::{StreamExt, stream};

use crate::aws::{Clients, open_connection};
use crate::error::{Error, Result};
use crate::queue::batches;

/// The source of all events.
pub const SOURCE: &str = "chat";

/// The most events of one call.
const MAX_ENTRIES: usize = 10;

/// The most bytes of all events of one call together. EventBridge accepts 256 KB.
const MAX_BATCH_BYTES: usize = 240 * 1024;

/// The highest number of calls that are under way at once.
const MAX_CALLS: usize = 4;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its kind, by which rules choose.
    pub detail_type: &'static str,
    /// What happened, as a JSON object.
    pub detail: String,
}

/// A bus.
#[derive(Debug, Clone)]
pub struct Bus {
    client: Client,
    name: String,
}

impl Bus {
    /// Creates the bus of the configuration, if it has one.
    pub fn configured(clients: &Clients<'_>) -> Option<Self> {
        let name = clients.config.event_bus.clone()?;
        Some(Self { client: clients.eventbridge(), name })
    }

    /// Opens a connection to EventBridge, before the first call needs it.
    pub async fn open_connection(&self) {
        open_connection!(aws_sdk_eventbridge, self.client.put_events());
    }

    /// Puts events on the bus, in no order. Returns how many it did not take. Each reason is logged.
    pub async fn put(&self, events: &[Event]) -> usize {
        let length = |event: &Event| event.detail.len() + event.detail_type.len() + SOURCE.len();
        let calls =
            batches(events, MAX_ENTRIES, MAX_BATCH_BYTES, length).into_iter().map(|batch| self.put_batch(batch));
        // Collected, because the compiler cannot prove that a stream of borrowing futures is Send.
        let calls = stream::iter(calls.collect::<Vec<_>>()).buffer_unordered(MAX_CALLS);
        calls.fold(0, |failed, more| async move { failed + more }).await
    }

    async fn put_batch(&self, events: &[Event]) -> usize {
        match self.try_put(events).await {
            Ok(failed) => failed,
            Err(error) => {
                tracing::warn!(error = error.chain(), "events were not put");
                events.len()
            }
        }
    }

    async fn try_put(&self, events: &[Event]) -> Result<usize> {
        let entry = |event: &Event| {
            PutEventsRequestEntry::builder()
                .event_bus_name(&self.name)
                .source(SOURCE)
                .detail_type(event.detail_type)
                .detail(&event.detail)
                .build()
        };
        let request = self.client.put_events().set_entries(Some(events.iter().map(entry).collect()));
        let answer = Box::pin(request.send()).await.map_err(|error| Error::unavailable("PutEvents", error))?;
        let failed = answer.failed_entry_count();
        if failed > 0 {
            let code = answer.entries().iter().find_map(|entry| entry.error_code()).unwrap_or_default();
            tracing::warn!(failed, code, "the bus did not take all events");
        }
        Ok(usize::try_from(failed).unwrap_or(0))
    }
}
