//! The functions for messages: `/api/message`.

use crate::function::Function;

pub mod drop_messages;
pub mod pull_messages;
pub mod recall_message;
pub mod send_message;

mod cursor;
mod missed;
mod parameters;
mod reader;

/// The functions of this folder.
pub(crate) static FUNCTIONS: &[&Function] =
    &[&pull_messages::FUNCTION, &drop_messages::FUNCTION, &send_message::FUNCTION, &recall_message::FUNCTION];
