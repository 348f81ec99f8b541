//! The functions of the WebSocket API.

use crate::function::Function;

pub mod authorize;
pub mod connect;
pub mod disconnect;
pub mod message;
pub mod typing;

/// The functions of this folder.
pub(crate) static FUNCTIONS: &[&Function] =
    &[&authorize::FUNCTION, &connect::FUNCTION, &disconnect::FUNCTION, &message::FUNCTION, &typing::FUNCTION];
