//! The list of all functions. Tests, documents and the local stack iterate over it.

use crate::back_end::{
    erase_user, export_user, manage_group, manage_user, moderate_message, notification, relationship, send_as,
};
use crate::conversations::{get_history, list_conversations, mark_read};
use crate::delivery::fanout;
use crate::function::{Function, Route, Trigger};
use crate::groups::{create_group, get_group, leave_group, list_groups, mute_member, rename_group, unmute_member};
use crate::invitations::{accept_invite, decline_invite, invite, list_invites};
use crate::messages::{drop_messages, pull_messages, recall_message, send_message};
use crate::sockets::{authorize, connect, disconnect, message, typing};

/// Every function.
pub static ALL: &[&Function] = &[
    &authorize::FUNCTION,
    &connect::FUNCTION,
    &disconnect::FUNCTION,
    &message::FUNCTION,
    &typing::FUNCTION,
    &pull_messages::FUNCTION,
    &drop_messages::FUNCTION,
    &send_message::FUNCTION,
    &recall_message::FUNCTION,
    &get_history::FUNCTION,
    &list_conversations::FUNCTION,
    &mark_read::FUNCTION,
    &create_group::FUNCTION,
    &rename_group::FUNCTION,
    &get_group::FUNCTION,
    &list_groups::FUNCTION,
    &leave_group::FUNCTION,
    &mute_member::FUNCTION,
    &unmute_member::FUNCTION,
    &invite::FUNCTION,
    &list_invites::FUNCTION,
    &accept_invite::FUNCTION,
    &decline_invite::FUNCTION,
    &notification::FUNCTION,
    &relationship::FUNCTION,
    &send_as::FUNCTION,
    &moderate_message::FUNCTION,
    &manage_group::FUNCTION,
    &manage_user::FUNCTION,
    &erase_user::FUNCTION,
    &export_user::FUNCTION,
    &fanout::FUNCTION,
];

/// The routes of the public HTTP API. It is a constant, so that no binary contains the code of every function.
const REST: [Option<Route>; ALL.len()] = {
    let mut routes = [None; ALL.len()];
    let mut next = 0;
    while next < ALL.len() {
        if let Trigger::Rest(route) = ALL[next].trigger {
            routes[next] = Some(route);
        }
        next += 1;
    }
    routes
};

/// The order in which methods are listed.
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

/// Returns the methods of a path of the public HTTP API, as the header `Allow` lists them.
pub(crate) fn methods_of(path: &str) -> String {
    let has = |method: &str| REST.iter().flatten().any(|route| route.path == path && route.method == method);
    METHODS.into_iter().filter(|method| has(method)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_of_a_path_are_listed_in_order() {
        assert_eq!(methods_of("/api/group/{groupId}"), "GET, PUT, DELETE");
        assert_eq!(methods_of("/api/group"), "GET, POST");
        assert_eq!(methods_of("/nothing"), "");
    }

    #[test]
    fn no_two_functions_share_a_name_or_a_route() {
        let mut names: Vec<_> = ALL.iter().map(|function| function.name).collect();
        let mut routes: Vec<_> = ALL.iter().flat_map(|f| f.routes()).map(|route| (route.method, route.path)).collect();
        let counts = (names.len(), routes.len());
        names.sort_unstable();
        names.dedup();
        routes.sort_unstable();
        routes.dedup();
        assert_eq!((names.len(), routes.len()), counts);
    }
}
