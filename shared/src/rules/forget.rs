//! The connections that a user's state no longer has to remember.

use std::collections::BTreeMap;

use super::coverage::Connection;
use crate::clock::Ms;
use crate::id::ConnectionId;

/// The most ended connections that are remembered, about 25 KB of the state.
pub const MAX_ENDED: usize = 256;

/// The connections that can be forgotten, and how the others change with that.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Forgettable {
    /// Failed handshakes, and connections that ended before the time that a pull may still ask for.
    pub silent: Vec<ConnectionId>,
    /// The oldest of more than [`MAX_ENDED`] other ended ones. If one of these is forgotten, a pull may repeat what it took.
    pub surplus: Vec<ConnectionId>,
    /// The new first covered time of other connections. A surplus connection uncovers the seconds before its beginning, and
    /// these stay uncovered when it is forgotten.
    pub uncovered: Vec<(ConnectionId, Ms)>,
}

impl Forgettable {
    /// Returns which of these connections can be forgotten. No pull asks for a time before `needed_from`.
    pub fn of(connections: &BTreeMap<ConnectionId, Connection>, needed_from: Ms, now: Ms) -> Self {
        let (mut silent, mut ended) = (Vec::new(), Vec::new());
        for (id, connection) in connections {
            // A connection that ended before its stamp covers nothing, but uncovers the seconds before it on others.
            let end = connection.span().map(|span| span.to).or_else(|| connection.from.max(connection.to));
            match (connection.from, end) {
                (None, Some(_)) => silent.push(id.clone()),
                (None, None) if connection.is_settled(now) => silent.push(id.clone()),
                (Some(_), Some(end)) if end < needed_from => silent.push(id.clone()),
                (Some(_), Some(end)) if end < now => ended.push((end, id)),
                _ => {}
            }
        }
        ended.sort_unstable();
        let surplus: Vec<&ConnectionId> =
            ended[..ended.len().saturating_sub(MAX_ENDED)].iter().map(|(_, id)| *id).collect();
        let uncovered = uncovered_without(connections, &surplus);
        Self { silent, surplus: surplus.into_iter().cloned().collect(), uncovered }
    }
}

/// Returns the new first covered time of the other connections once these are forgotten.
fn uncovered_without(
    connections: &BTreeMap<ConnectionId, Connection>,
    forgotten: &[&ConnectionId],
) -> Vec<(ConnectionId, Ms)> {
    let begin = |id: &&ConnectionId| connections.get(*id).and_then(|one| Some((one.announced, one.from?)));
    let begins: Vec<(Ms, Ms)> = forgotten.iter().filter_map(begin).collect();
    let kept = connections.iter().filter(|(id, _)| !forgotten.contains(id));
    let raised = kept.filter_map(|(id, connection)| {
        let span = connection.span()?;
        let was_open = |announced: Ms| span.from < announced && announced <= span.to;
        let from = begins.iter().filter(|(announced, _)| was_open(*announced)).map(|(_, from)| *from).max()?;
        Some((id.clone(), from))
    });
    raised.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(all: &[(&str, Option<Ms>, Option<Ms>)]) -> BTreeMap<ConnectionId, Connection> {
        let connection = |(id, from, to): &(&str, Option<Ms>, Option<Ms>)| {
            (
                ConnectionId::new(*id),
                Connection { announced: from.unwrap_or(100), from: *from, to: *to, clean: false, version: 1 },
            )
        };
        all.iter().map(connection).collect()
    }

    #[test]
    fn only_connections_that_no_pull_needs_are_forgotten() {
        let now = 1_000_000;
        let mut all = connections(&[
            ("open", Some(500), None),
            ("opening", None, None),
            ("old", Some(10), Some(20)),
            ("needed", Some(10), Some(40)),
        ]);
        all.get_mut(&ConnectionId::new("opening")).unwrap().announced = now;
        let forgotten = |needed_from, now| Forgettable::of(&all, needed_from, now).silent;
        assert!(forgotten(0, now).is_empty());
        assert_eq!(forgotten(30, now), [ConnectionId::new("old")]);
        assert_eq!(forgotten(41, now), ["needed", "old"].map(ConnectionId::new));
        assert_eq!(forgotten(30, now + 40_000), ["old", "opening"].map(ConnectionId::new));
    }

    #[test]
    fn the_oldest_surplus_connections_are_forgotten() {
        let names: Vec<String> = (0..MAX_ENDED + 2).map(|i| format!("{i:04}")).collect();
        let ended: Vec<_> = names.iter().zip(100u64..).map(|(name, t)| (name.as_str(), Some(t), Some(t))).collect();
        let forgettable = Forgettable::of(&connections(&ended), 0, 1_000_000);
        assert_eq!(forgettable.surplus, ["0000", "0001"].map(ConnectionId::new));
        assert!(forgettable.silent.is_empty());
    }

    #[test]
    fn time_that_a_forgotten_connection_uncovered_stays_uncovered() {
        let names: Vec<String> = (0..MAX_ENDED + 1).map(|i| format!("{i:04}")).collect();
        let mut ended: Vec<_> = names.iter().zip(100u64..).map(|(name, t)| (name.as_str(), Some(t), Some(t))).collect();
        ended.push(("long", Some(50), None));
        let forgettable = Forgettable::of(&connections(&ended), 0, 1_000_000);
        assert_eq!(forgettable.uncovered, [(ConnectionId::new("long"), 100)]);
    }
}
