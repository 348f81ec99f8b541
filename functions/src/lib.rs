//! The Lambda functions. Each has one file with its name, in the folder of its kind:
//! `sockets` (the WebSocket), `messages`, `conversations`, `groups` and `invitations` (the public REST API), `back_end` (the
//! internal API), and `delivery::fanout` (the queue).
//!
//! Imports run down, in this order: [`mod@serve`] (a Lambda process) · `invoke` (event to call) · [`all`] (the list of
//! functions) · the folders of functions · `delivery` (pushes, jobs) · [`function`] (the definition of a function) ·
//! `call` (the kinds of calls) · [`App`] (the context of a handler) · [`failure`]. No function imports another.

/// glibc's allocator runs more instructions, and takes locks between the threads of the local stack.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod app;
mod call;
mod delivery;
mod invoke;

mod back_end;
mod conversations;
mod groups;
mod invitations;
mod messages;
mod sockets;

pub mod all;
pub mod failure;
pub mod function;
pub mod serve;

pub use all::ALL;
pub use app::App;
pub use failure::Failure;
pub use function::{Function, Route, Service, Trigger};
pub use serve::serve;

pub use back_end::*;
pub use conversations::*;
pub use delivery::fanout;
pub use groups::*;
pub use invitations::*;
pub use messages::*;
pub use sockets::*;
