//! How long a test waits for what must come. Nothing waits for what must not.

use std::future::Future;
use std::time::Duration;

/// Long enough for a busy machine; a test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The outcome of `future`, or a failure that says what was expected.
pub(crate) async fn within<F: Future>(expected: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("expected {expected}; nothing came within {} s", PATIENCE.as_secs()),
    }
}
