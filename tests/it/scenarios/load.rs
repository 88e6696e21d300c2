//! `segmentd load` from files to customers: exit codes, reports, known formats.

use std::path::{Path, PathBuf};

use segmentd::domain::time::Timestamp;
use segmentd::service::clock::TimeSource;
use serde_json::{Value, json};

use crate::support::TestApp;

/// A folder with tables, and a server to load them into.
struct LoadTest {
    app: TestApp,
    folder: tempfile::TempDir,
}

/// How a load ended.
struct LoadEnd {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl LoadTest {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// At an instant shortly after the rows of the tables.
    async fn start_with(settings: &[(&str, &str)]) -> Self {
        let (clock, _) = TimeSource::manual(Timestamp::parse("2027-01-01T00:00:00Z").unwrap());
        let app = TestApp::start_at(clock, settings).await;
        Self { app, folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    async fn load(&self, arguments: &[&str]) -> LoadEnd {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_segmentd"));
        command.args(["load", "--url", &self.app.url, "--key", &self.app.key]).args(arguments);
        let ended = command.output().await.unwrap();
        LoadEnd {
            code: ended.status.code(),
            stdout: String::from_utf8(ended.stdout).unwrap(),
            stderr: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    async fn orders(&self, customer: &str) -> Value {
        self.app.get(&format!("/v1/customers/{customer}")).await.1["features"]["orders"].clone()
    }
}

const HEADER: &str =
    "invoice,stock_code,description,quantity,invoice_date,unit_price,customer_id,country\n";

fn example() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/load.example.toml").display().to_string()
}

fn known(file: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tables").join(file);
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn months_are_loaded_with_the_example_and_resends_are_said() {
    let test = LoadTest::start().await;
    let row = |number: u32, day: u32| {
        format!("{number},A,x,2,2026-10-{day:02}T10:00:00Z,5,oct{number},UK\n")
    };
    let october = test.write("october.csv", &format!("{HEADER}{}{}", row(1, 1), row(2, 2)));
    let november = test.write("november.csv", &format!("{HEADER}{}{}", row(3, 1), row(4, 2)));
    let corrected = test.write("corrected.csv", &format!("{HEADER}{}{}", row(2, 2), row(5, 3)));
    let example = example();
    for file in [&october, &november] {
        let end = test.load(&["--mapping", &example, file]).await;
        assert_eq!(end.code, Some(0), "{}{}", end.stdout, end.stderr);
        assert!(end.stdout.contains("rows 2, accepted 2, duplicate 0"), "{}", end.stdout);
        assert!(end.stderr.contains("CSV, delimiter ','"), "{}", end.stderr);
    }
    let end = test.load(&["--mapping", &example, &corrected]).await;
    assert!(end.stdout.contains("accepted 1, duplicate 1"), "{}", end.stdout);
    assert_eq!(test.orders("oct5").await, json!(1.0));

    // Nothing new: said, and a failure.
    let end = test.load(&["--mapping", &example, &october, &november]).await;
    assert_eq!(end.code, Some(1), "{}", end.stdout);
    assert!(end.stderr.contains("all 4 events were stored before"), "{}", end.stderr);
    let pattern = test.folder.path().join("*ber.csv").display().to_string();
    let end = test.load(&["--mapping", &example, &pattern]).await;
    assert!(end.stdout.contains("rows 4, accepted 0, duplicate 4"), "{}", end.stdout);
    test.app.stop().await;
}

/// The lines of an invoice are one order, and a cancellation has an invoice of its own.
#[tokio::test(flavor = "multi_thread")]
async fn cancelled_invoices_are_taken_back_with_the_example() {
    let test = LoadTest::start().await;
    let rows = [
        "1,A,jar,70000,2026-10-01T10:01:00Z,1.04,returned,UK",
        "1,B,lid,2,2026-10-01T10:01:00Z,3,returned,UK",
        "C2,A,jar,-70000,2026-10-01T10:17:00Z,1.04,returned,UK",
        "C2,B,lid,-2,2026-10-01T10:17:00Z,3,returned,UK",
        "C3,A,toy,-1,2026-10-02T10:00:00Z,2.95,only_cancelled,UK",
        "4,A,jar,10,2026-10-03T10:00:00Z,1.05,bought,UK",
        "4,B,lid,1,2026-10-03T10:00:00Z,3,bought,UK",
        "C5,B,lid,-1,2026-10-04T10:00:00Z,3,bought,UK",
    ];
    let table = test.write("returns.csv", &format!("{HEADER}{}\n", rows.join("\n")));
    let end = test.load(&["--mapping", &example(), &table]).await;
    assert_eq!(end.code, Some(0), "{}{}", end.stdout, end.stderr);
    for (customer, orders, spend) in
        [("returned", 0.0, 0.0), ("only_cancelled", 0.0, 0.0), ("bought", 1.0, 10.5)]
    {
        let (_, found) = test.app.get(&format!("/v1/customers/{customer}")).await;
        let features = &found["features"];
        assert_eq!(
            (&features["orders"], &features["spend_365d"]),
            (&json!(orders), &json!(spend)),
            "{customer}: {features}"
        );
    }
    test.app.stop().await;
}

/// A wholesaler's invoice has hundreds of lines, and is one event.
#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_of_a_thousand_lines_is_one_order() {
    let test = LoadTest::start_with(&[("features.built_in", "segment-ecommerce")]).await;
    let header =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
    let lines = (0..1000).map(|line| {
        format!("7,{line},WHITE HANGING HEART T-LIGHT HOLDER,2,10/1/2026 8:26,1.25,w,UK")
    });
    let table: Vec<String> = [header.to_owned()].into_iter().chain(lines).collect();
    let table = test.write("invoice.csv", &table.join("\n"));
    let end = test.load(&["--mapping", "online-retail", &table]).await;
    assert_eq!(end.code, Some(0), "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains("rows 1000, accepted 1"), "{}", end.stdout);
    let (_, found) = test.app.get("/v1/customers/w").await;
    assert_eq!(found["features"]["spend_365d"], 2500.0, "{found}");
    test.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_rows_are_reported_with_line_column_and_value() {
    let test = LoadTest::start().await;
    let table = test.write(
        "orders.csv",
        &format!(
            "{HEADER}1,A,x,2,2026-10-01T10:00:00Z,5,good,UK\n\
             2,A,x,two,2026-10-01T10:00:00Z,5,bad1,UK\n\
             3,A,x,2,10/01/2026,5,bad2,UK\n4,A,x\n\
             5,A,x,2,2999-10-01T10:00:00Z,5,bad3,UK\nA6,A,x,2,2026-10-01T10:00:00Z,5,out,UK\n"
        ),
    );
    let rejects = test.folder.path().join("rejects.ndjson").display().to_string();
    let end = test.load(&["--mapping", &example(), "--rejects", &rejects, &table]).await;
    assert_eq!(end.code, Some(3), "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains("rows 6, accepted 1"), "{}", end.stdout);
    assert!(end.stdout.contains("1 left out: not invoice not_prefix"), "{}", end.stdout);
    assert!(end.stdout.contains("1 not taken: is not a number"), "{}", end.stdout);
    assert!(
        end.stderr.contains("line 3: rejected: column \"quantity\": \"two\""),
        "{}",
        end.stderr
    );
    let lines: Vec<Value> = std::fs::read_to_string(&rejects)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    // The last one is rejected by the service: its line, column and value are found again.
    let of_service = lines.iter().find(|line| line["line"] == 6).unwrap();
    assert_eq!(of_service["column"], "invoice_date");
    assert_eq!(of_service["value"], "2999-10-01T10:00:00.000Z");
    let end =
        test.load(&["--mapping", &example(), "--max-rejects", "4", "--dry-run", &table]).await;
    assert_eq!(end.code, Some(0), "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains("spend_365d"), "{}", end.stdout);

    let unclosed = test.write(
        "unclosed.csv",
        &format!("{HEADER}1,A,\"x,2,2026-10-01,5,a,UK\n2,B,y,2,2026-10-01,5,b,UK\n"),
    );
    let end = test.load(&["--mapping", &example(), &unclosed]).await;
    assert_eq!(end.code, Some(1));
    assert!(end.stderr.contains("line 2: a quote opens here"), "{}", end.stderr);
    let wrong = test.write(
        "wrong.toml",
        &std::fs::read_to_string(example()).unwrap().replace("{customer_id}", "{customer}"),
    );
    let end = test.load(&["--mapping", &wrong, &table]).await;
    assert_eq!(end.code, Some(2), "{}", end.stderr);
    assert!(end.stderr.contains("did you mean \"customer_id\"?"), "{}", end.stderr);
    test.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_formats_load_without_an_edit() {
    let test = LoadTest::start().await;
    for (name, file) in [
        ("online-retail", "online-retail.csv"),
        ("olist", "olist_order_items_dataset.csv"),
        ("rees46", "rees46.csv.gz"),
        ("retailrocket", "retailrocket.csv"),
        ("taobao", "taobao.csv"),
        ("shopify-orders", "shopify-orders.csv"),
        ("stripe-charges", "stripe-charges.csv"),
        ("woocommerce", "woocommerce.csv"),
        ("segment-warehouse", "segment-warehouse.csv"),
        ("snowflake", "snowflake.csv.gz"),
        ("postgres-copy", "postgres-copy.tsv"),
        ("ga4-bigquery", "ga4-bigquery.ndjson"),
    ] {
        // The made-up times are around the present one: moved into the past.
        let end = test.load(&["--mapping", name, "--shift-days", "-400", &known(file)]).await;
        assert_eq!(end.code, Some(0), "{name}: {}{}", end.stdout, end.stderr);
    }
    test.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_a_table() {
    let test = LoadTest::start().await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_segmentd"));
    command.args(["load", "--url", &test.app.url, "--key", &test.app.key]);
    command.args(["--mapping", "ga4-bigquery", "--shift-days", "-400", "-"]);
    command.stdin(std::fs::File::open(known("ga4-bigquery.ndjson")).unwrap());
    let ended = command.output().await.unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success() && text.contains("duplicate 0"), "{text}");
    test.app.stop().await;
}
