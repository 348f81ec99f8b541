//! The times that the proof rests on, and what must hold between them.
//!
//! `template.yaml` gives every function its `Timeout`; a test holds it against [`FUNCTION_MS`].

use crate::clock::Ms;

/// How long a function may run.
pub const FUNCTION_MS: Ms = 15_000;

/// How far ahead of the clock a connection is stamped. The clocks of two functions differ by less.
pub const STAMP_MS: Ms = 5;

/// The age at which API Gateway closes a connection. An older one counts as closed then, whatever its record says.
pub const MAX_CONNECTION_MS: Ms = 2 * 60 * 60 * 1000;

/// The age at which everything about a message is settled: its log write is over, and the ends of the connections that
/// covered it are recorded. No drop moves the time up to which everything is dropped into this margin.
pub const MARGIN_MS: Ms = 30_000;

/// A message that reaches its log later than this after its id was made is recorded by name, since a pull may have
/// dropped its time. Only a repeated send takes so long.
pub const PROMPT_MS: Ms = 15_000;

/// What a connection counts as not having taken if its client closed it: its last 2 seconds.
pub const CLEAN_MS: Ms = 2_000;

/// What any other ended connection counts as not having taken, at most.
pub const MAX_REDELIVER_MS: Ms = 15_000;

// A log write that is not late is over before a drop passes its time.
const _: () = assert!(PROMPT_MS + FUNCTION_MS <= MARGIN_MS);
// When a drop passes a time, it is known which connections covered it, and how much less their ends leave.
const _: () = assert!(MAX_REDELIVER_MS + FUNCTION_MS <= MARGIN_MS);
const _: () = assert!(CLEAN_MS + FUNCTION_MS <= MARGIN_MS);
// A stamp lies ahead by far less than a function may run.
const _: () = assert!(STAMP_MS < FUNCTION_MS);
// A connection outlives every step of its own handshake.
const _: () = assert!(MARGIN_MS < MAX_CONNECTION_MS);
