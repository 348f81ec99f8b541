//! The kinds of calls. Each takes an event in, calls a handler, and gives an answer out.

pub(crate) mod decode;
pub(crate) mod http;
pub(crate) mod internal;
pub(crate) mod rest;
pub(crate) mod socket;
pub(crate) mod sqs;
pub(crate) mod token;
