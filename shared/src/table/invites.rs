//! Invitations to groups, stored with the invited users.

use super::calls::Table;
use super::item::{self, Item};
use super::keys;
use crate::clock::Ms;
use crate::error::Result;
use crate::id::{GroupId, InviteId, UserId};

/// How long an invitation lives.
const LIFETIME_MS: Ms = 30 * 24 * 60 * 60 * 1000;

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Its id, which is computed from the group and the user.
    pub id: InviteId,
    /// The group.
    pub group: GroupId,
    /// The last member who invited the user.
    pub invited_by: UserId,
}

impl Table {
    /// Writes an invitation of a user to a group. It replaces an earlier one, so the last member who invites is the inviter.
    pub async fn invite(&self, group: &GroupId, user: &UserId, by: &UserId) -> Result<()> {
        self.put_invitation(self.invitation_item(group, user, by)).await
    }

    /// Writes a decoy instead of an invitation, see `decoy`.
    pub async fn invite_decoy(&self, group: &GroupId, user: &UserId, by: &UserId) -> Result<()> {
        self.put_invitation(self.decoy(self.invitation_item(group, user, by), user, "INVITE", by)).await
    }

    /// Puts the item over any other. An acceptance that is under way may conflict with it for a moment.
    async fn put_invitation(&self, item: Item) -> Result<()> {
        let put = self.put(item);
        self.conditionally("PutItem", || put.clone().send()).await.map(|_| ())
    }

    fn invitation_item(&self, group: &GroupId, user: &UserId, by: &UserId) -> Item {
        let id = InviteId::of(group, user);
        let mut item = keys::invite(user, &id).attributes();
        item.insert("id".to_owned(), item::text(id.as_str()));
        item.insert("groupId".to_owned(), item::text(group.as_str()));
        item.insert("invitedBy".to_owned(), item::text(by.as_str()));
        item.insert("expiresAt".to_owned(), Self::expires_at(self.clock.now_ms(), LIFETIME_MS));
        item
    }

    /// Returns the invitation of that id, if it is addressed to the user.
    pub async fn invitation(&self, user: &UserId, id: &InviteId) -> Result<Option<Invitation>> {
        match self.get(&keys::invite(user, id)).await? {
            Some(item) if self.is_live(&item)? => read(&item).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns the invitations addressed to a user.
    pub async fn invitations(&self, user: &UserId) -> Result<Vec<Invitation>> {
        let items = self.query_all(&keys::all_of_user(user, keys::INVITE)).await?;
        let live = items.iter().filter_map(|item| match self.is_live(item) {
            Ok(false) => None,
            Ok(true) => Some(read(item)),
            Err(error) => Some(Err(error)),
        });
        live.collect()
    }

    /// Removes an invitation, whether it exists or not.
    pub async fn remove_invitation(&self, user: &UserId, id: &InviteId) -> Result<()> {
        let delete = self.delete(&keys::invite(user, id));
        self.conditionally("DeleteItem", || delete.clone().send()).await.map(|_| ())
    }

    /// Removes invitations, whether they exist or not.
    pub async fn remove_invitations(&self, user: &UserId, ids: &[InviteId]) -> Result<()> {
        self.delete_all(ids.iter().map(|id| keys::invite(user, id)).collect()).await
    }
}

fn read(item: &Item) -> Result<Invitation> {
    Ok(Invitation {
        id: item::parsed("id", InviteId::parse(item::read_text(item, "id")?))?,
        group: item::parsed("groupId", GroupId::parse(item::read_text(item, "groupId")?))?,
        invited_by: item::parsed("invitedBy", UserId::parse(item::read_text(item, "invitedBy")?))?,
    })
}
