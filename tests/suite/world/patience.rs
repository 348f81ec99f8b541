//! How long a test waits for what must come. Nothing waits for what must not.

use std::future::Future;
use std::time::Duration;

/// Long enough for a busy machine; a test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often something is tried that a slow machine may spoil.
const TRIES: usize = 20;

/// Try until it succeeds once. For what a deployment must do, but not every time: a message that a connection is slow to
/// take, for one, is also kept as missed.
pub(crate) async fn once(expected: &str, mut attempt: impl AsyncFnMut(usize) -> bool) {
    for number in 0..TRIES {
        if attempt(number).await {
            return;
        }
    }
    panic!("expected {expected} once in {TRIES} times");
}

/// The outcome of `future`, or a failure that says what was expected.
pub(crate) async fn within<F: Future>(expected: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("expected {expected}; nothing came within {} s", PATIENCE.as_secs()),
    }
}
