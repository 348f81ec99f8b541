//! The builder of one HTTP request.

use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;

use super::document::Exchange;
use super::{Answer, Api, within};

/// A path whose variables are filled in.
pub(crate) fn filled(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// A request that has not been sent yet.
#[derive(Debug)]
pub(crate) struct Call {
    what: String,
    api: Api,
    method: Method,
    path: String,
    url: Url,
    request: RequestBuilder,
}

impl Call {
    /// A call of `method` at `base` + `path`. The path is used as it is: the caller escapes it.
    pub(crate) fn new(http: &Client, method: Method, base: (Api, &str), path: &str) -> Self {
        let (api, base) = base;
        let url = Url::parse(&format!("{base}{path}")).expect("an address and a path make a URL");
        let request = http.request(method.clone(), url.clone());
        Self { what: format!("{method} {path}"), api, method, path: path.to_owned(), request, url }
    }

    /// Adds a query parameter, even if there is one of that name.
    pub(crate) fn param(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        if name != "access_token" {
            self.what = format!("{} {name}={value}", self.what);
        }
        self
    }

    /// Adds these query parameters.
    pub(crate) fn params(self, params: &[(&str, &str)]) -> Self {
        params.iter().fold(self, |call, (name, value)| call.param(name, value))
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Sets a JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", &body.to_string())
    }

    /// Sets a body of any type.
    pub(crate) fn body(mut self, content_type: &str, body: &str) -> Self {
        self.request = self.request.body(body.to_owned());
        self.header("content-type", content_type)
    }

    /// Sends the request, waits for the whole answer, and asserts that the documents describe it.
    pub(crate) async fn send(self) -> Answer {
        let what = self.what;
        let exchange = async {
            let (client, request) = self.request.build_split();
            let mut request = request.unwrap_or_else(|why| panic!("{what} is a request: {why}"));
            *request.url_mut() = self.url.clone();
            let sent = request.body().and_then(|body| body.as_bytes()).map(<[u8]>::to_vec);
            let response = client.execute(request).await.unwrap_or_else(|why| panic!("{what}: no answer: {why:?}"));
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.text().await.unwrap_or_else(|why| panic!("{what}: no whole body: {why:?}"));
            let answer = Answer { what: what.clone(), status, headers, body };
            let (method, path, url) = (self.method.as_str(), self.path.as_str(), &self.url);
            let exchange = Exchange { method, path, url, body: sent.as_deref(), answer: &answer };
            self.api.holds(&exchange).unwrap_or_else(|why| panic!("{what}: not as described: {why}\n{answer:?}"));
            answer
        };
        within(&format!("an answer to {what}"), exchange).await
    }
}
