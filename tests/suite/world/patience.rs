//! How long a test waits for what must come. No test waits for an absence.

use std::future::Future;
use std::time::Duration;

/// Long enough for a busy machine. A test that passes never waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a test retries something that a slow machine may spoil.
const TRIES: usize = 20;

/// Retries until one attempt succeeds, for behaviour that a deployment shows often but not always. For example, a
/// message that a connection is slow to receive is also kept as missed.
pub(crate) async fn once(expected: &str, mut attempt: impl AsyncFnMut(usize) -> bool) {
    for number in 0..TRIES {
        if attempt(number).await {
            return;
        }
    }
    panic!("expected {expected} once in {TRIES} times");
}

/// The output of `future`, or a failure that says what was expected.
pub(crate) async fn within<F: Future>(expected: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("expected {expected}; nothing came within {} s", PATIENCE.as_secs()),
    }
}
