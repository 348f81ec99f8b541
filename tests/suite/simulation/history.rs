//! What happened in a run, as its users know it, and what the protocol promises of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use shared::clock::Ms;

/// For ever.
const NEVER: Ms = Ms::MAX;

/// The time that something took, during which nobody can say whether it had happened already.
#[derive(Debug, Clone, Copy)]
pub(super) struct During {
    pub(super) from: Ms,
    pub(super) to: Ms,
}

/// A message that somebody tried to send.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) content: String,
    pub(super) sender: String,
    /// A user or a group.
    pub(super) to: String,
    pub(super) during: During,
    /// Whether the sender was told that it was accepted.
    pub(super) accepted: bool,
}

/// A state that began, and perhaps ended: a membership, a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spell {
    pub(super) begin: During,
    pub(super) end: During,
}

impl Spell {
    pub(super) fn always() -> Self {
        Self { begin: During { from: 0, to: 0 }, end: During { from: NEVER, to: NEVER } }
    }

    pub(super) fn since(begin: During) -> Self {
        Self { begin, end: During { from: NEVER, to: NEVER } }
    }

    fn surely_holds(&self, during: During) -> bool {
        self.begin.to < during.from && during.to < self.end.from
    }

    fn surely_never_held(&self, during: During) -> bool {
        during.to < self.begin.from || self.end.to < during.from
    }
}

/// What a user is owed of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owed {
    Never,
    Perhaps,
    Surely,
}

/// The notes of a run.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) sent: Mutex<Vec<Sent>>,
    /// By two users, both ways.
    pub(super) friends: BTreeSet<(String, String)>,
    /// By who blocks and who is blocked.
    pub(super) blocks: Mutex<BTreeMap<(String, String), Vec<Spell>>>,
    /// By group and user.
    pub(super) members: Mutex<BTreeMap<(String, String), Vec<Spell>>>,
    /// What pulls returned, by user, each with the time when the pull began.
    pub(super) pulled: Mutex<BTreeMap<String, Vec<(String, Ms)>>>,
}

impl History {
    fn owed(&self, sent: &Sent, user: &str) -> Owed {
        if sent.sender == user {
            return Owed::Never;
        }
        let addressed = self.addressed(sent, user);
        let blocks = self.blocks.lock().expect("nobody panics");
        let spells = blocks.get(&(user.to_owned(), sent.sender.clone())).map_or(&[][..], Vec::as_slice);
        let unblocked = if spells.iter().any(|spell| spell.surely_holds(sent.during)) {
            Owed::Never
        } else if spells.iter().all(|spell| spell.end.to < sent.during.from) {
            // A pull leaves out, for good, what is of somebody who is blocked by then.
            Owed::Surely
        } else {
            Owed::Perhaps
        };
        addressed.min(unblocked)
    }

    fn addressed(&self, sent: &Sent, user: &str) -> Owed {
        if sent.to == user {
            let pair = (sent.sender.clone(), user.to_owned());
            return if self.friends.contains(&pair) { Owed::Surely } else { Owed::Never };
        }
        let sends = self.membership(&sent.to, &sent.sender, sent.during);
        let receives = self.membership(&sent.to, user, sent.during);
        // Who leaves a group can't pull its messages any more.
        let stays = self.membership(&sent.to, user, During { from: sent.during.from, to: NEVER - 1 });
        match sends.min(receives) {
            Owed::Surely if stays < Owed::Surely => Owed::Perhaps,
            owed => owed,
        }
    }

    fn membership(&self, group: &str, user: &str, during: During) -> Owed {
        let members = self.members.lock().expect("nobody panics");
        let spells = members.get(&(group.to_owned(), user.to_owned())).map_or(&[][..], Vec::as_slice);
        if spells.iter().any(|spell| spell.surely_holds(during)) {
            Owed::Surely
        } else if spells.iter().all(|spell| spell.surely_never_held(during)) {
            Owed::Never
        } else {
            Owed::Perhaps
        }
    }

    /// What is wrong with it: one line each, and none if all is well. `taken` are the contents that connections of each
    /// user took. Without faults, what a pull returned that began after it had been sent comes with no other.
    pub(super) fn faults(&self, taken: &BTreeMap<String, Vec<String>>, faulty: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let pulled = self.pulled.lock().expect("nobody panics");
        let none = Vec::new();
        for sent in self.sent.lock().expect("nobody panics").iter() {
            for (user, taken) in taken {
                let live = taken.iter().filter(|content| **content == sent.content).count();
                let pulls = pulled.get(user).unwrap_or(&none).iter().filter(|(content, _)| *content == sent.content);
                let (later, settled) = pulls.fold((0, 0), |(later, settled), (_, began)| {
                    (later + 1, settled + usize::from(*began > sent.during.to))
                });
                match self.owed(sent, user) {
                    Owed::Surely if sent.accepted && live + later == 0 => faults.push(format!("{user} lost {sent:?}")),
                    Owed::Never if live + later > 0 => faults.push(format!("{user} got {sent:?}")),
                    _ if settled > 1 && !faulty => faults.push(format!("{user} pulled {settled} times {sent:?}")),
                    _ => {}
                }
            }
        }
        faults
    }
}
