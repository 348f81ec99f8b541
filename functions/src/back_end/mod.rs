//! The functions that the business back end calls: the internal HTTP API, and direct invocations.

pub mod notification;
pub mod relationship;
