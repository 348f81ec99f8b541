//! How messages reach connections: pushes, and the jobs of the queue.

pub mod fanout;

pub(crate) mod erase;
pub(crate) mod events;
pub(crate) mod gate;
pub(crate) mod group_changes;
pub(crate) mod job;
pub(crate) mod kick;
pub(crate) mod make;
pub(crate) mod push;
pub(crate) mod recall;
pub(crate) mod reply;
pub(crate) mod send;
