//! `GET /v1/assignments`: the export is the same in every format, and is either whole or
//! visibly broken off.

use bytes::Bytes;
use futures_util::StreamExt as _;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use segmentd::api::openapi_document;
use segmentd::domain::id::CustomerKey;
use segmentd::domain::time::Timestamp;
use segmentd::store::customers::{IdIntroduction, NewCustomerRow, write};
use serde_json::{Value, json};

use crate::support::models::assigned_by_rules;
use crate::support::{NO_AUDIENCES, TestApp, eventually, ndjson, orders};

/// One key may use half of the slots.
const TWO_OF_A_KEY: (&str, &str) = ("export.max_concurrent", "4");

async fn export(app: &TestApp, query: &str) -> reqwest::Response {
    let url = format!("{}/v1/assignments{query}", app.url);
    let answer = reqwest::Client::new().get(url).bearer_auth(&app.key).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

fn get(row: &[(String, Value)], name: &str) -> Value {
    row.iter().find(|(key, _)| key == name).unwrap().1.clone()
}

fn from_ndjson(bytes: &[u8]) -> Vec<Vec<(String, Value)>> {
    let lines = std::str::from_utf8(bytes).unwrap().lines();
    let rows = lines.map(|line| serde_json::from_str::<serde_json::Map<_, _>>(line).unwrap());
    rows.map(|row| row.into_iter().collect()).collect()
}

fn from_parquet(bytes: Bytes) -> Vec<Vec<(String, Value)>> {
    let file = SerializedFileReader::new(bytes).unwrap();
    let value = |field: Field| match field {
        Field::Null => Value::Null,
        Field::Bool(value) => json!(value),
        Field::Long(value) => json!(value),
        Field::Float(value) => json!(value.to_string().parse::<f64>().unwrap()),
        Field::Double(value) => json!(value),
        Field::Str(value) => json!(value),
        Field::TimestampMillis(value) => json!(Timestamp::from_millis(value)),
        other => panic!("a column of no known kind: {other:?}"),
    };
    file.get_row_iter(None)
        .unwrap()
        .map(|row| row.unwrap().into_columns().into_iter().map(|(k, v)| (k, value(v))).collect())
        .collect()
}

/// The OpenAPI document has exactly these columns.
fn assert_is_described(row: &[(String, Value)]) {
    let columns = &openapi_document()["components"]["schemas"]["ExportedAssignment"]["properties"];
    assert_eq!(row.len(), columns.as_object().unwrap().len());
    assert!(row.iter().all(|(name, _)| columns[name].is_object()), "{row:?}");
}

/// Every field of the row is that of the customer; the names of audiences are one text.
fn assert_is_of_customer(row: &[(String, Value)], customer: &Value) {
    for (key, value) in row {
        if key == "audiences" {
            let names = customer[key].as_array().unwrap();
            let names: Vec<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(*value, names.join(" "), "{key} of {customer}");
        } else {
            assert_eq!(*value, customer[key], "{key} of {customer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_export_format_has_the_same_rows() {
    let app = TestApp::start().await;
    for (name, expression) in
        [("buyers", "features.orders >= 1"), ("regulars", "features.orders > 1")]
    {
        let rule = json!({ "expression": expression, "reason": "tested" });
        assert_eq!(app.put(&format!("/v1/audiences/{name}"), rule.to_string()).await.0, 201);
    }
    app.post("/v1/events/bulk", ndjson(&orders(150, 3))).await;
    let odd = r#"=2+3,"quoted", é"#;
    let event = json!({ "type": "track", "name": "Order Completed", "customer_id": odd });
    app.post("/v1/events", event.to_string()).await;
    let run = app.train().await;

    let answer = export(&app, "").await;
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let rows = from_ndjson(&answer.bytes().await.unwrap());
    assert_eq!(rows.len(), 151);
    for row in &rows {
        assert_is_described(row);
        assert_eq!(get(row, "model_id"), run["model_id"]);
        if get(row, "customer_id") != odd {
            let path = format!("/v1/customers/{}", get(row, "customer_id").as_str().unwrap());
            let (_, customer) = app.get(&path).await;
            assert_is_of_customer(row, &customer);
        }
    }
    assert!(rows.iter().any(|row| get(row, "customer_id") == odd));
    assert!(rows.iter().all(|row| get(row, "distance").is_number()));

    let safe = export(&app, "?format=csv").await.text().await.unwrap();
    let answer = export(&app, "?format=csv&escape=none").await;
    assert_eq!(answer.headers()["content-type"], "text/csv");
    let text = answer.bytes().await.unwrap();
    let mut reader = csv::Reader::from_reader(&*text);
    let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let lines: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), rows.len());
    for (row, line) in rows.iter().zip(&lines) {
        assert_eq!(row.len(), names.len());
        for (name, text) in names.iter().zip(line) {
            match get(row, name) {
                Value::Null => assert_eq!(text, ""),
                Value::String(value) => assert_eq!(text, value),
                value => assert_eq!(serde_json::from_str::<Value>(text).unwrap(), value),
            }
        }
    }

    // By default no cell is a formula for a spreadsheet, and nothing else differs.
    let mut reader = csv::Reader::from_reader(safe.as_bytes());
    let cells = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
    let safe_lines: Vec<_> = reader.records().map(|record| cells(&record.unwrap())).collect();
    assert!(safe_lines.iter().flatten().all(|cell| !cell.starts_with(['=', '+', '-', '@'])));
    assert!(safe_lines.iter().any(|line| line[0] == format!("'{odd}")));
    let unescaped = |mut line: Vec<String>| {
        line[0] = line[0].strip_prefix('\'').unwrap_or(&line[0]).to_owned();
        line
    };
    let raw_lines: Vec<_> = lines.iter().map(cells).collect();
    assert_eq!(safe_lines.into_iter().map(unescaped).collect::<Vec<_>>(), raw_lines);

    let file = export(&app, "?format=parquet").await.bytes().await.unwrap();
    let sorted = |mut rows: Vec<Vec<(String, Value)>>| {
        for row in &mut rows {
            row.sort_by(|a, b| a.0.cmp(&b.0));
        }
        rows
    };
    assert_eq!(sorted(from_parquet(file)), sorted(rows.clone()));

    // `segmentd export` renames the file only when it is complete.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("all.csv");
    let saved = tokio::process::Command::new(env!("CARGO_BIN_EXE_segmentd"))
        .args(["export", "--url", &app.url, "--key", &app.key, path.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    assert!(saved.status.success(), "{saved:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), safe);
    let saved = tokio::process::Command::new(env!("CARGO_BIN_EXE_segmentd"))
        .args(["export", "--url", &app.url, "--key", &app.key, "--escape", "none"])
        .arg(&path)
        .output()
        .await
        .unwrap();
    assert!(saved.status.success(), "{saved:?}");
    assert_eq!(std::fs::read(&path).unwrap(), *text);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);

    // One segment, with the format of the `Accept` header.
    let segment = get(&rows[0], "segment_id");
    let url = format!("{}/v1/assignments?segment_id={}", app.url, segment.as_str().unwrap());
    let request = reqwest::Client::new().get(url).bearer_auth(&app.key);
    let answer = request.header("accept", "text/csv;q=0.9").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/csv");
    let of_segment = rows.iter().filter(|row| get(row, "segment_id") == segment).count();
    assert_eq!(answer.text().await.unwrap().lines().count(), 1 + of_segment);

    // No customers: still a table.
    let text = export(&app, "?format=csv&segment_id=unassigned").await.text().await.unwrap();
    assert_eq!(text, format!("{}\n", names.join(",")));
    let file = export(&app, "?format=parquet&segment_id=unassigned").await.bytes().await.unwrap();
    assert_eq!(from_parquet(file), Vec::<Vec<_>>::new());
    assert_refused(&app).await;
    app.stop().await;
}

/// Unknown values of the parameters are refused by their name.
async fn assert_refused(app: &TestApp) {
    for (query, field) in [
        ("format=xlsx", "format"),
        ("format=csv&escape=all", "escape"),
        ("escape=none", "escape"),
        ("segment_id=s99", "segment_id"),
    ] {
        let (status, problem) = app.get(&format!("/v1/assignments?{query}")).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)));
    }
}

/// The number of customers. With long segment names their export is larger than the socket
/// buffers.
const MANY: usize = 60_000;

async fn fill(app: &TestApp) {
    let now = Timestamp::from_millis(1_000);
    let customers: Vec<CustomerKey> =
        (0..MANY).map(|i| format!("c{i:06}").parse().unwrap()).collect();
    for (turn, batch) in customers.chunks(5000).enumerate() {
        let assignment = assigned_by_rules(&format!("{turn:0>1000}"), now);
        let row = |customer| NewCustomerRow {
            customer,
            state: Some(&[]),
            last_event_at: None,
            assignment: &assignment,
            next_rescore_at: None,
            introduction: &IdIntroduction::Unchanged,
            audiences: &NO_AUDIENCES,
            audiences_before: &[],
        };
        let rows: Vec<_> = batch.iter().map(row).collect();
        let mut tx = app.db.begin().await.unwrap();
        assert_eq!(rows.len(), 5000);
        write(&mut tx, &rows, &[], now).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_limits_the_read_rate_and_gets_one_snapshot() {
    let app = TestApp::start_with(&[TWO_OF_A_KEY]).await;
    fill(&app).await;
    let mut body = export(&app, "?format=ndjson").await.bytes_stream();
    let mut text = body.next().await.unwrap().unwrap().to_vec();
    let held_back = app.settled("segmentd_export_rows_total{format=\"ndjson\"}").await;
    assert!(held_back < MANY as u64, "{held_back} rows are on their way");

    // Meanwhile one customer moves, and a new one appears.
    for customer in ["c059999", "z"] {
        let event = json!({ "type": "track", "name": "Order Completed", "customer_id": customer });
        assert_eq!(app.post("/v1/events", event.to_string()).await.0, 200);
    }
    // A second export is allowed, a third is not.
    let second = export(&app, "?format=csv").await;
    let (status, problem) = app.get("/v1/assignments").await;
    assert_eq!(status, 429, "{problem}");
    drop(second);

    while let Some(chunk) = body.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    let rows = from_ndjson(&text);
    assert_eq!(rows.len(), MANY);
    let ids: Vec<_> = rows.iter().map(|row| get(row, "customer_id")).collect();
    assert!(ids.is_sorted_by(|a, b| a.as_str() < b.as_str()));
    let moved = get(rows.last().unwrap(), "segment_id");
    assert_eq!(moved.as_str().map(str::len), Some(1000), "{moved}");

    // More than one row group.
    let file = export(&app, "?format=parquet").await.bytes().await.unwrap();
    let file = SerializedFileReader::new(file).unwrap();
    assert_eq!(file.num_row_groups(), 2);
    assert_eq!(file.metadata().file_metadata().num_rows(), i64::try_from(MANY).unwrap() + 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_is_disconnected_with_an_error() {
    let settings =
        [TWO_OF_A_KEY, ("export.stall_seconds", "1"), ("http.shutdown_timeout_seconds", "1")];
    let app = TestApp::start_with(&settings).await;
    fill(&app).await;
    let mut stuck = Vec::new();
    for _ in 0..2 {
        stuck.push(export(&app, "?format=ndjson").await.bytes_stream());
    }
    // The exports release their slots, although the clients are still connected.
    eventually("an export is allowed again", async || {
        app.get("/v1/assignments?segment_id=unassigned").await.0 != 429
    })
    .await;
    for mut body in stuck {
        let mut last = None;
        while let Some(chunk) = body.next().await {
            last = Some(chunk);
        }
        assert!(last.unwrap().is_err(), "the end of a part looks like the end");
    }
    app.stop().await;
}
