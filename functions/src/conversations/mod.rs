//! The functions for conversations: `/api/history`, `/api/conversation`, `/api/read`.

use crate::function::Function;

pub mod get_history;
pub mod list_conversations;
pub mod mark_read;

/// The functions of this folder.
pub(crate) static FUNCTIONS: &[&Function] =
    &[&get_history::FUNCTION, &list_conversations::FUNCTION, &mark_read::FUNCTION];
