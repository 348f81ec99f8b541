//! The plan of one run: drawn from its seed, and reduced when it fails.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shared::clock::Ms;

pub(super) type User = &'static str;

/// In runs whose seeds leave this remainder by that number, names overflow.
const OVERFLOWING: (u64, u64) = (64, 30);

const USERS: [User; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// A run. The same plan always gives the same run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Whether calls fail and functions are killed. Without faults, more is promised.
    pub(super) faulty: bool,
    /// Whether a state has room for only one missed message by name. Then more messages may be repeated.
    pub(super) crowded: bool,
    /// Whether clients discard what arrives after they have closed or lost their network, as browsers and phones do.
    pub(super) discards: bool,
    /// A user who opens connections in bursts and does not read some of them.
    pub(super) adversary: Option<User>,
    /// Whether a blocked user has filled a log of the first user with the longest contents.
    pub(super) flooded: bool,
    /// How many of a hundred invocations are killed, if calls fail.
    pub(super) kills: u64,
    /// The usual upper limit for the way of a call, and for the way of its answer.
    pub(super) latency: Ms,
    pub(super) users: Vec<User>,
    /// The members of each group. The first is its manager.
    pub(super) groups: Vec<Vec<User>>,
    /// The pairs of friends.
    pub(super) friends: BTreeSet<(User, User)>,
    pub(super) tracks: Vec<Track>,
    pub(super) seed: u64,
}

/// Steps that run one after the other, in parallel with other tracks.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) who: Who,
    pub(super) steps: Vec<Step>,
}

