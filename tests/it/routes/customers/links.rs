//! `/v1/customers/{customer_id}/links`: several ids of one customer are merged as links arrive, in
//! any order, and separated again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use segmentd::config::{AppConfig, Environment};
use segmentd::domain::event::{CustomerEvent, EventKind};
use segmentd::domain::feature::{CustomerState, FeatureSet};
use segmentd::domain::id::CustomerKey;
use segmentd::domain::identity::{LinkAssertion, MAX_IDS_PER_CUSTOMER, SentinelIds};
use segmentd::domain::wire::segment::{RequestForm, SegmentRequestBody};
use segmentd::domain::wire::{EventLimits, ParsedMessage};
use segmentd::service::clock::TimeSource;
use segmentd::store::customers;
use serde_json::{Value, json};

use crate::identity_oracle::canonical;
use crate::support::pages::all_pages;
use crate::support::random::SeededRandom;
use crate::support::{TestApp, eventually};

fn order(id: &str, who: &Value, value: u32) -> Value {
    let mut message = json!({
        "type": "track", "event": "Order Completed", "messageId": id,
        "timestamp": "2026-01-02T00:00:00Z", "properties": { "sales_value": value },
    });
    message.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
    message
}

fn identify(id: &str, anonymous: &str, user: &str, day: u32) -> Value {
    json!({
        "type": "identify", "messageId": id, "anonymousId": anonymous, "userId": user,
        "timestamp": format!("2026-01-{day:02}T00:00:00Z"),
    })
}

