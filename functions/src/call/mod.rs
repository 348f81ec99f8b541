//! The kinds of calls. Each decodes an event, calls a handler, and encodes the answer.

pub(crate) mod decode;
pub(crate) mod http;
pub(crate) mod internal;
pub(crate) mod rest;
pub(crate) mod socket;
pub(crate) mod sqs;
pub(crate) mod token;
