//! What everybody does in one run: drawn from its seed, and cut down to what matters when it fails.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shared::clock::Ms;

pub(super) type User = &'static str;

const USERS: [User; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// A run: the same plan is always the same run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Whether calls fail and functions are killed. Without that, more is promised.
    pub(super) faulty: bool,
    /// Whether a user can have one message missed by name, and no more. Then more may be repeated.
    pub(super) crowded: bool,
    /// Whether clients discard what arrives once they have closed, or their network has died, as browsers and phones do.
    pub(super) discards: bool,
    /// A user who opens connections in bursts and does not read what some of them are sent.
    pub(super) adversary: Option<User>,
    /// Whether somebody who is blocked has filled a log of the first user's with the longest contents.
    pub(super) flooded: bool,
    /// How many invocations in a hundred are killed, where calls fail.
    pub(super) kills: u64,
    /// How long a call mostly takes on its way, at most, and its answer.
    pub(super) latency: Ms,
    pub(super) users: Vec<User>,
    /// Who is in each group; the first is its manager.
    pub(super) groups: Vec<Vec<User>>,
    /// Who are friends.
    pub(super) friends: BTreeSet<(User, User)>,
    pub(super) tracks: Vec<Track>,
    pub(super) seed: u64,
}

/// Things that are done one after the other, while other tracks go on.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) who: Who,
    pub(super) steps: Vec<Step>,
}

/// Whose things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A device of a user.
    Device(User),
    /// Somewhere that a user reads what he missed.
    Reader(User),
    /// The place of a user in a group.
    Place(usize, User),
    /// Whether the first blocks the second.
    Block(User, User),
    /// Whether two are friends.
    Friendship(User, User),
    /// The manager of a group.
    Manager(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    /// How long to wait before it.
    pub(super) pause: Ms,
    pub(super) act: Act,
    /// What chance decides during this step follows from this, whatever other steps there are.
    pub(super) chance: u64,
}

/// How the pages of a reader are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drops {
    /// Not at all.
    None,
    /// One after the other.
    InOrder,
    /// One after the other, the last first.
    Reversed,
    /// By one call.
    Together,
    /// The last one only.
    Last,
}

const DROPS: [Drops; 8] = [
    Drops::None,
    Drops::InOrder,
    Drops::InOrder,
    Drops::Together,
    Drops::Together,
    Drops::Together,
    Drops::Reversed,
    Drops::Last,
];

#[derive(Debug, Clone)]
pub(super) enum Act {
    Connect,
    /// Close the connection: perhaps it dies first and nobody knows, perhaps nobody is told in the end.
    Disconnect {
        dies: bool,
        told: bool,
    },
    /// Send a message; with a request id it is tried so often until it is acknowledged.
    Send {
        to: To,
        content: String,
        tries: usize,
        named: bool,
    },
    /// Pull and drop at once.
    Take(&'static str),
    /// Pull so many pages, then drop them. If not told to drop, look only.
    Show {
        kind: &'static str,
        pages: usize,
        drops: Drops,
    },
    /// What came since the last message that this reader saw, missed or not.
    Resume,
    /// Block, befriend; join.
    Begin,
    /// Unblock, unfriend; leave.
    End,
    /// Be taken out of the group by its manager.
    Removed,
    /// Decline an invitation.
    Decline,
    /// Leave as its manager: the group is dissolved.
    Dissolve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    User(User),
    Group(usize),
}

struct Draw(StdRng);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn of<T: Copy>(&mut self, among: &[T]) -> T {
        among[usize::try_from(self.below(among.len() as u64)).expect("a small number")]
    }

    fn number(&mut self, from: u64, to: u64) -> usize {
        usize::try_from(from + self.below(to - from + 1)).expect("a small number")
    }
}