impl TestApp {
    async fn batch(&self, messages: &[Value]) -> Value {
        let (status, answer) =
            self.post("/v1/batch", json!({ "batch": messages }).to_string()).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["rejected"], 0, "{answer}");
        answer
    }

    async fn orders_of<const N: usize>(&self, ids: [&str; N]) -> Value {
        let orders = ids.map(async |id| {
            let (status, customer) = self.get(&format!("/v1/customers/{id}")).await;
            assert_eq!(status, 200, "{customer}");
            customer["features"]["orders"].clone()
        });
        join_all(orders).await.into()
    }

    /// The changes of one id, once the feed has `count` of them: it shows a change only
    /// when no earlier transaction is in progress.
    async fn feed_of(&self, id: &str, count: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        eventually("the feed has the changes of the customer", async || {
            let (_, feed) = self.get("/v1/changes").await;
            let all = feed["changes"].as_array().unwrap().iter();
            lines = all.filter(|line| line["customer_id"] == id).cloned().collect();
            lines.len() >= count
        })
        .await;
        lines
    }

    async fn statuses(&self, id: &str) -> BTreeMap<String, String> {
        let (status, body) = self.get(&format!("/v1/customers/{id}/links")).await;
        assert_eq!(status, 200, "{body}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let links = body["links"].as_array().unwrap().iter();
        links
            .map(|link| {
                let ends = format!("{} {}", text(&link["from_id"]), text(&link["to_id"]));
                (ends, text(&link["status"]))
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_merges_the_anonymous_history() {
    let app = TestApp::start().await;
    let anonymous = json!({ "anonymousId": "a1" });
    app.batch(&[order("m1", &anonymous, 5), order("m2", &anonymous, 7)]).await;
    app.batch(&[order("m3", &json!({ "userId": "u1" }), 11)]).await;
    assert_eq!(app.orders_of(["a1", "u1"]).await, json!([2.0, 1.0]));

    app.batch(&[identify("m4", "a1", "u1", 3)]).await;
    let (_, customer) = app.get("/v1/customers/a1").await;
    assert_eq!(customer["customer_id"], "u1");
    assert_eq!(customer["requested_id"], "a1");
    assert_eq!(customer["merged_ids"], json!(["a1"]));
    assert_eq!(customer["features"]["orders"], 3.0, "{customer}");
    let (_, own) = app.get("/v1/customers/u1").await;
    assert_eq!((own.get("requested_id"), &own["merged_ids"]), (None, &json!(["a1"])));
    let (_, history) = app.get("/v1/customers/a1/history").await;
    assert_eq!((&history["customer_id"], &history["requested_id"]), (&json!("u1"), &json!("a1")));

    // A late event under the old id counts for the merged customer, and the response names
    // it.
    let late = json!({
        "type": "track", "name": "Order Completed", "message_id": "m5", "anonymous_id": "a1",
        "properties": { "sales_value": 3 },
    });
    let (_, answer) = app.post("/v1/events?strict=true", late.to_string()).await;
    assert_eq!(answer["outcomes"][0]["customer_id"], "u1", "{answer}");
    assert_eq!(app.orders_of(["u1"]).await, json!([4.0]));

    // Features of earlier instants are merged too.
    let (_, then) = app.get("/v1/customers/a1/features?as_of=2026-02-01T00:00:00Z").await;
    assert_eq!((&then["customer_id"], &then["replayed_events"]), (&json!("u1"), &json!(4)));
    assert_eq!(then["features"]["orders"], 3.0, "{then}");

    // Every count shows one customer.
    let (_, segments) = app.get("/v1/segments").await;
    let counted = segments["segments"].as_array().unwrap().iter();
    assert_eq!(counted.map(|s| s["customers"].as_i64().unwrap()).sum::<i64>(), 1, "{segments}");
    let (_, table) = app.get("/v1/assignments?format=csv").await;
    assert_eq!(table.as_str().unwrap().lines().count(), 2, "{table}");
    assert_eq!(customers::count(app.db.read()).await.unwrap(), 1);

    // Another user at the same device stays a separate customer.
    app.batch(&[identify("m6", "a1", "u2", 4), order("m7", &json!({ "userId": "u2" }), 2)]).await;
    assert_eq!(app.orders_of(["u1", "u2"]).await, json!([4.0, 1.0]));
    let links = [("a1 u1", "applied"), ("a1 u2", "superseded")];
    let links = links.map(|(ends, status)| (ends.to_owned(), status.to_owned()));
    assert_eq!(app.statuses("u1").await, BTreeMap::from(links));
    let (_, listed) = app.get("/v1/customers/u1/links").await;
    let paged = all_pages(&app, "/v1/customers/u1/links?", "links", 1).await;
    assert_eq!(json!(paged), listed["links"]);
    let counted = "segmentd_identity_links_total";
    assert_eq!(app.metric(&format!("{counted}{{outcome=\"applied\"}}")).await, 1);
    assert_eq!(app.metric(&format!("{counted}{{outcome=\"superseded\"}}")).await, 1);
    app.stop().await;
}

/// A customer's id in the place of the anonymous id merges no customers, in any order of
/// arrival.
#[tokio::test(flavor = "multi_thread")]
async fn two_known_customers_are_merged_by_alias_alone() {
    let app = TestApp::start().await;
    // The slip comes after both customers are known: said in the verdict.
    let [ada, bob] = ["ada", "bob"].map(|id| json!({ "userId": id }));
    app.batch(&[order("m1", &ada, 5), order("m2", &bob, 7)]).await;
    let answer = app.batch(&[identify("m3", "ada", "bob", 3)]).await;
    let warning = &answer["warnings"][0]["warnings"][0];
    assert_eq!(warning["field"], "anonymousId", "{answer}");
    assert!(warning["problem"].as_str().unwrap().starts_with("was not linked"), "{answer}");
    assert_eq!(app.orders_of(["ada", "bob"]).await, json!([1.0, 1.0]));

    // Or before: the link ends, and the states are those without it.
    app.batch(&[order("m4", &json!({ "anonymousId": "cleo" }), 5)]).await;
    app.batch(&[identify("m5", "cleo", "dan", 3)]).await;
    assert_eq!(app.orders_of(["dan"]).await, json!([1.0]));
    app.batch(&[order("m6", &json!({ "userId": "cleo" }), 5)]).await;
    assert_eq!(app.orders_of(["cleo", "dan"]).await, json!([2.0, 0.0]));
    assert_eq!(app.statuses("dan").await, BTreeMap::new());
    // Or in one request.
    let together = [order("m7", &json!({ "userId": "eve" }), 5), identify("m8", "eve", "fay", 3)];
    app.batch(&together).await;
    assert_eq!(app.orders_of(["eve", "fay"]).await, json!([1.0, 0.0]));
    let counted = "segmentd_identity_links_total";
    assert_eq!(app.metric(&format!("{counted}{{outcome=\"refused\"}}")).await, 2);
    assert_eq!(app.metric(&format!("{counted}{{outcome=\"ended\"}}")).await, 1);

    // An alias says that both are one customer, whatever else was sent.
    let alias = json!({
        "type": "alias", "messageId": "m9", "previousId": "ada", "userId": "bob",
        "timestamp": "2026-01-04T00:00:00Z",
    });
    let answer = app.batch(&[alias]).await;
    assert_eq!(answer.get("warnings"), None, "{answer}");
    app.batch(&[order("m10", &ada, 1), identify("m11", "ada", "bob", 2)]).await;
    let (_, bob) = app.get("/v1/customers/ada").await;
    assert_eq!((&bob["customer_id"], &bob["features"]["orders"]), (&json!("bob"), &json!(3.0)));
    let applied = ("ada bob".to_owned(), "applied".to_owned());
    assert_eq!(app.statuses("bob").await, BTreeMap::from([applied]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_link_leaves_no_trace_in_the_states() {
    let app = TestApp::start().await;
    let anonymous = json!({ "anonymousId": "a1" });
    let before = [
        order("m1", &anonymous, 5),
        order("m2", &json!({ "userId": "u1" }), 7),
        order("m3", &json!({ "userId": "u1" }), 9),
    ];
    app.batch(&before).await;
    let apart = app.states_digest().await;
    app.batch(&[identify("m4", "a1", "u1", 3)]).await;
    assert_ne!(app.states_digest().await, apart);

    let path = |customer: &str, from: &str| format!("/v1/customers/{customer}/links/{from}");
    for (customer, from) in [("u1", "u1"), ("u1", "a2"), ("nobody", "a1")] {
        assert_eq!(app.delete(&path(customer, from)).await.0, 404, "{customer} {from}");
    }
    let (status, told_apart) = app.delete(&path("u1", "a1")).await;
    assert_eq!(status, 200, "{told_apart}");
    let end = |id: &str| json!({ "id": id, "customer_id": id });
    assert_eq!(told_apart, json!({ "from": end("a1"), "to": end("u1") }));
    assert_eq!(app.orders_of(["a1", "u1"]).await, json!([1.0, 2.0]));
    assert_eq!(app.delete(&path("u1", "a1")).await.0, 404);

    // The change feed shows the merge and the separation.
    let lines = app.feed_of("a1", 3).await;
    let [first, merged, back] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&first["previous"], first.get("merged_into")), (&Value::Null, None));
    assert_eq!(merged["merged_into"], "u1");
    assert_eq!(merged["previous"]["segment_id"], first["segment_id"]);
    assert_eq!((&back["previous"], back.get("merged_into")), (&Value::Null, None));

    // Neither a repeated nor a late event restores the link; a new one does.
    let again = app.batch(&[identify("m4", "a1", "u1", 3), identify("m5", "a1", "u1", 2)]).await;
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(1), &json!(1)));
    assert_eq!(app.orders_of(["a1", "u1"]).await, json!([1.0, 2.0]));
    let removed = ("a1 u1".to_owned(), "removed".to_owned());
    assert_eq!(app.statuses("a1").await, BTreeMap::from([removed]));
    let anew = json!({
        "type": "identify", "message_id": "m6", "customer_id": "u1", "anonymous_id": "a1",
        "timestamp": TimeSource::System.now().plus_millis(60_000).to_string(),
    });
    assert_eq!(app.post("/v1/events", anew.to_string()).await.0, 200);
    assert_eq!(app.orders_of(["a1"]).await, json!([3.0]));

    // An id without events leaves nothing behind, and the next link in time replaces a
    // removed one.
    app.batch(&[identify("m7", "a9", "u1", 3), identify("m8", "a9", "u2", 4)]).await;
    let (_, told_apart) = app.delete(&path("u1", "a9")).await;
    assert_eq!(told_apart["from"], json!({ "id": "a9", "customer_id": "u2" }));
    assert_eq!(app.delete(&path("u2", "a9")).await.0, 200);
    assert_eq!(app.get("/v1/customers/a9").await.0, 404);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_id_merges_a_bounded_number_of_ids() {
    let app = TestApp::start().await;
    let devices = MAX_IDS_PER_CUSTOMER + 20;
    let output = |device: usize| {
        let mut message = identify(&format!("m{device}"), &format!("d{device:03}"), "terminal", 1);
        message["timestamp"] =
            json!(format!("2026-01-01T00:{:02}:{:02}Z", device / 60, device % 60));
        message
    };
    // The earliest links arrive last, so that later ones are displaced.
    let messages: Vec<Value> = (0..devices).rev().map(output).collect();
    for some in messages.chunks(50) {
        app.batch(some).await;
    }
    let (_, terminal) = app.get("/v1/customers/terminal").await;
    let merged: Vec<_> = terminal["merged_ids"].as_array().unwrap().iter().collect();
    assert_eq!(merged.len(), MAX_IDS_PER_CUSTOMER - 1);
    assert!(merged.iter().all(|id| id.as_str().unwrap() < "d099"), "{terminal}");
    // One more link to a full customer changes nothing.
    app.batch(&[identify("late", "d900", "terminal", 2)]).await;
    assert!(app.metric("segmentd_identity_links_total{outcome=\"limit_reached\"}").await > 0);
    assert_eq!(app.get("/v1/customers/d900").await.0, 404);
    app.stop().await;
}

/// Events and links over a few ids, many at the same instant.
fn messages(world: u64, draw: &mut SeededRandom, count: u64) -> Vec<Value> {
    let anyone = |draw: &mut SeededRandom| match draw.below(3) {
        0 => format!("w{world}-u{}", draw.below(4)),
        _ => format!("w{world}-a{}", draw.below(8)),
    };
    let message = |number| {
        let mut message = match draw.below(8) {
            0 => json!({ "type": "identify", "anonymousId": anyone(draw), "userId": anyone(draw) }),
            1 => json!({ "type": "alias", "previousId": anyone(draw), "userId": anyone(draw) }),
            2 => json!({
                "type": "identify", "userId": anyone(draw), "traits": { "age": draw.below(70).to_string() },
            }),
            _ => json!({
                "type": "track", "event": "Order Completed", "anonymousId": anyone(draw),
                "properties": { "sales_value": f64::from(draw.number(9000)) / 7.0, "store_id": draw.below(9).to_string() },
            }),
        };
        message["messageId"] = json!(format!("w{world}-{number}"));
        message["timestamp"] = json!(format!("2026-01-01T00:00:{:02}Z", draw.below(40)));
        message
    };
    (0..count).map(message).collect()
}

/// The messages as segmentd parses them.
fn read(features: &FeatureSet, messages: &[Value]) -> Vec<ParsedMessage> {
    let limits = EventLimits {
        max_future_millis: 0,
        max_property_depth: 8,
        max_event_bytes: 32_768,
        sentinel_ids: SentinelIds::default(),
    };
    let body = json!({ "batch": messages }).to_string();
    let body = SegmentRequestBody::parse(body.as_bytes(), RequestForm::Batch, 1000).unwrap();
    let read = body.read(TimeSource::System.now(), &limits, || None).map(Result::unwrap);
    read.map(|read| ParsedMessage {
        event: features.validate_event(read.event).unwrap().event,
        ..read
    })
    .collect()
}

/// The replay of the events of each customer, under all of its ids.
fn expected(
    features: &FeatureSet,
    messages: &[ParsedMessage],
    removed: &BTreeSet<(String, String)>,
) -> BTreeMap<String, Vec<u8>> {
    let named = messages.iter().filter(|message| !message.is_anonymous);
    let known: BTreeSet<&CustomerKey> = named.map(|message| &message.event.customer).collect();
    let links = messages.iter().filter_map(|ParsedMessage { event, link, .. }| {
        Some(LinkAssertion {
            is_public: false,
            asserted_at: event.timestamp,
            message_id: event.message_id.clone(),
            link: link.clone()?,
            is_alias: event.kind == EventKind::Alias,
        })
    });
    let links = links.filter(|LinkAssertion { link, is_alias, .. }| {
        (*is_alias || !known.contains(&link.from))
            && !removed.contains(&(link.from.to_string(), link.to.to_string()))
    });
    let kept = canonical(&links.collect::<Vec<_>>(), MAX_IDS_PER_CUSTOMER);
    let mut of_customer = BTreeMap::<String, Vec<&CustomerEvent>>::new();
    for ParsedMessage { event, .. } in messages {
        let id = event.customer.to_string();
        of_customer.entry(kept.get(&id).cloned().unwrap_or(id)).or_default().push(event);
    }
    let state =
        |events: Vec<&CustomerEvent>| CustomerState::replay(features, events).to_bytes(features);
    of_customer.into_iter().map(|(customer, events)| (customer, state(events))).collect()
}

async fn stored(app: &TestApp, world: u64) -> BTreeMap<String, Vec<u8>> {
    let states: Vec<_> = customers::stream_states(app.db.read()).try_collect().await.unwrap();
    let states = states.into_iter().map(|stored| (stored.customer.to_string(), stored.state));
    states.filter(|(customer, _)| customer.starts_with(&format!("w{world}-"))).collect()
}

#[track_caller]
fn same(stored: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>, world: u64) {
    assert_eq!(
        stored.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "world {world}"
    );
    for (customer, state) in stored {
        assert!(*state == expected[customer], "the state of {customer}");
    }
}

/// Sends each message once or twice, by several writers to two replicas, while links are
/// removed. Returns the removed links.
async fn send(apps: &[&TestApp; 2], messages: &[Value], seed: u64) -> BTreeSet<(String, String)> {
    let mut draw = SeededRandom(seed);
    let mut parts = vec![Vec::new(); 6];
    for message in messages {
        for _ in 0..=draw.below(2) {
            parts[usize::try_from(draw.below(6)).unwrap()].push(message.clone());
        }
    }
    let writers = parts.into_iter().zip(seed..).map(|(mut part, seed)| async move {
        let mut draw = SeededRandom(seed);
        draw.shuffle(&mut part);
        let mut removed = Vec::new();
        let mut rest = part.as_slice();
        while !rest.is_empty() {
            let size = usize::try_from(1 + draw.below(9)).unwrap().min(rest.len());
            let app = apps[usize::try_from(draw.below(2)).unwrap()];
            app.batch(&rest[..size]).await;
            rest = &rest[size..];
            if draw.below(8) == 0 {
                let id = part[usize::try_from(draw.below(part.len() as u64)).unwrap()].clone();
                let id = id["anonymousId"].as_str().unwrap_or("nobody").to_owned();
                let (status, answer) = app.delete(&format!("/v1/customers/{id}/links/{id}")).await;
                assert!(matches!(status, 200 | 404), "{answer}");
                if status == 200 {
                    let end = |end: &str| answer[end]["id"].as_str().unwrap().to_owned();
                    removed.push((end("from"), end("to")));
                }
            }
        }
        removed
    });
    join_all(writers).await.into_iter().flatten().collect()
}

/// For any order, batches, writers and repetitions, each state is the replay of the events
/// of its customer, and the customers are the components of the links that were not
/// removed.
#[tokio::test(flavor = "multi_thread")]
async fn states_are_the_replay_of_all_ids_of_a_customer() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    let config = AppConfig::load_from(None, &Environment::default(), &[]).unwrap();
    let features = segmentd::app::features(&config).unwrap();
    let mut last = (Vec::new(), BTreeSet::new());
    for world in 0..6 {
        let mut draw = SeededRandom(world + 100);
        let messages = messages(world, &mut draw, 160);
        let mut removed = send(&[&one, &two], &messages, world * 10).await;
        let read = read(&features, &messages);
        same(&stored(&one, world).await, &expected(&features, &read, &removed), world);

        // Without concurrent writers, one link after the other, until none is left.
        for id in 0..8 {
            let id = format!("w{world}-a{id}");
            let (status, answer) = one.delete(&format!("/v1/customers/{id}/links/{id}")).await;
            if status == 200 {
                let end = |end: &str| answer[end]["id"].as_str().unwrap().to_owned();
                removed.insert((end("from"), end("to")));
            }
            same(&stored(&one, world).await, &expected(&features, &read, &removed), world);
        }
        last = (messages, removed);
    }

    // A full back-fill finds nothing to repair.
    let (ok, output) = one.command(&["backfill", "--all"]).await;
    assert!(ok, "{output}");
    assert!(output.contains("rebuilt 0, ") && output.contains("failed 0"), "{output}");

    // Other features are also computed from the events of all ids.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/segment_features.toml");
    let other = FeatureSet::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let three = one.replica_with(&[("features.file", &file.display().to_string())]).await;
    let (mut messages, removed) = last;
    let more = (0..12).map(|id| match id {
        0..4 => order(&format!("w5-more-{id}"), &json!({ "userId": format!("w5-u{id}") }), 1),
        _ => order(&format!("w5-more-{id}"), &json!({ "userId": format!("w5-a{}", id - 4) }), 1),
    });
    let more: Vec<Value> = more.collect();
    three.batch(&more).await;
    messages.extend(more);
    let read = read(&other, &messages);
    same(&stored(&one, 5).await, &expected(&other, &read, &removed), 5);
    for app in [three, two, one] {
        app.stop().await;
    }
}
