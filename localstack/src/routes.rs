//! Finds the route of a request in an HTTP API as API Gateway does: the most specific route wins.

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

/// A segment of a path. The variants are in the order of preference.
#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// `{name}`: one segment.
    Variable(String),
    /// `{name+}`: all remaining segments.
    Greedy(String),
    /// `$default`: anything.
    Default,
}

/// The route of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Match<'a> {
    /// The route's key.
    pub(crate) key: &'a str,
    /// The function of the route.
    pub(crate) function: &'a str,
    /// The variables of its path.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Routes {
    /// Parses pairs of a route key and a function. A key is `METHOD /path/{variable}` or `$default`; any other is an
    /// error.
    pub(crate) fn new(routes: &[(String, String)]) -> Result<Self, String> {
        routes.iter().map(|(key, function)| Route::parse(key, function)).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the route for a method and a path that is still percent-encoded.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<Match<'_>> {
        let wanted: Vec<String> = segments(path).map(decode).collect();
        let fits = self.0.iter().filter(|route| route.takes(method, &wanted));
        let best = fits.min_by_key(|route| route.preference())?;
        Some(Match { key: &best.key, function: &best.function, variables: best.variables(&wanted) })
    }
}

impl Route {
    fn parse(key: &str, function: &str) -> Result<Self, String> {
        let (method, segments) = match key.split_once(" /") {
            Some((method, path)) => (method, path.split('/').map(Segment::parse).collect()),
            None if key == "$default" => ("ANY", vec![Segment::Default]),
            None => return Err(format!("{key} is not a route key of an HTTP API")),
        };
        Ok(Self { key: key.to_owned(), method: method.to_owned(), segments, function: function.to_owned() })
    }

    fn takes(&self, method: &str, wanted: &[String]) -> bool {
        let is_long_enough = match self.segments.last() {
            Some(Segment::Greedy(_) | Segment::Default) => self.segments.len() <= wanted.len(),
            _ => self.segments.len() == wanted.len(),
        };
        is_long_enough
            && (self.method == method || self.method == "ANY")
            && self.segments.iter().zip(wanted).all(|(segment, part)| segment.takes(part))
    }

    /// Returns a sort key. The smallest belongs to the most specific route: first by path, then by method.
    fn preference(&self) -> (Vec<u8>, bool) {
        (self.segments.iter().map(Segment::preference).collect(), self.method == "ANY")
    }

    fn variables(&self, wanted: &[String]) -> BTreeMap<String, String> {
        let variable = |(index, segment): (usize, &Segment)| match segment {
            Segment::Variable(name) => Some((name.clone(), wanted[index].clone())),
            Segment::Greedy(name) => Some((name.clone(), wanted[index..].join("/"))),
            Segment::Literal(_) | Segment::Default => None,
        };
        self.segments.iter().enumerate().filter_map(variable).collect()
    }
}

impl Segment {
    fn parse(segment: &str) -> Self {
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => match name.strip_suffix('+') {
                Some(name) => Self::Greedy(name.to_owned()),
                None => Self::Variable(name.to_owned()),
            },
            None => Self::Literal(segment.to_owned()),
        }
    }

    fn takes(&self, part: &str) -> bool {
        match self {
            Self::Literal(literal) => literal == part,
            Self::Variable(_) | Self::Greedy(_) => !part.is_empty(),
            Self::Default => true,
        }
    }

    fn preference(&self) -> u8 {
        match self {
            Self::Literal(_) => 0,
            Self::Variable(_) => 1,
            Self::Greedy(_) => 2,
            Self::Default => 3,
        }
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// Decodes a part of a path.
pub(crate) fn decode(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_among(routes: &[&str], method: &str, path: &str) -> Option<String> {
        let routes: Vec<_> = routes.iter().map(|key| ((*key).to_owned(), (*key).to_owned())).collect();
        let routes = Routes::new(&routes).unwrap();
        let found = routes.find(method, path)?;
        assert_eq!(found.key, found.function);
        Some(format!("{} {:?}", found.key, found.variables))
    }

    fn found(method: &str, path: &str) -> Option<String> {
        found_among(&["GET /a", "ANY /a", "GET /a/{id}", "GET /a/fixed", "DELETE /a/{id}/b/{other}"], method, path)
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
    fn a_request_without_a_matching_route_has_none() {
        for (method, path) in [("GET", "/"), ("GET", "/b"), ("POST", "/a/1"), ("GET", "/a/"), ("GET", "/a/1/2")] {
            assert_eq!(found(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn other_requests_go_to_the_greedy_and_the_default_route() {
        let found = |method, path| {
            found_among(&["$default", "ANY /{proxy+}", "GET /a/{rest+}", "ANY /a/{z}", "GET /a/{id}"], method, path)
        };
        assert_eq!(found("GET", "/a/1").unwrap(), "GET /a/{id} {\"id\": \"1\"}");
        assert_eq!(found("PUT", "/a/1").unwrap(), "ANY /a/{z} {\"z\": \"1\"}");
        assert_eq!(found("GET", "/a/1/2").unwrap(), "GET /a/{rest+} {\"rest\": \"1/2\"}");
        assert_eq!(found("PUT", "/a/1/2").unwrap(), "ANY /{proxy+} {\"proxy\": \"a/1/2\"}");
        assert_eq!(found("GET", "/").unwrap(), "$default {}");
    }

    #[test]
    fn an_invalid_route_key_is_refused() {
        let error = Routes::new(&[("$connect".to_owned(), "f".to_owned())]).unwrap_err();
        assert!(error.contains("$connect"), "{error}");
    }
}