impl Plan {
    pub(super) fn drawn(seed: u64) -> Self {
        let mut draw = Draw(StdRng::seed_from_u64(seed));
        let users = USERS[..draw.of(&[2, 2, 2, 3, 3, 4, 5])].to_vec();
        let groups: Vec<Vec<User>> = (0..draw.of(&[0, 0, 1, 1, 1, 2, 2, 3]))
            .map(|_| {
                let mut members: Vec<User> = users.iter().copied().filter(|_| !draw.one_in(4)).collect();
                if members.is_empty() {
                    members.push(users[0]);
                }
                let manager = draw.number(0, members.len() as u64 - 1);
                members.swap(0, manager);
                members
            })
            .collect();
        let pairs = || users.iter().flat_map(|one| users.iter().map(move |other| (*one, *other)));
        let friends: BTreeSet<(User, User)> =
            pairs().filter(|(one, other)| one < other).filter(|_| !draw.one_in(5)).collect();
        let mut plan = Self {
            faulty: seed % 2 == 1,
            crowded: seed % 16 > 13,
            discards: seed % 8 > 3,
            adversary: seed.is_multiple_of(3).then(|| *users.last().expect("there are users")),
            flooded: seed % 400 == 67,
            kills: draw.of(&[5, 10, 30]),
            // No more than what the SDK has patience for.
            latency: draw.of(&[10, 100, 300]),
            users,
            groups,
            friends,
            tracks: Vec::new(),
            seed,
        };
        let pace = draw.of(&[5, 100, 1_500, 1_500, 10_000, 40_000]);
        if draw.one_in(3) {
            plan.leave_one_away(&mut draw);
            return plan;
        }
        // Mostly few things, sometimes many.
        let tracks = draw.of(&[2, 3, 3, 4, 4, 5, 6, 8, 14]);
        // Without a device nothing is sent.
        let somebody = plan.somebody(&mut draw);
        plan.add_device(&mut draw, pace, somebody, 0);
        for number in 1..tracks {
            match draw.below(15) {
                0..6 => {
                    let somebody = plan.somebody(&mut draw);
                    plan.add_device(&mut draw, pace, somebody, number);
                }
                6..10 => {
                    let somebody = plan.somebody(&mut draw);
                    plan.add_reader(&mut draw, pace, somebody);
                }
                10 | 11 => plan.add_place(&mut draw, pace),
                12 => plan.add_tie(&mut draw, pace),
                _ => plan.add_manager(&mut draw, pace),
            }
        }
        plan
    }

    /// Add a track, unless there is one of the same that it would get in the way of.
    fn add(&mut self, draw: &mut Draw, pace: Ms, who: Who, acts: Vec<Act>) {
        let shared = matches!(who, Who::Device(_) | Who::Reader(_));
        if !shared && self.tracks.iter().any(|track| track.who == who) {
            return;
        }
        let mut step = |act| {
            let pause = match draw.below(300) {
                // Longer than the margin of the logs; longer than a connection lives.
                0..6 => 31_000 + draw.below(20_000),
                6 => 2 * 60 * 60 * 1000 + draw.below(100_000),
                _ => draw.below(pace),
            };
            Step { pause, act, chance: draw.0.next_u64() }
        };
        self.tracks.push(Track { who, steps: acts.into_iter().map(&mut step).collect() });
    }

    /// The first user is mostly away, and reads in several places what his friends go on sending.
    fn leave_one_away(&mut self, draw: &mut Draw) {
        let pace = draw.of(&[100, 20_000, 40_000]);
        self.faulty = !draw.one_in(4);
        self.kills = draw.of(&[10, 30, 50]);
        let (away, others) = (self.users[0], self.users[1..].to_vec());
        self.friends.extend(others.iter().map(|other| (away, *other)));
        for number in 0..draw.below(2) + 2 {
            let other = draw.of(&others);
            let sends = (0..draw.below(8) + 4).map(|step| {
                let to = match self.groups.len() as u64 {
                    0 => To::User(away),
                    groups if draw.one_in(3) => To::Group(draw.number(0, groups - 1)),
                    _ => To::User(away),
                };
                Act::Send { to, content: format!("{other}-{number}-{step}"), tries: draw.number(2, 4), named: true }
            });
            let acts = std::iter::once(Act::Connect).chain(sends).collect();
            self.add(draw, pace, Who::Device(other), acts);
        }
        for _ in 0..draw.number(1, 3) {
            self.add_reader(draw, pace, away);
        }
        // One who reads for as long as they send and send again.
        let takes = vec![Act::Take("all"); draw.number(1, 25)];
        self.add(draw, pace, Who::Reader(away), takes);
        if draw.one_in(3) {
            self.add_device(draw, pace, away, 3);
        }
    }

    /// Mostly the first user, so that what concerns him coincides.
    fn somebody(&self, draw: &mut Draw) -> User {
        if draw.one_in(2) { self.users[0] } else { draw.of(&self.users) }
    }

