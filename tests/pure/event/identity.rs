//! Identity resolution: the ids of one customer depend on the set of links only.

use std::collections::BTreeMap;

use proptest::prelude::*;
use segmentd::domain::id::CustomerKey;
use segmentd::domain::identity::{
    IdentityGraph, IdentityLink, LinkAssertion, LinkOutcome, links_over_limit,
};
use segmentd::domain::time::Timestamp;

use crate::event::identity_oracle::canonical;

fn id(text: &str) -> CustomerKey {
    text.parse().unwrap()
}

fn asserted_link(at: i64, message: usize, from: &str, to: &str) -> LinkAssertion {
    LinkAssertion {
        is_public: false,
        asserted_at: Timestamp::from_millis(at),
        message_id: format!("m{message}").parse().unwrap(),
        link: IdentityLink { from: id(from), to: id(to) },
        is_alias: false,
    }
}

/// The first link of each id, as they are recorded.
fn firsts(all: &[LinkAssertion]) -> Vec<LinkAssertion> {
    let mut firsts = BTreeMap::<CustomerKey, LinkAssertion>::new();
    for assertion in all {
        let first = firsts.entry(assertion.link.from.clone()).or_insert_with(|| assertion.clone());
        if assertion < first {
            *first = assertion.clone();
        }
    }
    firsts.into_values().collect()
}

fn kept(groups: &IdentityGraph) -> BTreeMap<String, String> {
    let kept = |id: &CustomerKey| groups.canonical(id).unwrap().to_string();
    groups.ids().map(|id| (id.to_string(), kept(id))).collect()
}

fn some_links() -> impl Strategy<Value = Vec<LinkAssertion>> {
    let link = (0..4_i64, 0..8_u8, 0..8_u8).prop_filter("two ids", |(_, from, to)| from != to);
    proptest::collection::vec(link, 0..14).prop_map(|links| {
        let link = |(message, (at, from, to)): (usize, (i64, u8, u8))| {
            asserted_link(at, message, &format!("i{from}"), &format!("i{to}"))
        };
        links.into_iter().enumerate().map(link).collect()
    })
}

proptest! {
    #[test]
    fn groups_are_those_of_the_plain_way(
        all in some_links(), most in 1..6_usize, seed in any::<u64>(),
    ) {
        let mut first = firsts(&all);
        let groups = IdentityGraph::from_first_links(first.clone(), most);
        let mut expected = canonical(&all, most);
        // An id that only later links name is a component of its own, and is skipped.
        expected.retain(|id, end| {
            groups.canonical(&id.parse().unwrap()).is_some() || id != end
        });
        prop_assert_eq!(&kept(&groups), &expected);
        for id in groups.ids() {
            let ids = expected.values().filter(|end| **end == expected[id.as_str()]).count();
            prop_assert!(ids <= most);
        }

        // In any order.
        let turn = usize::try_from(seed % 1000).unwrap() % first.len().max(1);
        first.rotate_left(turn);
        prop_assert_eq!(IdentityGraph::from_first_links(first.clone(), most), groups.clone());
        first.reverse();
        prop_assert_eq!(IdentityGraph::from_first_links(first, most), groups);
    }
}

#[test]
fn chains_resolve_to_their_end_and_cycles_are_broken() {
    let chain = [
        asserted_link(1, 1, "a", "u"),
        asserted_link(2, 2, "u", "mail"),
        asserted_link(3, 3, "mail", "a"),
    ];
    let groups = IdentityGraph::from_first_links(chain.to_vec(), 100);
    for known in ["a", "u", "mail"] {
        assert_eq!(groups.canonical(&id(known)), Some(&id("mail")));
    }
    assert_eq!(groups.link_outcome(&id("mail")), Some(LinkOutcome::Cycle));
    assert_eq!(groups.canonical(&id("nobody")), None);
    // Links at one instant are ordered by message id.
    let back = [asserted_link(1, 2, "a", "b"), asserted_link(1, 1, "b", "a")];
    assert_eq!(
        IdentityGraph::from_first_links(back.to_vec(), 100).canonical(&id("b")),
        Some(&id("a"))
    );
}

#[test]
fn a_customer_has_a_bounded_number_of_ids() {
    let devices = (0..5_u8).map(|device| {
        let number = usize::from(device);
        asserted_link(i64::from(device), number, &format!("d{device}"), "u")
    });
    let groups = IdentityGraph::from_first_links(devices.collect(), 4);
    let fates: Vec<_> =
        (0..5).map(|d| groups.link_outcome(&id(&format!("d{d}"))).unwrap()).collect();
    let (followed, full) = (LinkOutcome::Followed, LinkOutcome::LimitReached);
    assert_eq!(fates, [followed, followed, followed, full, full]);
    assert_eq!(groups.canonical(&id("d4")), Some(&id("d4")));
}

#[test]
fn a_link_that_would_connect_too_many_ids_is_refused() {
    let link = |at, from: &str, to: &str| LinkAssertion {
        is_public: false,
        asserted_at: Timestamp::from_millis(at),
        message_id: format!("{from}-{to}").parse().unwrap(),
        link: IdentityLink { from: from.parse().unwrap(), to: to.parse().unwrap() },
        is_alias: false,
    };
    // Two chains of three ids.
    let known = [link(0, "a", "b"), link(0, "b", "c"), link(0, "x", "y"), link(0, "y", "z")];
    let (joins, circle, one_more) = (link(1, "c", "x"), link(2, "c", "a"), link(3, "d", "a"));
    let refused = links_over_limit(&known, &[&one_more, &circle, &joins], 5);
    assert_eq!(refused, [&joins]);
    assert!(links_over_limit(&known, &[&one_more, &circle, &joins], 7).is_empty());
    let refused = links_over_limit(&known, &[&one_more, &circle, &joins], 6);
    assert_eq!(refused, [&one_more]);
}
