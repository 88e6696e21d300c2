//! Properties of fair queueing.

use std::collections::HashMap;

use proptest::prelude::*;
use segmentd::service::limits::round_robin::RoundRobinQueue;

#[test]
fn users_are_served_in_turn() {
    let mut queue = RoundRobinQueue::default();
    for item in 0..3 {
        queue.push("a", ("a", item));
    }
    queue.push("b", ("b", 0));
    let served: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(served, [("a", 0), ("b", 0), ("a", 1), ("a", 2)]);
    assert!(queue.is_empty());
}

proptest! {
    /// No item is lost, and the items of each user keep their order.
    #[test]
    fn every_item_comes_out_once_and_in_its_users_order(
        steps in proptest::collection::vec((0_u8..5, 1_usize..9, 0_u8..4), 0..200),
    ) {
        let mut queue = RoundRobinQueue::default();
        let mut sent: HashMap<u8, Vec<usize>> = HashMap::new();
        let mut taken = Vec::new();
        for (number, (user, cost, action)) in steps.into_iter().enumerate() {
            match action {
                0 => taken.extend(queue.pop()),
                1 => queue.take_within_allowance(cost, |(_, _, cost): &(u8, usize, usize)| *cost, &mut taken),
                _ => {
                    sent.entry(user).or_default().push(number);
                    queue.push(user, (user, number, cost));
                }
            }
        }
        taken.extend(std::iter::from_fn(|| queue.pop()));
        let mut came: HashMap<u8, Vec<usize>> = HashMap::new();
        for (user, number, _) in taken {
            came.entry(user).or_default().push(number);
        }
        prop_assert_eq!(came, sent);
    }

    /// Among users with items, none is served twice before another is served once.
    #[test]
    fn busy_users_are_served_equally_often(counts in proptest::collection::vec(5_usize..20, 2..6)) {
        let mut queue = RoundRobinQueue::default();
        for (user, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                queue.push(user, user);
            }
        }
        let mut served = vec![0_usize; counts.len()];
        for _ in 0..5 * counts.len() {
            served[queue.pop().unwrap()] += 1;
        }
        prop_assert!(served.iter().all(|times| *times == 5), "{:?}", served);
    }
}
