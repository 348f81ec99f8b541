//! Pushing frames to connections, by API Gateway's management API.

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_apigatewaymanagement::operation::delete_connection::DeleteConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;

use crate::error::{Error, Result, chain};
use crate::id::ConnectionId;

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// The gateway took it for an open connection.
    Taken,
    /// There is no such connection, or not yet: see [`crate::rules::coverage::Connection::is_settled`].
    Gone,
    /// Neither is known: throttled, a server error or a timeout, after the SDK's retries.
    Failed,
}

/// The management API of the WebSocket gateway.
#[derive(Debug, Clone)]
pub struct Pusher {
    client: Client,
}

impl Pusher {
    /// Pushes by this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Push one frame.
    ///
    /// The call is boxed here and below: it is kilobytes as long as it is under way, and what pushes to many moves it
    /// several times.
    pub async fn post(&self, connection: &ConnectionId, frame: &str) -> Push {
        let post = self.client.post_to_connection().connection_id(connection.as_str()).data(Blob::new(frame));
        outcome(connection, Box::pin(post.send()).await)
    }

    /// Do as if one frame were pushed: the same way to the gateway and back, and nothing reaches the client.
    pub async fn probe(&self, connection: &ConnectionId) -> Push {
        let look = self.client.get_connection().connection_id(connection.as_str());
        outcome(connection, Box::pin(look.send()).await)
    }

    /// Close a connection; one that is gone already is closed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the gateway did not answer.
    pub async fn close(&self, connection: &ConnectionId) -> Result<()> {
        match self.client.delete_connection().connection_id(connection.as_str()).send().await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(DeleteConnectionError::GoneException(_)) => Ok(()),
                _ => Err(Error::unavailable("DeleteConnection", error)),
            },
        }
    }
}

fn outcome<T, E>(connection: &ConnectionId, answer: Result<T, SdkError<E>>) -> Push
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(_) => Push::Taken,
        Err(error) if error.code() == Some("GoneException") => Push::Gone,
        Err(error) => {
            tracing::warn!(%connection, error = chain(&error), "a push failed");
            Push::Failed
        }
    }
}
