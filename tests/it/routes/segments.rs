//! `/v1/segments…` and `GET /v1/features`.

use segmentd::domain::time::{MILLIS_PER_DAY, Timestamp};
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::routes::experiments::{CUSTOMERS, two_kinds_of_customers};
use crate::support::{TestApp, eventually, ndjson, orders};

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_listed_with_profile_and_size() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let (status, rules) = app.get("/v1/segments").await;
    assert_eq!((status, &rules["fallback"]), (200, &json!(true)), "{rules}");
    let model = app.train().await["model_id"].clone();
    let (_, live) = app.get("/v1/segments").await;
    assert_eq!((&live["model_id"], &live["fallback"]), (&model, &json!(false)));
    for (answer, has_profile) in [(&rules, false), (&live, true)] {
        let segments = answer["segments"].as_array().unwrap();
        let customers = segments.iter().map(|segment| segment["customers"].as_i64().unwrap());
        assert_eq!(customers.sum::<i64>(), 150, "{answer}");
        assert!(segments.iter().all(|segment| segment["profile"].is_object() == has_profile));
    }
    let segments = live["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 3);
    for profile in segments.iter().map(|segment| &segment["profile"]) {
        let revenue = &profile["revenue"];
        // Too few customers have no revenue that is known well.
        assert_eq!(revenue.is_object(), profile["size"].as_u64().unwrap() >= 30, "{profile}");
        let [low, share, high] =
            ["share_low", "share", "share_high"].map(|key| revenue[key].as_f64());
        assert!(revenue.is_null() || (low < share && share < high), "{profile}");
    }
    for segment in segments {
        assert!(segment["segment_id"].as_str().unwrap().starts_with("seg_"), "{segment}");
        assert!(segment["name"].is_string(), "{segment}");
        let profiled = segment["profile"]["features"].as_array().unwrap();
        assert!(profiled.iter().any(|one| one["feature"] == "recency_days"), "{segment}");
        assert!(profiled.iter().all(|one| one["here"]["missing_share"].is_number()), "{segment}");
        // A typical customer is a row that can be scored, and is in its segment.
        let typical = json!({ "features": segment["profile"]["typical_customer"] });
        let (status, score) = app.post("/v1/score", typical.to_string()).await;
        assert_eq!((status, &score["segment_id"]), (200, &segment["segment_id"]), "{segment}");
        let standouts = segment["profile"]["standouts"].as_array().unwrap();
        for standout in standouts {
            let [low, contrast, high] =
                ["contrast_low", "contrast", "contrast_high"].map(|key| standout[key].as_f64());
            assert!(low.is_some() && low < contrast && contrast < high, "{standout}");
            assert_eq!(standout["mean_here"].is_number(), standout["aspect"] == "value");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_listed_with_their_owners() {
    let app = TestApp::start().await;
    let (status, answer) = app.get("/v1/features").await;
    assert_eq!(status, 200, "{answer}");
    let deployment = app.app.deployments.snapshot();
    assert_eq!(answer["feature_set_id"], deployment.features.id().as_str());
    let features = answer["features"].as_array().unwrap();
    assert_eq!(features.len(), deployment.features.features().len());
    for (feature, declared) in features.iter().zip(deployment.features.features()) {
        assert_eq!(feature["name"], json!(declared.name));
        assert!(feature["owner"].as_str().unwrap().contains('@'), "{feature}");
        assert_eq!(feature["encoding"].is_object(), declared.encoding.is_some(), "{feature}");
    }
    app.stop().await;
}

/// The learned segment that the first customer is in.
async fn first_segment(app: &TestApp) -> String {
    let mut segment = String::new();
    eventually("the first customer is in a learned segment", async || {
        let (_, customer) = app.get("/v1/customers/c0000").await;
        segment.clear();
        segment.push_str(customer["segment_id"].as_str().unwrap());
        segment.starts_with("seg_")
    })
    .await;
    segment
}

async fn change_persona(app: &TestApp, segment: &str, change: Value) -> (u16, Value) {
    app.patch(&format!("/v1/segments/{segment}"), change.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_persona_applies_everywhere_and_over_trainings() {
    let app = TestApp::start().await;
    let replica = app.replica_with(&[("deployment.poll_seconds", "1")]).await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    app.train().await;
    let segment = first_segment(&app).await;
    let (_, before) = app.get(&format!("/v1/segments/{segment}")).await;
    assert_eq!(
        (&before["persona"], &before["standout_changes"]),
        (&Value::Null, &json!([])),
        "{before}"
    );

    let change = json!({
        "name": "Loyal families", "summary": "Shop every week.", "colour": "#1F77B4",
        "strategy": { "messages": ["Thank you"], "budget_note": "2 EUR a customer" },
        "reason": "agreed in the workshop",
    });
    let (status, described) = change_persona(&app, &segment, change).await;
    assert_eq!((status, &described["name"]), (200, &json!("Loyal families")), "{described}");
    let persona = &described["persona"];
    assert_eq!(persona["colour"], "#1f77b4");
    assert_eq!(persona["strategy"]["messages"], json!(["Thank you"]));
    assert_eq!(persona["change"]["reason"], "agreed in the workshop");
    assert_eq!(described["profile"], before["profile"]);

    for served in [&app, &replica] {
        let path = format!("/v1/segments/{segment}");
        eventually("every replica has the name", async || {
            served.get(&path).await.1["name"] == "Loyal families"
        })
        .await;
        let (_, customer) = served.get("/v1/customers/c0000").await;
        assert_eq!(customer["segment_name"], "Loyal families", "{customer}");
    }
    let (_, history) = app.get("/v1/customers/c0000/history").await;
    let mut changes = history["changes"].as_array().unwrap().iter();
    let into = changes.find(|one| one["segment_id"] == json!(segment)).unwrap();
    assert_eq!(into["segment_name"], "Loyal families", "{history}");
    assert_eq!(app.metric("segmentd_outdated_personas").await, 0);

    // The next model keeps the segment, and the segment its name.
    app.train().await;
    let (status, kept) = app.get(&format!("/v1/segments/{segment}")).await;
    assert_eq!((status, &kept["name"]), (200, &json!("Loyal families")), "{kept}");
    assert_eq!(kept["standout_changes"], json!([]));

    let (_, list) = app.get("/v1/segments").await;
    let event = json!({
        "type": "track", "name": "Order Completed", "message_id": "one-more",
        "customer_id": "c0000", "properties": { "sales_value": 10 },
    });
    let (_, accepted) = app.post("/v1/events", event.to_string()).await;
    let score = &accepted["outcomes"][0]["score"];
    let mut listed = list["segments"].as_array().unwrap().iter();
    let named = listed.find(|one| one["segment_id"] == score["segment_id"]).unwrap();
    assert_eq!(score["segment_name"], named["name"], "{accepted}");

    let removed = json!({ "name": null, "reason": "too narrow" });
    let (_, removed) = change_persona(&app, &segment, removed).await;
    assert_eq!(removed["name"], before["name"], "{removed}");
    assert_eq!(removed["persona"]["summary"], "Shop every week.");
    let (_, history) = app.get(&format!("/v1/segments/{segment}/persona/history?limit=1")).await;
    assert_eq!(history["versions"][0]["change"]["reason"], "too narrow", "{history}");
    let cursor = history["next_cursor"].as_str().unwrap();
    let (_, older) =
        app.get(&format!("/v1/segments/{segment}/persona/history?limit=1&cursor={cursor}")).await;
    assert_eq!(older["versions"][0]["name"], "Loyal families", "{older}");
    replica.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_from_training_that_another_segment_was_given_is_called_a_draft() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    app.train().await;
    let segment = first_segment(&app).await;
    let (_, list) = app.get("/v1/segments").await;
    let ids = list["segments"].as_array().unwrap().iter().map(|one| one["segment_id"].as_str());
    let other = ids.flatten().find(|id| *id != segment).unwrap();
    let drafted = app.get(&format!("/v1/segments/{segment}")).await.1["name"].clone();
    for (id, name) in [(&*segment, json!("Friends")), (other, drafted.clone())] {
        let (status, answer) =
            change_persona(&app, id, json!({ "name": name, "reason": "test" })).await;
        assert_eq!(status, 200, "{answer}");
    }
    // Without its persona's name, the first segment has its name from training again.
    let removed = json!({ "name": null, "reason": "test" });
    let marked = json!(format!("{} (draft)", drafted.as_str().unwrap()));
    assert_eq!(change_persona(&app, &segment, removed).await.1["name"], marked);
    assert_eq!(app.get(&format!("/v1/segments/{other}")).await.1["name"], drafted);
    let (_, customer) = app.get("/v1/customers/c0000").await;
    assert_eq!(customer["segment_name"], marked, "{customer}");
    let (_, history) = app.get("/v1/customers/c0000/history").await;
    let mut changes = history["changes"].as_array().unwrap().iter();
    let into = changes.find(|one| one["segment_id"] == json!(segment)).unwrap();
    assert_eq!(into["segment_name"], marked, "{history}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_persona_is_refused_with_all_its_faults() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    let early = json!({ "name": "Early", "reason": "test" });
    assert_eq!(change_persona(&app, "champions", early.clone()).await.0, 404);
    app.train().await;
    let (_, list) = app.get("/v1/segments").await;
    let ids: Vec<&str> = list["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["segment_id"].as_str().unwrap())
        .collect();

    let (status, unknown) = change_persona(&app, "seg_unknown", early).await;
    assert_eq!(status, 404, "{unknown}");
    assert_eq!(app.get("/v1/segments/seg_unknown").await.0, 404);
    let faulty = json!({ "name": " ", "colour": "blue", "reason": "test" });
    let (status, refused) = change_persona(&app, ids[0], faulty).await;
    assert_eq!(status, 422, "{refused}");
    let fields: Vec<&str> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["name", "colour"], "{refused}");
    assert_eq!(change_persona(&app, ids[0], json!({ "name": "A" })).await.0, 422);
    let draft = json!({ "name": "Families (draft)", "reason": "test" });
    let (status, refused) = change_persona(&app, ids[0], draft).await;
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &json!("name")), "{refused}");

    assert_eq!(
        change_persona(&app, ids[0], json!({ "name": "Families", "reason": "x" })).await.0,
        200
    );
    let taken = [json!("families"), list["segments"][2]["name"].clone()];
    for name in taken {
        let (status, refused) =
            change_persona(&app, ids[1], json!({ "name": name, "reason": "x" })).await;
        assert_eq!(status, 409, "{refused}");
        assert!(refused["detail"].as_str().unwrap().contains("seg_"), "{refused}");
    }
    // The name it already has is accepted.
    assert_eq!(
        change_persona(&app, ids[0], json!({ "name": "Families", "reason": "x" })).await.0,
        200
    );
    let (_, history) = app.get(&format!("/v1/segments/{}/persona/history", ids[0])).await;
    assert_eq!(history["versions"].as_array().unwrap().len(), 2, "{history}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persona_of_a_segment_that_changed_is_outdated_until_it_is_confirmed() {
    let app = TestApp::start().await;
    app.post("/v1/events/bulk", ndjson(&orders(150, 5))).await;
    app.train().await;
    let segment = first_segment(&app).await;
    change_persona(&app, &segment, json!({ "name": "Families", "reason": "x" })).await;
    // As if the segment had had other standout features at the last change of its persona.
    let mut database = PgConnection::connect(app.database_url()).await.unwrap();
    let other = json!([{ "feature": "recency_days", "aspect": "value", "contrast": 9.5 }]);
    sqlx::query(
        "insert into persona (workspace_id, segment_id, name, document, standouts, changed_at,
                 changed_by, reason)
             select workspace_id, segment_id, name, document, $1, now(), changed_by, 'earlier'
             from persona",
    )
    .bind(other)
    .execute(&mut database)
    .await
    .unwrap();
    let path = format!("/v1/segments/{segment}");
    eventually("the persona is outdated", async || {
        app.get(&path).await.1["standout_changes"] != json!([])
    })
    .await;
    let (_, outdated) = app.get(&path).await;
    assert_eq!(outdated["standout_changes"][0]["feature"], "recency_days", "{outdated}");
    assert_eq!(outdated["standout_changes"][0]["then"], 9.5);
    assert_eq!(app.metric("segmentd_outdated_personas").await, 1);

    let (_, confirmed) = change_persona(&app, &segment, json!({ "reason": "still right" })).await;
    assert_eq!(
        (&confirmed["standout_changes"], &confirmed["name"]),
        (&json!([]), &json!("Families"))
    );
    assert_eq!(app.metric("segmentd_outdated_personas").await, 0);
    app.stop().await;
}

/// Frequent customers look at pages in the evening, the others at screens in the morning.
#[tokio::test(flavor = "multi_thread")]
async fn the_habits_of_a_segment_stand_beside_those_of_all() {
    let today = 19_700 * MILLIS_PER_DAY;
    let (clock, _) = TimeSource::manual(Timestamp::from_millis(today));
    let app = TestApp::start_at(clock, &[]).await;
    let [frequent, seldom] = two_kinds_of_customers(&app, today).await;
    let mut visits = Vec::new();
    for number in 0..CUSTOMERS {
        let (kind, hour) = if number % 2 == 0 { ("page", 20) } else { ("screen", 9) };
        for day in 1..=4 {
            let at = today - day * MILLIS_PER_DAY + hour * MILLIS_PER_DAY / 24;
            visits.push(json!({
                "type": kind, "name": "Home", "customer_id": format!("c{number}"),
                "message_id": format!("visit-{day}"),
                "timestamp": Timestamp::from_millis(at).to_string(),
            }));
        }
    }
    assert_eq!(app.post("/v1/events/bulk", ndjson(&visits)).await.0, 200);
    // A mail to everybody is no habit.
    let mails: Vec<Value> = (0..CUSTOMERS)
        .flat_map(|number| (0..20).map(move |mail| (number, mail)))
        .map(|(number, mail)| {
            json!({
                "type": "track", "name": "Campaign Sent", "customer_id": format!("c{number}"),
                "message_id": format!("mail-{mail}"),
                "timestamp": Timestamp::from_millis(today - MILLIS_PER_DAY / 2).to_string(),
            })
        })
        .collect();
    assert_eq!(app.post("/v1/events/bulk", ndjson(&mails)).await.0, 200);
    for (segment, hour, app_share) in [(&frequent, 20_usize, 0.0), (&seldom, 9, 1.0)] {
        // Beside four visits, each has one order of the last days, at midnight.
        let (status, found) = app.get(&format!("/v1/segments/{segment}/habits?days=7")).await;
        assert_eq!((status, &found["time_zone"]), (200, &json!("UTC")), "{found}");
        let habits = &found["habits"];
        let first = usize::try_from(habits["busiest_hours"]["from_hour"].as_u64().unwrap());
        assert!((hour - 2..=hour).contains(&first.unwrap()), "{habits}");
        assert_eq!(habits["app"]["share"], json!(app_share), "{habits}");
        let all = habits["app"]["share_of_all"].as_f64().unwrap();
        assert!((0.3..0.7).contains(&all), "{habits}");
        let share = |of: &str| habits["hours"][hour][of].as_f64().unwrap();
        assert!((share("share") - 0.8).abs() < 0.05, "{habits}");
        assert!((0.2..0.6).contains(&share("share_of_all")), "{habits}");
        let words = habits["description"].as_str().unwrap();
        let shown = if app_share > 0.0 { "100 %" } else { "0 %" };
        assert!(words.contains(&format!("{shown} of their visits are in the app")), "{words}");
    }
    let (status, refused) = app.get(&format!("/v1/segments/{frequent}/habits?days=0")).await;
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &json!("days")), "{refused}");
    assert_eq!(app.get("/v1/segments/seg_0/habits").await.0, 404);
    app.stop().await;
}
