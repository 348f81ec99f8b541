//! Which route of an HTTP API a request takes, as API Gateway chooses: the most specific one wins.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// The routes of one HTTP API.
#[derive(Debug)]
pub(crate) struct Routes(Vec<Route>);

#[derive(Debug)]
struct Route {
    key: String,
    method: String,
    segments: Vec<Segment>,
    function: String,
}

/// In the order of preference.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Variable(String),
}

/// The route that a request takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match<'a> {
    /// The route's key.
    pub(crate) key: &'a str,
    /// The function that it leads to.
    pub(crate) function: &'a str,
    /// The variables of its path.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Routes {
    /// The routes of these keys, `METHOD /path/{variable}`, each with its function.
    pub(crate) fn new(routes: &[(String, String)]) -> Self {
        let parse = |(key, function): &(String, String)| {
            let (method, path) = key.split_once(' ')?;
            let segments =
                segments(path).map(|segment| match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                    Some(name) => Segment::Variable(name.to_owned()),
                    None => Segment::Literal(segment.to_owned()),
                });
            let (key, function) = (key.clone(), function.clone());
            Some(Route { method: method.to_owned(), segments: segments.collect(), key, function })
        };
        Self(routes.iter().filter_map(parse).collect())
    }

    /// The route for a method and a path as it came, percent-encoding and all.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<Match<'_>> {
        let wanted: Vec<String> = segments(path).map(decode).collect();
        let fits = self.0.iter().filter(|route| {
            (route.method == method || route.method == "ANY")
                && route.segments.len() == wanted.len()
                && route.segments.iter().zip(&wanted).all(|(segment, part)| segment.takes(part))
        });
        let best = fits.min_by_key(|route| (&route.segments, route.method == "ANY"))?;
        let variables = best.segments.iter().zip(wanted).filter_map(|(segment, part)| match segment {
            Segment::Variable(name) => Some((name.clone(), part)),
            Segment::Literal(_) => None,
        });
        Some(Match { key: &best.key, function: &best.function, variables: variables.collect() })
    }
}

impl Segment {
    fn takes(&self, part: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == part,
            Self::Variable(_) => !part.is_empty(),
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// A part of a path, decoded.
pub(crate) fn decode(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> Option<String> {
        let routes = ["GET /a", "ANY /a", "GET /a/{id}", "GET /a/fixed", "DELETE /a/{id}/b/{other}"];
        let routes = Routes::new(&routes.map(|key| (key.to_owned(), key.to_owned())));
        let found = routes.find(method, path)?;
        assert_eq!(found.key, found.function);
        Some(format!("{} {:?}", found.key, found.variables))
    }

    #[test]
    fn the_most_specific_route_wins() {
        assert_eq!(found("GET", "/a").unwrap(), "GET /a {}");
        assert_eq!(found("PATCH", "/a").unwrap(), "ANY /a {}");
        assert_eq!(found("GET", "/a/fixed").unwrap(), "GET /a/fixed {}");
        assert_eq!(found("GET", "/a/x%20y").unwrap(), "GET /a/{id} {\"id\": \"x y\"}");
        assert_eq!(found("GET", "/a/x%2Fy").unwrap(), "GET /a/{id} {\"id\": \"x/y\"}");
        assert_eq!(found("DELETE", "/a/1/b/2").unwrap(), "DELETE /a/{id}/b/{other} {\"id\": \"1\", \"other\": \"2\"}");
    }

    #[test]
    fn what_no_route_fits_has_none() {
        for (method, path) in [("GET", "/"), ("GET", "/b"), ("POST", "/a/1"), ("GET", "/a/"), ("GET", "/a/1/2")] {
            assert_eq!(found(method, path), None, "{method} {path}");
        }
    }
}
