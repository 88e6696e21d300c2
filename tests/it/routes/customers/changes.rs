//! `GET /v1/changes`: the change feed, by pages, long polling and server-sent events.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use segmentd::domain::id::{CustomerKey, FeatureSetId};
use segmentd::domain::time::Timestamp;
use segmentd::store::customers::assignments::{
    NewAssignmentChange, PreviousAssignment, create_partitions, drop_partitions, record_changes,
};
use segmentd::store::models::feature_sets;
use serde_json::{Value, json};

use crate::support::models::assigned_by_rules;
use crate::support::{NO_AUDIENCES, TestApp, eventually, ndjson, orders};

/// Every change after `after`, read in pages of `limit`, and the cursor behind it.
async fn rest(app: &TestApp, after: Option<&str>, limit: usize) -> (Vec<Value>, String) {
    let mut after = after.map(str::to_owned);
    let mut all = Vec::new();
    loop {
        let from = after.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let (status, page) =
            app.get(&format!("/v1/changes?moves_only=false&limit={limit}{from}")).await;
        assert_eq!(status, 200, "{page}");
        assert_eq!(page["gap"], false);
        all.extend(page["changes"].as_array().unwrap().iter().cloned());
        let next = page["next_cursor"].as_str().unwrap().to_owned();
        if page["more"] == false {
            return (all, next);
        }
        after = Some(next);
    }
}

