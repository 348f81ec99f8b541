//! Section 4: groups.

use serde_json::json;

use crate::world::groups::Group;
use crate::world::scene::{group_of, three_in_a_group};
use crate::world::{BackEnd, Deployment, User};

/// Names that are not valid.
fn bad_names() -> [String; 10] {
    let texts = ["", " ", "\t\n\u{3000}", "\u{200b}\u{3164}", "\u{2800}\u{feff}", "a\nb", "a\0", "a\u{202e}b"];
    let [a, b, c, d, e, f, g, h] = texts.map(str::to_owned);
    [a, b, c, d, e, f, g, h, "x".repeat(101), "群".repeat(101)]
}

/// Ids that are not valid, escaped for a path.
const ILL_FORMED: [&str; 4] = ["a%20b", "%C3%A9", "a%23b", "a%2Fb"];

fn path(group: &str) -> String {
    format!("/api/group/{group}")
}

#[tokio::test]
async fn a_new_group_has_its_creator_as_manager_and_first_member() {
    let alice = User::new("alice");
    let group = alice.create_group("walkers").await;
    let expected = Group {
        id: group.clone(),
        name: "walkers".to_owned(),
        manager_id: alice.id().to_owned(),
        users_id: vec![alice.id().to_owned()],
    };
    assert_eq!(alice.group(&group).await, expected);
}

#[tokio::test]
async fn each_group_has_its_own_id() {
    let alice = User::new("alice");
    let (one, other) = (alice.create_group("walkers").await, alice.create_group("walkers").await);
    assert_ne!(one, other);
    for id in [one, other] {
        assert!((1..=128).contains(&id.len()), "{id}");
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b)), "{id}");
    }
}

#[tokio::test]
async fn a_name_may_have_100_characters_of_any_script() {
    let alice = User::new("alice");
    for name in
        ["群聊", "a & b = c + d % 100?", "😀 \"quoted\" <b>", "👩\u{200d}👧 می\u{200c}خ", &"群".repeat(100), "x"]
    {
        let group = alice.create_group(name).await;
        assert_eq!(alice.group(&group).await.name, name);
    }
}

#[tokio::test]
async fn a_group_without_a_name_is_refused() {
    let alice = User::new("alice");
    alice.post("/api/group", &[]).await.refused(400, "name");
    for name in bad_names() {
        alice.post("/api/group", &[("name", &name)]).await.refused(400, "name");
    }
    assert!(alice.groups().await.is_empty());
}

#[tokio::test]
async fn the_manager_renames_a_group() {
    let (alice, bob, _, group) = three_in_a_group().await;
    alice.rename(&group, "跑步 & more").await.empty();
    assert_eq!(alice.group(&group).await.name, "跑步 & more");
    assert_eq!(bob.group(&group).await.name, "跑步 & more");
    assert_eq!(bob.groups().await[0].name, "跑步 & more");
}

#[tokio::test]
async fn only_the_manager_renames_a_group() {
    let (alice, bob, _, group) = three_in_a_group().await;
    bob.rename(&group, "mine").await.refused(403, "");
    User::new("mallory").rename(&group, "mine").await.refused(403, "");
    assert_eq!(alice.group(&group).await.name, "walkers");
}

#[tokio::test]
async fn renaming_to_a_bad_name_is_refused() {
    let alice = User::new("alice");
    let group = alice.create_group("walkers").await;
    alice.put(&path(&group), &[]).await.refused(400, "name");
    for name in bad_names() {
        alice.rename(&group, &name).await.refused(400, "name");
    }
    assert_eq!(alice.group(&group).await.name, "walkers");
}

#[tokio::test]
async fn every_member_sees_a_group() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    let mut members = [alice.id(), bob.id(), carol.id()];
    members.sort_unstable();
    for member in [&alice, &bob, &carol] {
        let seen = member.group(&group).await;
        assert_eq!((seen.id.as_str(), seen.manager_id.as_str()), (group.as_str(), alice.id()));
        assert_eq!(seen.members(), members);
    }
}

#[tokio::test]
async fn only_members_see_a_group() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let group = alice.create_group("walkers").await;
    bob.see_group(&group).await.refused(403, "");
    alice.invite(&bob, &group).await.empty();
    bob.see_group(&group).await.refused(403, "");
}

