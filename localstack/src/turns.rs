//! Turns: which functions may begin, of those that run.
//!
//! A function spends most of its time waiting for a tick. Only a few at a time are on the way to their first wait, and
//! the others begin in the order in which they came. If all began at once, each would take longer, and a stack that is
//! behind would catch up later: see `docs/benchmarks.md`. A wait for the disk is a part of that way.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

/// How long functions may have a thread before the sockets have it.
const SLICE: Duration = Duration::from_micros(500);

thread_local! {
    /// When the functions of this thread got it.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };

    /// Whether the function that is polled keeps its turn, although it waits.
    static KEEPS: Cell<bool> = const { Cell::new(false) };
}

/// Runs the code of a function. Its turn ends when it first waits, except in [`kept`], and it goes on without one.
pub(crate) async fn run<F: Future>(turn: OwnedSemaphorePermit, code: F) -> F::Output {
    let (mut turn, mut code) = (Some(turn), pin!(code));
    poll_fn(|context| {
        KEEPS.set(false);
        let polled = code.as_mut().poll(context);
        if polled.is_pending() && !KEEPS.get() {
            turn = None;
        }
        polled
    })
    .await
}

/// Waits for something that is soon there, and keeps the turn.
pub(crate) async fn kept<F: Future>(wait: F) -> F::Output {
    let mut wait = pin!(wait);
    poll_fn(|context| {
        let polled = wait.as_mut().poll(context);
        KEEPS.set(KEEPS.get() || polled.is_pending());
        polled
    })
    .await
}

/// Lets the sockets of this thread pass, if functions have had the thread for long. A call to a database in memory never
/// waits, so a function would otherwise keep its thread to its end.
pub(crate) async fn let_sockets_pass() {
    let now = Instant::now();
    if BEGAN.get().is_some_and(|began| now.duration_since(began) < SLICE) {
        return;
    }
    BEGAN.set(Some(now));
    kept(tokio::task::yield_now()).await;
}

/// Lets the other functions of this thread pass, but not the sockets. `yield_now` would look at these each time.
pub(crate) async fn let_others_pass() {
    let mut is_next = false;
    kept(poll_fn(|context| {
        if std::mem::replace(&mut is_next, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }))
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::{join, pending};
    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    #[tokio::test]
    async fn a_function_that_waits_gives_its_turn_to_the_next() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = turns.clone().acquire_owned().await.unwrap();
        let (wake, woken) = oneshot::channel();
        let first = run(turn, woken);
        let second = async {
            let turn = turns.clone().acquire_owned().await.unwrap();
            run(turn, async { wake.send(7) }).await.unwrap();
        };
        assert_eq!(join(first, second).await.0, Ok(7));
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_function_that_waits_for_the_disk_keeps_its_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = turns.clone().acquire_owned().await.unwrap();
        let (wake, woken) = oneshot::channel();
        let mut code = pin!(run(turn, async {
            kept(woken).await.unwrap();
            pending::<()>().await;
        }));
        assert!(futures::poll!(&mut code).is_pending());
        assert_eq!(turns.available_permits(), 0);
        wake.send(()).unwrap();
        assert!(futures::poll!(&mut code).is_pending());
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_function_that_lets_others_pass_keeps_its_turn() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = turns.clone().acquire_owned().await.unwrap();
        BEGAN.set(None);
        let mut code = pin!(run(turn, async {
            let_sockets_pass().await;
            let_others_pass().await;
            pending::<()>().await;
        }));
        for _ in 0..2 {
            assert!(futures::poll!(&mut code).is_pending());
            assert_eq!(turns.available_permits(), 0);
        }
        assert!(futures::poll!(&mut code).is_pending());
        assert_eq!(turns.available_permits(), 1);
    }
}