/// The subject of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A device of a user.
    Device(User),
    /// A place where a user reads missed messages.
    Reader(User),
    /// A place where a user reads conversations, and sends and recalls without a connection.
    Caller(User),
    /// The membership of a user in a group.
    Place(usize, User),
    /// The block of the second user by the first.
    Block(User, User),
    /// The friendship of two users.
    Friendship(User, User),
    /// The manager of a group.
    Manager(usize),
    /// The back end.
    BackEnd,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    /// The pause before the step.
    pub(super) pause: Ms,
    pub(super) act: Act,
    /// The seed of all chance in this step. It does not depend on other steps.
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
    /// Open a connection, of version 2 of the protocol or of version 1.
    Connect { second: bool },
    /// Close the connection. Perhaps it dies unnoticed first. Perhaps `$disconnect` is never called.
    Disconnect { dies: bool, told: bool },
    /// Send a message. With a request id, repeat it until it is acknowledged or `tries` are used up.
    Send { to: To, content: String, tries: usize, named: bool },
    /// Send a message by a call. With a request id, repeat it until it is answered or `tries` are used up.
    Write { to: To, content: String, tries: usize, named: bool },
    /// The back end sends a message in the name of a user. With a request id, it repeats it until it is answered or `tries` are
    /// used up.
    Post { from: User, to: To, content: String, tries: usize, named: bool },
    /// The back end closes all connections of a user.
    Kick(User),
    /// Recall the newest own message that the user knows, or any of them, perhaps by two calls at once.
    Recall { newest: bool, twice: bool },
    /// Move the mark of a conversation to a message of it, the newest that the user knows or any of them.
    Mark { with: To, newest: bool },
    /// Read the history of a conversation in at most this many pages.
    Look { with: To, forwards: bool, pages: usize },
    /// List the conversations.
    List,
    /// Pull and drop in one call.
    Take(&'static str),
    /// Pull this many pages, then drop them if `drops` is set.
    Show { kind: &'static str, pages: usize, drops: Drops },
    /// Pull everything after the last message that this reader saw, missed or not.
    Resume,
    /// Block, befriend or join.
    Begin,
    /// Unblock, unfriend or leave.
    End,
    /// The manager removes the user from the group.
    Removed,
    /// Decline an invitation.
    Decline,
    /// The manager leaves: the group is dissolved.
    Dissolve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
        let mut plan = Self::without_back_end(seed);
        if seed % 5 == 4 {
            plan.add_back_end(seed);
        }
        plan
    }

    fn without_back_end(seed: u64) -> Self {
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
            // The SDK times out beyond this.
            latency: draw.of(&[10, 100, 300]),
            users,
            groups,
            friends,
            tracks: Vec::new(),
            seed,
        };
        if seed % OVERFLOWING.0 == OVERFLOWING.1 {
            plan.let_names_overflow(&mut draw);
            return plan;
        }
        let pace = draw.of(&[5, 100, 1_500, 1_500, 10_000, 40_000]);
        match draw.below(12) {
            0..4 => {
                plan.leave_one_away(&mut draw);
                return plan;
            }
            4 | 5 => {
                plan.let_two_fall_out(&mut draw);
                return plan;
            }
            6 => {
                plan.let_one_think_again(&mut draw);
                return plan;
            }
            _ => {}
        }
        // Mostly few tracks, sometimes many.
        let tracks = draw.of(&[2, 3, 3, 4, 4, 5, 6, 8, 14]);
        // At least one device, because only devices send.
        let likely_user = plan.likely_user(&mut draw);
        plan.add_device(&mut draw, pace, likely_user, 0);
        for number in 1..tracks {
            match draw.below(20) {
                0..6 => {
                    let likely_user = plan.likely_user(&mut draw);
                    plan.add_device(&mut draw, pace, likely_user, number);
                }
                6..10 => {
                    let likely_user = plan.likely_user(&mut draw);
                    plan.add_reader(&mut draw, pace, likely_user);
                }
                10 | 11 => plan.add_place(&mut draw, pace),
                12 => plan.add_tie(&mut draw, pace),
                13 | 14 => plan.add_manager(&mut draw, pace),
                _ => {
                    let likely_user = plan.likely_user(&mut draw);
                    plan.add_caller(&mut draw, pace, likely_user, number);
                }
            }
        }
        plan
    }

    /// Adds a track, unless it would conflict with a track of the same subject.
    fn add(&mut self, draw: &mut Draw, pace: Ms, who: Who, acts: Vec<Act>) {
        let shared = matches!(who, Who::Device(_) | Who::Reader(_) | Who::Caller(_));
        if !shared && self.tracks.iter().any(|track| track.who == who) {
            return;
        }
        let mut step = |act| {
            let pause = match draw.below(300) {
                // Longer than the margin of the logs, or longer than a connection lives.
                0..6 => 31_000 + draw.below(20_000),
                6 => 2 * 60 * 60 * 1000 + draw.below(100_000),
                _ => draw.below(pace),
            };
            Step { pause, act, chance: draw.0.next_u64() }
        };
        self.tracks.push(Track { who, steps: acts.into_iter().map(&mut step).collect() });
    }

    /// The first user is mostly away, and reads in several places while their friends keep sending.
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
            let mut acts: Vec<Act> = sends.collect();
            acts.insert(0, Act::Connect { second: draw.one_in(2) });
            self.add(draw, pace, Who::Device(other), acts);
        }
        for number in 0..draw.below(3) {
            let user = draw.of(&self.users.clone());
            self.add_caller(draw, pace, user, 10 + number);
        }
        for _ in 0..draw.number(1, 3) {
            self.add_reader(draw, pace, away);
        }
        // This reader pulls for as long as the others send.
        let takes = vec![Act::Take("all"); draw.number(1, 25)];
        self.add(draw, pace, Who::Reader(away), takes);
        if draw.one_in(3) {
            self.add_device(draw, pace, away, 3);
        }
    }

    /// The first user has connections that take nothing, and reads in several places. Others keep sending to them, mostly
    /// through the queue, so that names find no room and messages of any age are uncovered.
    fn let_names_overflow(&mut self, draw: &mut Draw) {
        let pace = draw.of(&[5_000, 10_000, 20_000]);
        let away = self.users[0];
        (self.crowded, self.faulty, self.adversary) = (true, draw.one_in(2), Some(away));
        self.kills = draw.of(&[5, 10, 30]);
        self.groups = vec![self.users.iter().rev().copied().collect()];
        self.friends.extend(self.users[1..].iter().map(|other| (away, *other)));
        let turns = (0..draw.number(2, 6)).flat_map(|_| {
            let second = draw.one_in(2);
            [Act::Connect { second }, Act::Disconnect { dies: draw.one_in(2), told: draw.one_in(2) }]
        });
        let turns = turns.collect();
        self.add(draw, 6 * pace, Who::Device(away), turns);
        for number in 0..draw.number(2, 3) {
            let other = draw.of(&self.users[1..]);
            let sends = (0..draw.number(6, 14)).map(|step| {
                let to = if draw.one_in(3) { To::User(away) } else { To::Group(0) };
                Act::Send { to, content: format!("{other}-{number}-{step}"), tries: draw.number(1, 4), named: true }
            });
            let acts = std::iter::once(Act::Connect { second: false }).chain(sends).collect();
            self.add(draw, pace, Who::Device(other), acts);
        }
        for _ in 0..draw.number(2, 4) {
            let pulls = (0..draw.number(4, 12)).map(|_| match draw.one_in(3) {
                true => Act::Take("all"),
                false => Act::Show { kind: "all", pages: draw.number(1, 3), drops: draw.of(&DROPS) },
            });
            let pulls = pulls.collect();
            self.add(draw, 2 * pace, Who::Reader(away), pulls);
        }
    }

    /// Two friends write to each other, recall and read what they wrote, while one blocks the other again and again.
    fn let_two_fall_out(&mut self, draw: &mut Draw) {
        let pace = draw.of(&[300, 1_500, 5_000, 20_000]);
        let (one, other) = (self.users[0], self.users[1]);
        self.friends.insert((one, other));
        let blocks = (0..draw.number(2, 8)).map(|turn| if turn % 2 == 0 { Act::Begin } else { Act::End }).collect();
        let who = if draw.one_in(4) { Who::Friendship(one, other) } else { Who::Block(other, one) };
        self.add(draw, 2 * pace, who, blocks);
        self.add_device(draw, pace, one, 0);
        for number in 1..draw.number(2, 4) {
            self.add_caller(draw, pace, one, number as u64);
        }
        for number in 10..draw.number(10, 12) {
            self.add_caller(draw, pace, other, number as u64);
        }
        if draw.one_in(2) {
            self.add_device(draw, pace, other, 20);
        }
        if draw.one_in(3) {
            self.add_reader(draw, pace, other);
        }
    }

    /// The first user repeats sends that fail, and recalls what their history shows, at the same time. The second user marks
    /// back and forth, and leaves and joins a group of the first.
    fn let_one_think_again(&mut self, draw: &mut Draw) {
        let pace = draw.of(&[1_500, 5_000, 20_000]);
        let (one, other) = (self.users[0], self.users[1]);
        (self.faulty, self.kills) = (!draw.one_in(4), draw.of(&[30, 50]));
        self.friends.insert((one, other));
        self.groups = vec![vec![one, other]];
        let sends = (0..draw.number(3, 8)).map(|step| {
            let to = if draw.one_in(3) { To::Group(0) } else { To::User(other) };
            Act::Send { to, content: format!("{one}-0-{step}"), tries: 4, named: true }
        });
        let acts = std::iter::once(Act::Connect { second: true }).chain(sends).collect();
        self.add(draw, pace, Who::Device(one), acts);
        let recalls = (0..draw.number(3, 8)).flat_map(|_| {
            let with = if draw.one_in(3) { To::Group(0) } else { To::User(other) };
            [Act::Look { with, forwards: false, pages: 1 }, Act::Recall { newest: !draw.one_in(4), twice: false }]
        });
        let recalls = recalls.collect();
        self.add(draw, pace, Who::Caller(one), recalls);
        let marks = (0..draw.number(2, 5)).flat_map(|_| {
            let with = if draw.one_in(3) { To::Group(0) } else { To::User(one) };
            [Act::Mark { with, newest: true }, Act::Mark { with, newest: false }, Act::List]
        });
        let marks = marks.collect();
        self.add(draw, pace, Who::Caller(other), marks);
        let turns = (0..draw.number(1, 4)).map(|turn| if turn % 2 == 0 { Act::End } else { Act::Begin }).collect();
        self.add(draw, 2 * pace, Who::Place(0, other), turns);
    }

    /// Returns the first user in at least half of the draws, so that events about one user coincide.
    fn likely_user(&self, draw: &mut Draw) -> User {
        if draw.one_in(2) { self.users[0] } else { draw.of(&self.users) }
    }

    /// Returns a conversation of a user.
    fn likely_address(&self, draw: &mut Draw, user: User) -> To {
        match self.groups.len() as u64 {
            groups if groups > 0 && draw.one_in(2) => To::Group(draw.number(0, groups - 1)),
            _ => {
                let others: Vec<User> = self.users.iter().copied().filter(|other| *other != user).collect();
                To::User(if draw.one_in(2) { others[0] } else { draw.of(&others) })
            }
        }
    }

    fn add_device(&mut self, draw: &mut Draw, pace: Ms, user: User, number: u64) {
        let mut acts = Vec::new();
        // Some devices reconnect often, others send much.
        let (rounds, sends) = if draw.one_in(2) { (draw.number(2, 6), 2) } else { (draw.number(1, 2), 8) };
        let second = draw.one_in(2);
        for round in 0..rounds {
            acts.push(Act::Connect { second });
            for step in 0..draw.below(sends) {
                let to = self.likely_address(draw, user);
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

    fn add_caller(&mut self, draw: &mut Draw, pace: Ms, user: User, number: u64) {
        let acts = (0..draw.number(1, 10)).map(|step| {
            let (with, newest) = (self.likely_address(draw, user), !draw.one_in(3));
            match draw.below(12) {
                0..3 => {
                    let named = !draw.one_in(4);
                    let tries = if named { draw.number(1, 4) } else { 1 };
                    Act::Write { to: with, content: format!("{user}-{number}-w-{step}"), tries, named }
                }
                3..7 => Act::Recall { newest, twice: draw.one_in(4) },
                7 | 8 => Act::Mark { with, newest },
                9 | 10 => Act::Look { with, forwards: draw.one_in(2), pages: draw.number(1, 6) },
                _ => Act::List,
            }
        });
        let acts = acts.collect();
        self.add(draw, pace, Who::Caller(user), acts);
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

    /// The back end sends in the names of users, and closes connections. Its chance is its own, so that the rest of a plan does
    /// not depend on it.
    fn add_back_end(&mut self, seed: u64) {
        let mut draw = Draw(StdRng::seed_from_u64(seed ^ 0xBACE));
        let pace = draw.of(&[100, 1_500, 10_000, 40_000]);
        let acts = (0..draw.number(2, 6)).map(|step| {
            let user = draw.of(&self.users);
            if draw.one_in(3) {
                return Act::Kick(user);
            }
            let group = |draw: &mut Draw| To::Group(draw.number(0, self.groups.len() as u64 - 1));
            let to = match self.groups.is_empty() || draw.one_in(2) {
                true => To::User(draw.of(&self.users)),
                false => group(&mut draw),
            };
            let named = !draw.one_in(3);
            let tries = if named { draw.number(1, 4) } else { 1 };
            Act::Post { from: user, to, content: format!("back-end-{step}"), tries, named }
        });
        let acts = acts.collect();
        self.add(&mut draw, pace, Who::BackEnd, acts);
    }

    fn add_manager(&mut self, draw: &mut Draw, pace: Ms) {
        if !self.groups.is_empty() {
            let group = draw.number(0, self.groups.len() as u64 - 1);
            self.add(draw, pace, Who::Manager(group), vec![Act::Dissolve]);
        }
    }

    /// Smaller plans, each with one reduction: first without a whole track, then without a step, then without a
    /// condition.
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
        let names = if self.crowded { "little room for names" } else { "room for names" };
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
