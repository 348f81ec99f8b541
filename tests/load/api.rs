//! The calls of the REST API that create groups.

use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::json;

use crate::Failure;
use crate::server::{Server, token, user};

/// The answer to a call. An error does not contain the address, because the address holds a token.
pub(crate) async fn answer(call: RequestBuilder) -> Result<String, Failure> {
    let answer = async { call.send().await?.error_for_status()?.text().await };
    Ok(answer.await.map_err(reqwest::Error::without_url)?)
}

/// Creates a group and returns its id.
pub(crate) async fn create_group(http: &Client, server: &Server, manager: usize) -> Result<String, Failure> {
    let url = format!("http://{}/api/group?name=load&access_token={}", server.public, token(manager)?);
    Ok(serde_json::from_str(&answer(http.post(url)).await?)?)
}

#[derive(Debug, Deserialize)]
struct Invitation {
    id: String,
}

/// A member invites a user, who has no other invitation, and the user accepts.
pub(crate) async fn bring(
    http: &Client,
    server: &Server,
    group: &str,
    member: usize,
    invited: usize,
) -> Result<(), Failure> {
    let requests = format!("http://{}/api/request", server.public);
    let invitation = json!({ "groupId": group, "userId": user(invited) });
    answer(http.post(format!("{requests}?access_token={}", token(member)?)).json(&invitation)).await?;
    let token = token(invited)?;
    let list = answer(http.get(format!("{requests}?access_token={token}"))).await?;
    let list: Vec<Invitation> = serde_json::from_str(&list)?;
    let id = &list.first().ok_or("an invitation did not arrive")?.id;
    answer(http.put(format!("{requests}/{id}?access_token={token}"))).await?;
    Ok(())
}
