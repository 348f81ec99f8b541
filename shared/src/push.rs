//! Pushes frames to connections through API Gateway's management API.

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_apigatewaymanagement::operation::delete_connection::DeleteConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;

use crate::aws::{Clients, open_connection};
use crate::error::{Error, Result, chain};
use crate::id::ConnectionId;

/// The outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// The gateway accepted it for an open connection.
    Taken,
    /// The connection does not exist, or not yet: see [`crate::rules::coverage::Connection::is_settled`].
    Gone,
    /// The outcome is unknown: throttling, a server error or a timeout, after the SDK's retries.
    Failed,
}

/// The management API of the WebSocket gateway.
#[derive(Debug, Clone)]
pub struct Pusher {
    client: Client,
}

impl Pusher {
    /// Creates the pusher of the configuration, if it has the address of the API.
    pub fn configured(clients: &Clients<'_>) -> Option<Self> {
        clients.management().map(|client| Self { client })
    }

    /// Opens connections to the API, before the first calls need them: a push, and a frame to the sender.
    pub async fn open_connections(&self) {
        let open =
            async || open_connection!(aws_sdk_apigatewaymanagement, self.client.get_connection().connection_id("-"));
        futures::join!(open(), open());
    }

    /// Pushes one frame.
    ///
    /// The future of the call has kilobytes, and a push to many users moves it several times. So it is boxed here and
    /// below.
    pub async fn post(&self, connection: &ConnectionId, frame: &str) -> Push {
        let post = self.client.post_to_connection().connection_id(connection.as_str()).data(Blob::new(frame));
        outcome(connection, Box::pin(post.send()).await)
    }

    /// Makes a call to the gateway in place of a push. Nothing reaches the client.
    pub async fn probe(&self, connection: &ConnectionId) -> Push {
        let look = self.client.get_connection().connection_id(connection.as_str());
        outcome(connection, Box::pin(look.send()).await)
    }

    /// Closes a connection. It also succeeds if the connection is already gone.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the gateway did not answer.
    pub async fn close(&self, connection: &ConnectionId) -> Result<()> {
        match Box::pin(self.client.delete_connection().connection_id(connection.as_str()).send()).await {
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
