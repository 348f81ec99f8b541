//! Many messages at once, for what only shows in bulk.

use futures::future::join_all;

use super::device::Accepted;
use super::{Device, User};

/// How many sockets send side by side.
const SOCKETS: usize = 8;

/// Send `count` messages, the n-th by `send(device, n)`, and wait until all are accepted. Their ids, each with its n, in
/// the order of acceptance.
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
