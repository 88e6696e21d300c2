//! Properties of the fair share of a bounded resource.

use std::time::Duration;

use proptest::prelude::*;
use segmentd::service::limits::fair_share::{FairShare, ResourceShare};

#[test]
fn one_user_alone_holds_half_and_two_hold_a_third_each() {
    let resource = FairShare::new(120);
    let take_all = |user: &'static str| {
        let mut shares = Vec::new();
        while let Some(share) = resource.try_acquire(user, 1) {
            shares.push(share);
        }
        shares
    };
    let first = take_all("first");
    assert_eq!(first.len(), 60);
    // The second user gets half of the rest.
    let second = take_all("second");
    assert_eq!(second.len(), 30);
    drop(first);
    assert_eq!(take_all("second").len(), 30, "as if it had always been alone");
}

#[test]
fn a_grant_ends_with_the_share_that_holds_it() {
    let resource = FairShare::new(10);
    let mut share = resource.try_acquire("key", 4).expect("within the capacity");
    assert!(!share.try_grow(2), "6 of 10 would be more than is left");
    assert!(share.try_grow(1));
    share.shrink(3);
    assert_eq!((share.amount(), resource.used()), (2, 2));
    drop(share);
    assert_eq!(resource.used(), 0);
    assert!(resource.try_acquire("key", 11).is_none());
}

#[tokio::test]
async fn who_waits_is_admitted_when_something_is_released() {
    let resource = FairShare::new(2);
    let first = resource.acquire("key", 1).await;
    let waiting = resource.acquire("key", 1);
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(20), waiting.as_mut()).await;
    assert!(early.is_err(), "two of two would leave nothing free");
    drop(first);
    assert_eq!(waiting.await.amount(), 1);
}

proptest! {
    /// Five users acquire and release at random: the capacity is never exceeded, and a
    /// sixth user is always admitted.
    #[test]
    fn no_user_excludes_another(
        capacity in 160_usize..400,
        steps in prop::collection::vec((0_u8..5, 1_usize..4, any::<bool>()), 0..300),
    ) {
        let resource = FairShare::new(capacity);
        let mut shares: Vec<ResourceShare<u8>> = Vec::new();
        for (user, amount, is_release) in steps {
            if is_release && !shares.is_empty() {
                shares.remove(usize::from(user) % shares.len());
            } else if let Some(share) = resource.try_acquire(user, amount) {
                shares.push(share);
            }
            let held: usize = shares.iter().map(ResourceShare::amount).sum();
            prop_assert_eq!(held, resource.used());
            prop_assert!(held <= capacity);
            prop_assert!(resource.try_acquire(99, 1).is_some(), "a newcomer finds room");
        }
    }
}
