//! The parameters of the functions for missed messages.

use shared::Result;
use shared::table::MessageKind;

use crate::call::http::Input;

/// How often a pull or a drop is tried if others of the same user come in between.
pub(crate) const MAX_ATTEMPTS: u32 = 16;

/// Reads the parameter `type`: the kinds of messages.
pub(crate) fn kinds(input: &Input) -> Result<Vec<MessageKind>> {
    Ok(match input.choice("type", &["all", "unicast", "multicast"])? {
        "unicast" => vec![MessageKind::Unicast],
        "multicast" => vec![MessageKind::Multicast],
        _ => MessageKind::ALL.to_vec(),
    })
}