    fn add_device(&mut self, draw: &mut Draw, pace: Ms, user: User, number: u64) {
        let mut acts = Vec::new();
        // Some come and go, others send.
        let (rounds, sends) = if draw.one_in(2) { (draw.number(2, 6), 2) } else { (draw.number(1, 2), 8) };
        for round in 0..rounds {
            acts.push(Act::Connect);
            for step in 0..draw.below(sends) {
                let to = if self.groups.is_empty() || draw.one_in(2) {
                    To::User(self.somebody(draw))
                } else {
                    To::Group(draw.number(0, self.groups.len() as u64 - 1))
                };
                let named = !draw.one_in(4);
                let tries = if named { draw.number(1, 4) } else { 1 };
                acts.push(Act::Send { to, content: format!("{user}-{number}-{round}-{step}"), tries, named });
            }
            if !draw.one_in(4) {
                acts.push(Act::Disconnect { dies: draw.one_in(3), told: !draw.one_in(4) });
            }
        }
        self.add(draw, pace, Who::Device(user), acts);
    }

    fn add_reader(&mut self, draw: &mut Draw, pace: Ms, user: User) {
        let acts = (0..draw.number(1, 9)).map(|_| {
            let kind = draw.of(&["all", "all", "unicast", "multicast"]);
            match draw.below(5) {
                0 | 1 => Act::Take(kind),
                2 | 3 => Act::Show { kind, pages: draw.number(1, 3), drops: draw.of(&DROPS) },
                _ => Act::Resume,
            }
        });
        let acts = acts.collect();
        self.add(draw, pace, Who::Reader(user), acts);
    }

    fn add_place(&mut self, draw: &mut Draw, pace: Ms) {
        if self.groups.is_empty() {
            return;
        }
        let group = draw.number(0, self.groups.len() as u64 - 1);
        let user = draw.of(&self.users);
        if self.groups[group][0] == user {
            return;
        }
        let acts = (0..draw.number(1, 5)).map(|_| match draw.below(6) {
            0..3 => Act::Begin,
            3 => Act::End,
            4 => Act::Removed,
            _ => Act::Decline,
        });
        let acts = acts.collect();
        self.add(draw, pace, Who::Place(group, user), acts);
    }

    fn add_tie(&mut self, draw: &mut Draw, pace: Ms) {
        let user = draw.of(&self.users);
        let other = draw.of(&self.users);
        let acts = (0..draw.number(1, 4)).map(|_| if draw.one_in(2) { Act::End } else { Act::Begin }).collect();
        match (user.cmp(other), draw.one_in(3)) {
            (std::cmp::Ordering::Equal, _) => {}
            (std::cmp::Ordering::Less, true) => self.add(draw, pace, Who::Friendship(user, other), acts),
            _ => self.add(draw, pace, Who::Block(user, other), acts),
        }
    }

    fn add_manager(&mut self, draw: &mut Draw, pace: Ms) {
        if !self.groups.is_empty() {
            let group = draw.number(0, self.groups.len() as u64 - 1);
            self.add(draw, pace, Who::Manager(group), vec![Act::Dissolve]);
        }
    }

    /// The same with fewer things, each as a plan of its own: without whole tracks first, then without steps, and
    /// without what the rest does not need.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut smaller = Vec::new();
        let mut without = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            smaller.push(plan);
        };
        for track in (0..self.tracks.len()).rev() {
            without(&|plan| {
                plan.tracks.remove(track);
            });
        }
        for (track, steps) in self.tracks.iter().map(|track| track.steps.len()).enumerate() {
            for step in (0..steps).rev().filter(|_| steps > 1) {
                without(&|plan| {
                    plan.tracks[track].steps.remove(step);
                });
            }
        }
        if self.faulty {
            without(&|plan| plan.faulty = false);
        }
        if self.crowded {
            without(&|plan| plan.crowded = false);
        }
        if self.adversary.is_some() {
            without(&|plan| plan.adversary = None);
        }
        if self.flooded {
            without(&|plan| plan.flooded = false);
        }
        smaller
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults = if self.faulty { "with faults" } else { "without faults" };
        let names = if self.crowded { "few names" } else { "names enough" };
        writeln!(f, "  {faults}, {names}, calls of up to {} ms; friends {:?}", 6 * self.latency, self.friends)?;
        let (discards, adversary, flooded) = (self.discards, self.adversary, self.flooded);
        writeln!(f, "  clients discard: {discards}; adversary: {adversary:?}; flooded: {flooded}")?;
        for (number, members) in self.groups.iter().enumerate() {
            writeln!(f, "  group {number}: {}", members.join(", "))?;
        }
        for track in &self.tracks {
            writeln!(f, "  {:?}", track.who)?;
            for step in &track.steps {
                writeln!(f, "    after {} ms: {:?}", step.pause, step.act)?;
            }
        }
        Ok(())
    }
}
