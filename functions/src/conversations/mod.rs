//! The functions for conversations: `/api/history`, `/api/conversation`, `/api/read`.

pub mod get_history;
pub mod list_conversations;
pub mod mark_read;
