//! Sends many messages at once, for behaviour that only bulk shows.

use futures::future::join_all;

use super::device::Accepted;
use super::{Device, User};

/// How many sockets send in parallel.
const SOCKETS: usize = 8;

/// Sends `count` messages, the n-th by `send(device, n)`, and waits until all are accepted. Returns each id with its n,
/// in the order of acceptance.
pub(crate) async fn fill(
    from: &User,
    count: usize,
    send: impl AsyncFn(&mut Device, usize) -> Accepted,
) -> Vec<(String, usize)> {
    let send = &send;
    let shares = (0..SOCKETS).map(|socket| async move {
        let mut device = from.connect().await;
        let mut accepted = Vec::new();
        for n in (socket..count).step_by(SOCKETS) {
            accepted.push((send(&mut device, n).await.id, n));
        }
        device.leave().await;
        accepted
    });
    let mut all = join_all(shares).await.concat();
    all.sort_unstable();
    all
}