/// The changes of each customer form a chain: none is missing, doubled or out of order.
/// Returns the last one of each customer.
fn assert_chained(changes: &[Value]) -> HashMap<String, Value> {
    let mut assignment: HashMap<String, Value> = HashMap::new();
    for change in changes {
        let customer = change["customer_id"].as_str().unwrap().to_owned();
        let now = ["segment_id", "segment_name", "model_id", "fallback"]
            .map(|key| (key.to_owned(), change[key].clone()));
        let before = assignment.insert(customer, Value::Object(now.into_iter().collect()));
        assert_eq!(change["previous"], before.unwrap_or_default(), "{change}");
    }
    assignment
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_beside_concurrent_writers_misses_nothing() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    // Enough customers for a training, before the writers start.
    one.post("/v1/events/bulk", ndjson(&orders(120, 0))).await;
    let events = orders(120, 6);
    let (first, second): (Vec<_>, Vec<_>) =
        events.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let post = async |app: &TestApp, events: Vec<(usize, Value)>| {
        for batch in events.chunks(7) {
            let batch: Vec<&Value> = batch.iter().map(|(_, event)| event).collect();
            let (status, answer) = app.post("/v1/events", json!(batch).to_string()).await;
            assert_eq!(status, 200, "{answer}");
        }
    };
    let mut writers = Box::pin(async {
        // Both replicas write to every customer, and both rescore when a model goes live
        // meanwhile.
        tokio::join!(post(&one, first), post(&two, second), one.train());
    });
    let mut followed = Vec::new();
    let mut after = None;
    loop {
        let page = rest(&two, after.as_deref(), 5);
        tokio::select! {
            () = &mut writers => break,
            (changes, next) = page => {
                followed.extend(changes);
                after = Some(next);
            }
        }
    }
    drop(writers);
    let (last, _) = rest(&two, after.as_deref(), 5).await;
    followed.extend(last);

    let assignment = assert_chained(&followed);
    assert_eq!(assignment.len(), 120);
    let (again, _) = rest(&one, None, 1000).await;
    assert_eq!(again, followed);
    for (customer, assignment) in &assignment {
        let (_, stored) = one.get(&format!("/v1/customers/{customer}")).await;
        for key in ["segment_id", "fallback"] {
            assert_eq!(stored[key], assignment[key], "{customer}");
        }
        let (_, history) = one.get(&format!("/v1/customers/{customer}/history?limit=500")).await;
        let of_customer = followed.iter().filter(|change| change["customer_id"] == **customer);
        assert_eq!(history["changes"].as_array().unwrap().len(), of_customer.count());
    }

    // A filter selects the changes into or out of the segment.
    let segment = followed.last().unwrap()["segment_id"].as_str().unwrap();
    let expected: Vec<&Value> = followed
        .iter()
        .filter(|change| change["segment_id"] != change["previous"]["segment_id"])
        .filter(|change| {
            [&change["segment_id"], &change["previous"]["segment_id"]].contains(&&json!(segment))
        })
        .collect();
    for filter in
        [format!("segment_id={segment}"), format!("segment_id={segment}&moves_only=false")]
    {
        let (_, page) = one.get(&format!("/v1/changes?limit=1000&{filter}")).await;
        assert_eq!(page["changes"].as_array().unwrap().iter().collect::<Vec<_>>(), expected);
    }
    let (_, one_only) = one.get(&format!("/v1/changes?limit=1&segment_id={segment}")).await;
    assert_eq!(one_only["changes"][0], *expected[0]);
    assert_eq!(one_only["next_cursor"], expected[0]["cursor"]);
    let (status, problem) = one.get("/v1/changes?segment_id=s99").await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("segment_id")), "{problem}");
    let text = problem["errors"][0]["problem"].as_str().unwrap();
    assert!(text.starts_with("there is no segment `s99`; the segments are `seg_"), "{text}");
    two.stop().await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_reader_is_woken_and_an_invalid_cursor_is_refused() {
    let app = TestApp::start().await;
    let (_, now) = app.get("/v1/changes?cursor=now").await;
    assert_eq!((&now["changes"], &now["more"]), (&json!([]), &json!(false)));
    let next = now["next_cursor"].as_str().unwrap();

    let waiting = format!("/v1/changes?cursor={next}&wait_seconds=60");
    let event = json!({ "type": "track", "name": "Order Completed", "customer_id": "c1" });
    let (woken, _) = tokio::join!(app.get(&waiting), async {
        eventually("the reader waits", async || {
            app.metric("segmentd_change_feed_readers").await == 1
        })
        .await;
        app.post("/v1/events", event.to_string()).await
    });
    let change = &woken.1["changes"][0];
    assert_eq!(change["customer_id"], "c1", "{woken:?}");
    assert_eq!((&change["previous"], &change["fallback"]), (&Value::Null, &json!(true)));
    let (_, none) =
        app.get(&format!("/v1/changes?cursor={}", change["cursor"].as_str().unwrap())).await;
    assert_eq!(none["changes"], json!([]));

    let foreign = "01ffffffffffffffff0000000000000001";
    let check = &segmentd::domain::id::encode_hex(&{
        use sha2::Digest as _;
        let bytes: Vec<u8> = (0..foreign.len() / 2)
            .map(|i| u8::from_str_radix(&foreign[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        sha2::Sha256::digest(bytes)
    })[..4];
    let foreign = format!("{foreign}{check}");
    for (query, field) in [
        ("cursor=xyz", "cursor"),
        (&*format!("cursor={}", &next[..next.len() - 1]), "cursor"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("wait_seconds=61", "wait_seconds"),
    ] {
        let (status, problem) = app.get(&format!("/v1/changes?{query}")).await;
        assert_eq!(status, 422, "{query}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let (status, problem) = app.get(&format!("/v1/changes?cursor={foreign}")).await;
    assert_eq!(status, 410, "{problem}");
    // A waiting reader does not delay the shutdown.
    let (_, now) = app.get("/v1/changes?cursor=now").await;
    let url = format!(
        "{}/v1/changes?wait_seconds=60&cursor={}",
        app.url,
        now["next_cursor"].as_str().unwrap()
    );
    let waiting = reqwest::Client::new().get(url).bearer_auth(&app.key).send();
    let (answer, ()) = tokio::join!(waiting, async {
        eventually("the reader waits", async || {
            app.metric("segmentd_change_feed_readers").await == 1
        })
        .await;
        app.stop().await;
    });
    let page: Value = answer.unwrap().json().await.unwrap();
    assert_eq!(page["changes"], json!([]));
}

/// A stream of server-sent events, event by event.
struct Events {
    bytes:
        std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    text: String,
    /// The offset of the first event that was not returned yet.
    read: usize,
}

impl Events {
    async fn open(app: &TestApp, query: &str, last_id: Option<&str>) -> Self {
        let mut request = reqwest::Client::new()
            .get(format!("{}/v1/changes{query}", app.url))
            .header("accept", "text/event-stream")
            .bearer_auth(&app.key);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { bytes: Box::pin(answer.bytes_stream()), text: String::new(), read: 0 }
    }

    /// Id and data of the next change; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, _)) = self.text[self.read..].split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                let found = field("data: ").map(|data| {
                    assert_eq!(field("event: "), Some("change"));
                    (field("id: ").unwrap().to_owned(), serde_json::from_str(data).unwrap())
                });
                self.read += block.len() + 2;
                if found.is_some() {
                    return found;
                }
            }
            self.text.drain(..std::mem::take(&mut self.read));
            let chunk = self.bytes.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_after_its_last_event_and_ends_with_the_process() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(20, 2))).await;
    let mut stream = Events::open(&app, "?moves_only=false", None).await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(stream.next().await.unwrap());
    }
    drop(stream);
    let last_id = seen.last().unwrap().0.clone();
    // `Last-Event-ID` wins over the query, because it is newer.
    let mut stream = Events::open(&app, "?cursor=now", Some(&last_id)).await;
    let (all, _) = rest(&app, None, 1000).await;
    while seen.len() < all.len() {
        seen.push(stream.next().await.unwrap());
    }
    assert!(seen.iter().all(|(id, change)| change["cursor"] == **id));
    assert_eq!(seen.into_iter().map(|(_, change)| change).collect::<Vec<_>>(), all);

    // Later changes arrive as they happen.
    app.post("/v1/events/bulk", ndjson(&orders(21, 0)[20..])).await;
    assert_eq!(stream.next().await.unwrap().1["customer_id"], "c0020");

    // The stream ends without an error, and before the deadline.
    let ((), end) = tokio::join!(app.stop(), stream.next());
    assert_eq!(end, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_customer_are_listed_in_commit_order() {
    let app = TestApp::start().await;
    let at = Timestamp::from_millis(0);
    let customer: CustomerKey = "c1".parse().unwrap();
    // The later commit has the lower transaction id, because it began to write first.
    let mut later = app.db.begin().await.unwrap();
    feature_sets::insert(&mut later, &FeatureSetId::of(b"any write"), "", at).await.unwrap();
    let mut earlier = app.db.begin().await.unwrap();
    let a = assigned_by_rules("a", at);
    let change = NewAssignmentChange {
        customer: &customer,
        now: &a,
        before: None,
        audiences: &NO_AUDIENCES,
        is_of_audiences_only: false,
    };
    record_changes(&mut earlier, &[change]).await.unwrap();
    earlier.commit().await.unwrap();
    let (_, none) = app.get("/v1/changes").await;
    assert_eq!(none["changes"], json!([]), "a reader would pass by what is still running");
    let before = PreviousAssignment {
        generation: 0,
        is_fallback: true,
        segment_id: "a".into(),
        moved_at: None,
        audiences: Vec::new(),
        audience_version: 0,
    };
    let b = assigned_by_rules("b", at);
    let change = NewAssignmentChange {
        customer: &customer,
        now: &b,
        before: Some(&before),
        audiences: &NO_AUDIENCES,
        is_of_audiences_only: false,
    };
    record_changes(&mut later, &[change]).await.unwrap();
    later.commit().await.unwrap();

    let (changes, _) = rest(&app, None, 10).await;
    assert_eq!(changes.len(), 2);
    assert_eq!(assert_chained(&changes)["c1"]["segment_id"], "b");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_model_alone_is_listed_on_request_only() {
    let app = TestApp::start().await;
    let at = Timestamp::from_millis(0);
    let customer: CustomerKey = "c1".parse().unwrap();
    let mut tx = app.db.begin().await.unwrap();
    let mut previous: Option<PreviousAssignment> = None;
    // The second change has the segment of the first.
    for segment in ["lost", "lost", "at_risk"] {
        let now = assigned_by_rules(segment, at);
        let change = NewAssignmentChange {
            customer: &customer,
            now: &now,
            before: previous.as_ref(),
            audiences: &NO_AUDIENCES,
            is_of_audiences_only: false,
        };
        record_changes(&mut tx, &[change]).await.unwrap();
        previous = Some(PreviousAssignment {
            generation: 0,
            is_fallback: true,
            segment_id: segment.into(),
            moved_at: None,
            audiences: Vec::new(),
            audience_version: 0,
        });
    }
    tx.commit().await.unwrap();
    let (all, _) = rest(&app, None, 10).await;
    assert_eq!(all.len(), 3);
    let moves = json!([all[0], all[2]]);
    for (query, expected) in [
        ("", &moves),
        ("segment_id=lost", &moves),
        ("segment_id=lost&moves_only=false", &moves),
        ("segment_id=at_risk", &json!([all[2]])),
        ("segment_id=champions", &json!([])),
    ] {
        let (_, page) = app.get(&format!("/v1/changes?{query}")).await;
        assert_eq!(page["changes"], *expected, "{query}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_before_a_dropped_partition_reports_a_gap() {
    // Otherwise retention drops the partition of this test by itself, sooner or later.
    let app = TestApp::start_with(&[("history.retention_days", "0")]).await;
    let old = Timestamp::parse("2020-01-15T00:00:00Z").unwrap();
    let customer: CustomerKey = "c1".parse().unwrap();
    let (_, start) = app.get("/v1/changes?cursor=now").await;
    let start = start["next_cursor"].as_str().unwrap();
    let mut tx = app.db.begin().await.unwrap();
    create_partitions(&mut tx, old).await.unwrap();
    let now = assigned_by_rules("a", old);
    let change = NewAssignmentChange {
        customer: &customer,
        now: &now,
        before: None,
        audiences: &NO_AUDIENCES,
        is_of_audiences_only: false,
    };
    record_changes(&mut tx, &[change]).await.unwrap();
    tx.commit().await.unwrap();
    // Waits, because other transactions in progress delay the feed.
    let (_, page) = app.get(&format!("/v1/changes?cursor={start}&wait_seconds=30")).await;
    let behind = page["changes"][0]["cursor"].as_str().unwrap_or_else(|| panic!("{page}"));

    let mut tx = app.db.begin().await.unwrap();
    let before = Timestamp::parse("2021-01-01T00:00:00Z").unwrap();
    assert_eq!(drop_partitions(&mut tx, before).await.unwrap(), 2);
    tx.commit().await.unwrap();
    for (after, gap) in [(start, true), (behind, false)] {
        let (_, page) = app.get(&format!("/v1/changes?cursor={after}")).await;
        assert_eq!((&page["gap"], &page["changes"]), (&json!(gap), &json!([])));
    }
    app.stop().await;
}

/// Changes of 1.5 kB each: far more than the socket buffers hold.
const ALL: usize = 30_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_of_the_stream_leaves_changes_in_postgres() {
    let app = TestApp::start().await;
    let segment = "s".repeat(1000);
    let assignment = assigned_by_rules(&segment, Timestamp::from_millis(0));
    let customers: Vec<CustomerKey> =
        (0..ALL).map(|i| format!("{i:0>200}").parse().unwrap()).collect();
    for batch in customers.chunks(5000) {
        let mut tx = app.db.begin().await.unwrap();
        let changes: Vec<_> = batch
            .iter()
            .map(|customer| NewAssignmentChange {
                customer,
                now: &assignment,
                before: None,
                audiences: &NO_AUDIENCES,
                is_of_audiences_only: false,
            })
            .collect();
        record_changes(&mut tx, &changes).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut stream = Events::open(&app, "?moves_only=false", None).await;
    stream.next().await.unwrap();
    let held_back = app.settled("segmentd_change_feed_changes_total").await;
    assert!(held_back < ALL as u64, "{held_back} changes are on their way");
    // Other requests are answered, and the reader gets every change.
    assert_eq!(app.get("/v1/segments").await.0, 200);
    for _ in 1..ALL {
        stream.next().await.unwrap();
    }
    app.stop().await;
}
