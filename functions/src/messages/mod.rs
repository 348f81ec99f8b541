//! The functions for missed messages: `/api/message`.

pub mod drop_messages;
pub mod pull_messages;

mod cursor;
mod missed;
mod parameters;
mod reader;
