//! The actions of a user on groups and invitations.

use serde::Deserialize;
use serde_json::json;

use super::{Answer, User};

/// A group as its members see it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Group {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// The user who may rename the group, remove members and dissolve it.
    pub(crate) manager_id: String,
    /// All members.
    pub(crate) users_id: Vec<String>,
}

impl Group {
    /// Its members, sorted.
    pub(crate) fn members(&self) -> Vec<&str> {
        let mut members: Vec<&str> = self.users_id.iter().map(String::as_str).collect();
        members.sort_unstable();
        members
    }
}

/// An invitation as the invitee sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Invitation {
    /// The invitation id, `requestId` in the paths.
    pub(crate) id: String,
    /// The current name of the group.
    pub(crate) group_name: String,
    /// The group.
    pub(crate) group_id: String,
    /// The invitee.
    pub(crate) user_id: String,
    /// The inviter.
    pub(crate) invited_by: String,
}

impl User {
    /// Creates a group and returns its id.
    pub(crate) async fn create_group(&self, name: &str) -> String {
        self.post("/api/group", &[("name", name)]).await.json()
    }

    /// Reads a group.
    pub(crate) async fn group(&self, group: &str) -> Group {
        self.see_group(group).await.json()
    }

    /// Tries to read a group.
    pub(crate) async fn see_group(&self, group: &str) -> Answer {
        self.get(&format!("/api/group/{group}"), &[]).await
    }

    /// All groups of the user, sorted by id.
    pub(crate) async fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.get("/api/group", &[]).await.json();
        groups.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        groups
    }

    /// Renames a group.
    pub(crate) async fn rename(&self, group: &str, name: &str) -> Answer {
        self.put(&format!("/api/group/{group}"), &[("name", name)]).await
    }

    /// Leaves a group. If the user manages it, this dissolves it.
    pub(crate) async fn leave_group(&self, group: &str) -> Answer {
        self.delete(&format!("/api/group/{group}"), &[]).await
    }

    /// Removes a member from a group.
    pub(crate) async fn remove(&self, user: &User, group: &str) -> Answer {
        self.delete(&format!("/api/group/{group}"), &[("userId", user.id())]).await
    }

    /// Invites a user to a group.
    pub(crate) async fn invite(&self, user: &User, group: &str) -> Answer {
        self.post_json("/api/request", &json!({"groupId": group, "userId": user.id()})).await
    }

    /// The invitations to the user, sorted by group.
    pub(crate) async fn invitations(&self) -> Vec<Invitation> {
        let mut invitations: Vec<Invitation> = self.get("/api/request", &[]).await.json();
        invitations.sort_unstable_by(|a, b| a.group_id.cmp(&b.group_id));
        invitations
    }

    /// The only invitation of the user.
    pub(crate) async fn invitation(&self) -> Invitation {
        let invitations = self.invitations().await;
        match &invitations[..] {
            [one] => one.clone(),
            other => panic!("{}: expected one invitation; got {other:?}", self.id()),
        }
    }

    /// Accepts an invitation.
    pub(crate) async fn accept(&self, invitation: &str) -> Answer {
        self.put(&format!("/api/request/{invitation}"), &[]).await
    }

    /// Declines an invitation.
    pub(crate) async fn decline(&self, invitation: &str) -> Answer {
        self.delete(&format!("/api/request/{invitation}"), &[]).await
    }

    /// Brings a user into a group: this user invites, the other accepts.
    pub(crate) async fn bring(&self, user: &User, group: &str) {
        self.invite(user, group).await.empty();
        let invitations = user.invitations().await;
        let invitation = invitations.iter().find(|invitation| invitation.group_id == group);
        let invitation = invitation.unwrap_or_else(|| panic!("{} is invited to {group}", user.id()));
        user.accept(&invitation.id).await.empty();
    }
}