#[tokio::test]
async fn the_list_of_groups_is_detailed_by_default() {
    let alice = User::new("alice");
    let mut ids = vec![alice.create_group("walkers").await, alice.create_group("runners").await];
    ids.sort_unstable();
    let mut plain: Vec<String> = alice.get("/api/group", &[("detailed", "false")]).await.json();
    plain.sort_unstable();
    assert_eq!(plain, ids);
    let mut detailed: Vec<Group> = alice.get("/api/group", &[("detailed", "true")]).await.json();
    detailed.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(detailed, alice.groups().await);
    assert_eq!(detailed.iter().map(|group| group.id.as_str()).collect::<Vec<&str>>(), ids);
    assert_eq!(detailed[0], alice.group(&ids[0]).await);
}

#[tokio::test]
async fn the_list_has_only_the_groups_of_the_caller() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let shared = group_of(&alice, &[&bob]).await;
    alice.create_group("without bob").await;
    let listed = bob.groups().await;
    assert_eq!(listed, [alice.group(&shared).await]);
    assert_eq!(alice.groups().await.len(), 2);
}

#[tokio::test]
async fn a_user_without_groups_has_an_empty_list() {
    let alice = User::new("alice");
    assert_eq!(alice.get("/api/group", &[]).await.ok().body, "[]");
    assert_eq!(alice.get("/api/group", &[("detailed", "false")]).await.ok().body, "[]");
}

#[tokio::test]
async fn detailed_is_true_or_false() {
    let alice = User::new("alice");
    for value in ["maybe", "", "1", "True"] {
        alice.get("/api/group", &[("detailed", value)]).await.refused(400, "detailed");
    }
}

#[tokio::test]
async fn a_member_leaves_and_the_group_stays() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    bob.leave_group(&group).await.empty();
    bob.see_group(&group).await.refused(403, "");
    assert!(bob.groups().await.is_empty());
    let mut left = [alice.id(), carol.id()];
    left.sort_unstable();
    assert_eq!(alice.group(&group).await.members(), left);
}

#[tokio::test]
async fn an_outsider_cannot_leave() {
    let (_, bob, _, group) = three_in_a_group().await;
    User::new("mallory").leave_group(&group).await.refused(403, "");
    bob.leave_group(&group).await.empty();
    bob.leave_group(&group).await.refused(403, "");
}

/// Asserts that nobody is in the group and that nobody can use it.
async fn assert_dissolved(group: &str, members: &[&User]) {
    let nobody = User::new("nobody");
    for member in members {
        assert!(member.groups().await.is_empty());
        let plain: Vec<String> = member.get("/api/group", &[("detailed", "false")]).await.json();
        assert!(plain.is_empty());
        member.see_group(group).await.refused(403, "");
        member.rename(group, "again").await.refused(403, "");
        member.invite(&nobody, group).await.refused(403, "");
        member.remove(members[0], group).await.refused(403, "");
        member.leave_group(group).await.refused(403, "");
    }
}

