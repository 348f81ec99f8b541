//! How messages reach connections: pushes, and the jobs of the queue.

pub mod fanout;

pub(crate) mod job;
pub(crate) mod push;
pub(crate) mod reply;
pub(crate) mod send;
