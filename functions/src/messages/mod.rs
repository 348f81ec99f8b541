//! The functions for messages: `/api/message`.

pub mod drop_messages;
pub mod pull_messages;
pub mod recall_message;
pub mod send_message;

mod cursor;
mod missed;
mod parameters;
mod reader;