#[tokio::test]
async fn the_manager_leaving_dissolves_the_group() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.leave_group(&group).await.empty();
    assert_dissolved(&group, &[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn the_manager_removing_themself_dissolves_the_group() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.remove(&alice, &group).await.empty();
    assert_dissolved(&group, &[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn a_group_of_one_can_be_dissolved() {
    let alice = User::new("alice");
    let group = alice.create_group("alone").await;
    alice.leave_group(&group).await.empty();
    assert_dissolved(&group, &[&alice]).await;
}

#[tokio::test]
async fn dissolving_one_group_leaves_the_others() {
    let (alice, bob) = (User::new("alice"), User::new("bob"));
    let (one, other) = (group_of(&alice, &[&bob]).await, group_of(&alice, &[&bob]).await);
    alice.leave_group(&one).await.empty();
    assert_eq!(bob.groups().await, [alice.group(&other).await]);
}

#[tokio::test]
async fn the_manager_removes_a_member() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    alice.remove(&bob, &group).await.empty();
    bob.see_group(&group).await.refused(403, "");
    assert!(bob.groups().await.is_empty());
    let mut left = [alice.id(), carol.id()];
    left.sort_unstable();
    assert_eq!(carol.group(&group).await.members(), left);
}

#[tokio::test]
async fn only_the_manager_removes_a_member() {
    let (alice, bob, carol, group) = three_in_a_group().await;
    bob.remove(&carol, &group).await.refused(403, "");
    bob.remove(&alice, &group).await.refused(403, "");
    bob.remove(&bob, &group).await.refused(403, "");
    User::new("mallory").remove(&carol, &group).await.refused(403, "");
    assert_eq!(alice.group(&group).await.users_id.len(), 3);
}

#[tokio::test]
async fn removing_an_outsider_changes_nothing() {
    let (alice, .., group) = three_in_a_group().await;
    let before = alice.group(&group).await;
    let stranger = User::new("stranger");
    alice.remove(&stranger, &group).await.empty();
    assert_eq!(alice.group(&group).await, before);
    alice.bring(&stranger, &group).await;
    alice.remove(&stranger, &group).await.empty();
    alice.remove(&stranger, &group).await.empty();
    assert_eq!(alice.group(&group).await.members(), before.members());
}

#[tokio::test]
async fn removing_needs_a_valid_user_id() {
    let (alice, .., group) = three_in_a_group().await;
    for ill_formed in ["", "a b", "a/b", &"x".repeat(129)] {
        alice.delete(&path(&group), &[("userId", ill_formed)]).await.refused(400, "userId");
    }
    assert_eq!(alice.group(&group).await.users_id.len(), 3);
}

#[tokio::test]
async fn a_misplaced_user_id_does_not_dissolve_the_group() {
    let (alice, bob, _, group) = three_in_a_group().await;
    let call = || alice.call(reqwest::Method::DELETE, &path(&group));
    for (body, named) in [
        (json!({"userId": bob.id()}).to_string(), "userId"),
        (json!({"data": {"userId": bob.id()}}).to_string(), "userId"),
        (json!([bob.id()]).to_string(), "userId"),
        (format!("userId={}", bob.id()), "userId"),
        ("null".to_owned(), "userId"),
        ("{".to_owned(), "userId"),
    ] {
        call().body("application/json", &body).send().await.refused(400, named);
        call().param("userId", bob.id()).body("application/json", &body).send().await.refused(400, named);
    }
    for name in ["userid", "UserId", "userId[]", "userId[0]", "user_id", "user", "id", "memberId", "_"] {
        call().param(name, bob.id()).send().await.refused(400, "userId");
    }
    assert_eq!(alice.group(&group).await.users_id.len(), 3);
    for body in ["{}", " ", "\u{feff}{ }"] {
        call().param("userId", bob.id()).body("application/json", body).send().await.empty();
    }
    assert_eq!(alice.group(&group).await.users_id.len(), 2);
    call().body("application/json", "{}").send().await.empty();
    assert!(alice.groups().await.is_empty());
}

#[tokio::test]
async fn an_ill_formed_group_id_is_refused() {
    let alice = User::new("alice");
    let long = "x".repeat(129);
    // A gateway may unescape the slash and find no route.
    let is_routed = |id: &&str| !(Deployment::is_elsewhere() && id.contains("%2F"));
    for id in ILL_FORMED.into_iter().chain([long.as_str()]).filter(is_routed) {
        alice.get(&path(id), &[]).await.refused(400, "groupId");
        alice.put(&path(id), &[("name", "n")]).await.refused(400, "groupId");
        alice.delete(&path(id), &[]).await.refused(400, "groupId");
    }
}

#[tokio::test]
async fn a_403_does_not_tell_whether_a_group_exists() {
    let (alice, mallory) = (User::new("alice"), User::new("mallory"));
    let real = alice.create_group("walkers").await;
    let unreal = format!("{real}x");
    let (seen, unseen) = (mallory.see_group(&real).await, mallory.see_group(&unreal).await);
    assert_eq!(seen.refused(403, ""), unseen.refused(403, ""));
    let (seen, unseen) = (mallory.rename(&real, "n").await, mallory.rename(&unreal, "n").await);
    assert_eq!(seen.refused(403, ""), unseen.refused(403, ""));
    let (seen, unseen) = (mallory.leave_group(&real).await, mallory.leave_group(&unreal).await);
    assert_eq!(seen.refused(403, ""), unseen.refused(403, ""));
    let (seen, unseen) = (mallory.remove(&alice, &real).await, mallory.remove(&alice, &unreal).await);
    assert_eq!(seen.refused(403, ""), unseen.refused(403, ""));
    let (seen, unseen) = (mallory.invite(&mallory, &real).await, mallory.invite(&mallory, &unreal).await);
    assert_eq!(seen.refused(403, ""), unseen.refused(403, ""));
}

#[tokio::test]
async fn membership_does_not_depend_on_blocks() {
    let (alice, bob, _, group) = three_in_a_group().await;
    bob.block(&alice).await;
    assert_eq!(bob.group(&group).await.users_id.len(), 3);
    alice.rename(&group, "runners").await.empty();
    assert_eq!(bob.group(&group).await.name, "runners");
    assert_eq!(BackEnd::new().ties(bob.id()).await.blocks, [alice.id()]);
}
