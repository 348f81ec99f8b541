//! The list of all functions, from the lists of the folders. Tests and the local stack iterate over it.

use crate::delivery::fanout;
use crate::function::{Function, Route, Trigger};
use crate::{back_end, conversations, groups, invitations, messages, sockets};

/// The functions of each folder.
const FOLDERS: [&[&Function]; 7] = [
    sockets::FUNCTIONS,
    messages::FUNCTIONS,
    conversations::FUNCTIONS,
    groups::FUNCTIONS,
    invitations::FUNCTIONS,
    back_end::FUNCTIONS,
    &[&fanout::FUNCTION],
];

/// The number of functions.
const COUNT: usize = {
    let (mut count, mut folder) = (0, 0);
    while folder < FOLDERS.len() {
        count += FOLDERS[folder].len();
        folder += 1;
    }
    count
};

/// Every function.
pub static ALL: &[&Function] = &{
    let (mut all, mut count, mut folder) = ([FOLDERS[0][0]; COUNT], 0, 0);
    while folder < FOLDERS.len() {
        let mut next = 0;
        while next < FOLDERS[folder].len() {
            all[count] = FOLDERS[folder][next];
            (count, next) = (count + 1, next + 1);
        }
        folder += 1;
    }
    all
};

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
