//! The times on which the proof depends, and the relations between them.
//!
//! `template.yaml` gives every function its `Timeout`. A test compares it with [`FUNCTION_MS`].

use crate::clock::Ms;

/// The longest time that a function may run.
pub const FUNCTION_MS: Ms = 15_000;

/// The time by which a stamp lies ahead of the clock. The clocks of two functions differ by less.
pub const STAMP_MS: Ms = 5;

/// The age at which API Gateway closes a connection. An older one counts as closed, even if no end is recorded.
pub const MAX_CONNECTION_MS: Ms = 2 * 60 * 60 * 1000;

/// The age at which all is settled about a message: its log write has ended, and the ends of the connections that covered
/// it are recorded. `until` of a drop never moves into this margin.
pub const MARGIN_MS: Ms = 30_000;

/// The longest time from making an id until its log write ends. A later message is recorded by name, since a pull may have
/// dropped its time. Only a repeated send takes so long.
pub const PROMPT_MS: Ms = 15_000;

/// The last part of a connection that counts as not taken if its client closed it: 2 seconds.
pub const CLEAN_MS: Ms = 2_000;

/// The longest last part of any other ended connection that counts as not taken.
pub const MAX_REDELIVER_MS: Ms = 15_000;

// A log write that is not late ends before a drop passes its time.
const _: () = assert!(PROMPT_MS + FUNCTION_MS <= MARGIN_MS);
// When a drop passes a time, the ends of the connections that covered it are known, and so is what they took.
const _: () = assert!(MAX_REDELIVER_MS + FUNCTION_MS <= MARGIN_MS);
const _: () = assert!(CLEAN_MS + FUNCTION_MS <= MARGIN_MS);
// A stamp lies ahead by far less than a function may run.
const _: () = assert!(STAMP_MS < FUNCTION_MS);
// A connection outlives every step of its own handshake.
const _: () = assert!(MARGIN_MS < MAX_CONNECTION_MS);
