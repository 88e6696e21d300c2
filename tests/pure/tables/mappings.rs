//! Mappings from rows to events: ids, times, filters, numbers, groups, and their faults.

use proptest::prelude::*;
use serde_json::json;

use super::support::csv_events;

const BASE: &str = "type = \"track\"\nname = \"Order Completed\"\ncustomer_id = \"{customer}\"\n";

fn mapping(rest: &str) -> String {
    format!("{BASE}{rest}")
}

fn error(mapping: &str, table: &str) -> String {
    format!("{:#}", csv_events(mapping, table.as_bytes()).expect_err("an invalid mapping"))
}

#[test]
fn ids_come_from_file_line_columns_and_content() {
    let table = b"customer,at\na,2026-01-01\nb,2026-01-02\na,2026-01-01\n";
    let ids = |id: &str| {
        let text = mapping(&format!("timestamp = \"{{at}}\"\nmessage_id = \"{id}\""));
        let events = csv_events(&text, table).expect("events").events;
        let ids = events.iter().map(|event| event["message_id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<String>>()
    };
    assert_eq!(ids("{file}-{line}")[..2], ["orders.csv-1", "orders.csv-2"]);
    assert_eq!(ids("{{x}}{customer}")[1], "{x}b");
    let content = ids("{content}");
    assert_eq!(content[2], format!("{}-2", content[0]));
    assert_ne!(content[0], content[1]);
}

#[test]
fn faults_of_mappings_name_path_column_and_known_names() {
    let table = "customer,at\na,2026-01-01\n";
    let text =
        mapping("timestamp = \"{At}\"\nmessage_id = \"x\"\n[properties.total]\ncolumn = \"sum\"");
    let found = error(&text, table);
    for part in [
        "timestamp: \"{At}\": the table has no column \"At\"; it has \"customer\", \"at\"; did you mean \"at\"?",
        "message_id: must contain a column",
        "properties.total: the table has no column \"sum\"",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    let text = mapping("timestamp = \"{at}\"\nmessage_id = \"{line}\"\n[table]\ndelimiter = \";\"");
    let found = error(&text, table);
    assert!(found.contains("contains ',', which may be the delimiter"), "{found}");
    let text = mapping("timestamp = \"{at\"\nmessage_id = \"{line}\"");
    assert!(error(&text, table).contains("a `{` without `}`"));
}

#[test]
fn times_are_read_as_declared() {
    for (format, cell, expected) in [
        ("", "2026-11-20", "2026-11-20T00:00:00.000Z"),
        ("", "2026-11-20 10:00:00 UTC", "2026-11-20T10:00:00.000Z"),
        ("", "2026-11-20 09:50:26 +0100", "2026-11-20T08:50:26.000Z"),
        ("", "2026-11-20 10:00:00.123456+00", "2026-11-20T10:00:00.123Z"),
        ("", "2026-11-20T10:00:00+05:30", "2026-11-20T04:30:00.000Z"),
        ("timezone = \"UTC\"", "2026-11-20 10:00", "2026-11-20T10:00:00.000Z"),
        ("timezone = \"Europe/London\"", "2026-07-20", "2026-07-19T23:00:00.000Z"),
        ("timestamp_format = \"epoch-seconds\"", "1511544070", "2017-11-24T17:21:10.000Z"),
        ("timestamp_format = \"epoch-seconds\"", "1511544070.25", "2017-11-24T17:21:10.250Z"),
        ("timestamp_format = \"epoch-milliseconds\"", "1433221332117", "2015-06-02T05:02:12.117Z"),
        (
            "timestamp_format = \"epoch-microseconds\"",
            "1433221332117999",
            "2015-06-02T05:02:12.117Z",
        ),
        ("timestamp_format = \"excel\"\ntimezone = \"UTC\"", "46346.5", "2026-11-20T12:00:00.000Z"),
        (
            "timestamp_format = \"%m/%d/%Y %H:%M\"\ntimezone = \"Europe/London\"",
            "12/1/2010 8:26",
            "2010-12-01T08:26:00.000Z",
        ),
        (
            "timestamp_format = \"%d.%m.%Y\"\ntimezone = \"Europe/Berlin\"",
            "20.11.2026",
            "2026-11-19T23:00:00.000Z",
        ),
        (
            "timestamp_format = \"%Y%m%d\"\ntimezone = \"UTC\"",
            "20261120",
            "2026-11-20T00:00:00.000Z",
        ),
        (
            "timestamp_format = \"%m/%d/%Y %I:%M %p\"\ntimezone = \"UTC\"",
            "11/20/2026 08:26 pm",
            "2026-11-20T20:26:00.000Z",
        ),
        (
            "timestamp_format = \"%d %b %Y %H:%M:%S %z\"",
            "20 Nov 2026 10:00:00 -0500",
            "2026-11-20T15:00:00.000Z",
        ),
        // 2026-10-25 01:30 occurs twice in London, 2026-03-29 01:30 does not exist.
        ("timezone = \"Europe/London\"", "2026-10-25 01:30:00", "2026-10-25T00:30:00.000Z"),
        (
            "timezone = \"Europe/London\"\ndisambiguation = \"later\"",
            "2026-10-25 01:30:00",
            "2026-10-25T01:30:00.000Z",
        ),
        ("timezone = \"Europe/London\"", "2026-03-29 01:30:00", "2026-03-29T01:30:00.000Z"),
        (
            "timezone = \"Europe/London\"\ndisambiguation = \"earlier\"",
            "2026-03-29 01:30:00",
            "2026-03-29T00:30:00.000Z",
        ),
    ] {
        let text = mapping(&format!("timestamp = \"{{at}}\"\nmessage_id = \"{{line}}\"\n{format}"));
        let table = csv_events(&text, format!("customer,at\na,{cell}\n").as_bytes());
        let table = table.unwrap_or_else(|error| panic!("{format} {cell}: {error:#}"));
        assert!(table.faults.is_empty(), "{format} {cell}: {:?}", table.faults);
        assert_eq!(table.events[0]["timestamp"], expected, "{format} {cell}");
    }
}

#[test]
fn times_without_a_zone_are_refused() {
    let text = mapping("timestamp = \"{at}\"\nmessage_id = \"{line}\"");
    let table = csv_events(&text, b"customer,at\na,2026-11-20 10:00:00\nb,11/20/2026\nc,\n");
    let faults: Vec<String> =
        table.expect("a table").faults.iter().map(|f| format!("{}: {f}", f.line)).collect();
    assert_eq!(
        faults,
        [
            "2: column \"at\": \"2026-11-20 10:00:00\" has no time zone; set `timezone`, such as \"Europe/London\" or \"UTC\"",
            "3: column \"at\": \"11/20/2026\" is not an RFC 3339 time such as 2017-01-01T11:53:26Z; set `timestamp_format`",
            "4: column \"at\": \"\" is empty: it is the time of the event",
        ]
    );
    let text = format!("{text}\ntimestamp_format = \"%d/%m/%Y\"");
    assert!(error(&text, "customer,at\n").contains("has no time zone; set `timezone`"));
    let text = mapping("timestamp = \"{at}\"\nmessage_id = \"{line}\"\ntimezone = \"London\"");
    assert!(error(&text, "customer,at\n").contains("timezone: \"London\" is not a time zone"));
    let text = mapping(
        "timestamp = \"{at}\"\nmessage_id = \"{line}\"\ntimezone = \"Europe/London\"\ndisambiguation = \"reject\"",
    );
    let table = csv_events(&text, b"customer,at\na,2026-10-25 01:30:00\na,2026-03-29 01:30:00\n");
    assert_eq!(table.expect("a table").faults.len(), 2);
}

#[test]
fn properties_have_types_constants_and_templates() {
    let text = mapping(
        "timestamp = \"{at} {time}\"\ntimezone = \"UTC\"\nmessage_id = \"{line}\"\n\
         [properties]\n\
         total = { product = [\"count\", \"price\"] }\n\
         cents = { column = \"cents\", divide_by = 100 }\n\
         money = { column = \"money\", type = \"money\" }\n\
         id = { column = \"id\" }\n\
         currency = { value = \"EUR\" }\n\
         place = { template = \"{id}/{count}\" }\n\
         new = { column = \"new\", type = \"boolean\" }\n\
         first = { column = \"json.items.0.sku\", type = \"text\" }\n\
         items = { column = \"json.items\", type = \"json\" }\n\
         [properties.products]\nlist = \"json.items\"\n\
         [properties.products.each]\nsku = { column = \"sku\", type = \"text\" }\nprice = { column = \"p\" }\n",
    );
    let table = "customer;at;time;count;price;cents;money;id;new;json\n\
        a;2026-11-20;10:00;3;1.5;1234;\"$1,234.50\";79825090983937;yes;\"{\"\"items\"\": [{\"\"sku\"\": \"\"x\"\", \"\"p\"\": 2.5}, {\"\"sku\"\": \"\"y\"\"}]}\"\n\
        a;2026-11-20;10:00;;1.5;;;;;\n";
    let found = csv_events(&text, table.as_bytes()).expect("a table");
    assert_eq!(found.faults, []);
    assert_eq!(
        found.events[0]["properties"],
        json!({
            "total": 4.5, "cents": 12.34, "money": 1234.5, "id": 79_825_090_983_937_u64,
            "currency": "EUR", "place": "79825090983937/3", "new": true, "first": "x",
            "items": [{"sku": "x", "p": 2.5}, {"sku": "y"}],
            "products": [{"sku": "x", "price": 2.5}, {"sku": "y"}],
        })
    );
    assert_eq!(found.events[1]["properties"], json!({"currency": "EUR"}));
}

#[test]
fn invalid_cells_reject_their_row_with_line_column_value_and_reason() {
    let text = mapping(
        "timestamp = \"{at}\"\nmessage_id = \"{line}\"\n[properties]\ntotal = { column = \"total\" }",
    );
    let table = b"customer,at,total\na,2026-01-01,\"1,234.50\"\n,2026-01-01,1\nb,2026-01-01,2\nc,2026-01-01,NaN\n1.2E+12,2026-01-01,1\n";
    let found = csv_events(&text, table).expect("a table");
    let faults: Vec<String> = found.faults.iter().map(|f| format!("{}: {f}", f.line)).collect();
    assert_eq!(found.events.len(), 1);
    assert!(faults[0].starts_with("2: column \"total\": \"1,234.50\" is not a number; use type"));
    assert!(faults[1].starts_with("3: column \"customer\": \"\" is empty: the event has neither"));
    assert!(
        faults[2]
            .starts_with("5: column \"total\": \"NaN\" is not a number; list it in `table.null`")
    );
    assert!(
        faults[3].contains("is in scientific notation, which has lost digits"),
        "{}",
        faults[3]
    );
}

#[test]
fn conditions_leave_rows_out_and_count_them() {
    let text = mapping(
        "timestamp = \"{at}\"\nmessage_id = \"{line}\"\n\
         where = [{ column = \"status\", equals = [\"paid\", 1] }, { column = \"total\", above = 0 }, \
         { column = \"status\", not = \"open\" }, { column = \"note\", empty = true }]",
    );
    let table = b"customer,at,status,total,note\na,2026-01-01,paid,1,\nb,2026-01-01,open,1,\nc,2026-01-01,1,-1,\nd,2026-01-01,1,5,x\n";
    let found = csv_events(&text, table).expect("a table");
    assert_eq!(found.events.len(), 1);
    let left_out: Vec<String> =
        found.left_out.iter().map(|l| format!("{} {}", l.rows, l.condition)).collect();
    assert_eq!(
        left_out,
        ["1 status equals [\"paid\", \"1\"]", "1 total above 0", "1 note empty = true"]
    );
    let two = mapping(
        "timestamp = \"{at}\"\nmessage_id = \"{line}\"\nwhere = [{ column = \"at\", above = 0, below = 1 }]",
    );
    assert!(error(&two, "customer,at\n").contains("where[0]: must have one of `equals`"));
}

#[test]
fn rows_of_an_order_become_one_event() {
    let order = |rows: &str| {
        mapping(&format!(
            "timestamp = \"{{at}}\"\nmessage_id = \"o-{{order}}\"\n[group]\nby = [\"order\"]\nrows = \"{rows}\"\n\
             [properties]\ntotal = {{ product = [\"n\", \"price\"], aggregate = \"sum\" }}\n\
             dearest = {{ column = \"price\", aggregate = \"max\" }}\nnote = {{ column = \"note\", type = \"text\" }}\n\
             [properties.products.each]\nsku = {{ column = \"sku\", type = \"text\" }}\nquantity = {{ column = \"n\" }}\n"
        ))
    };
    let table = b"order,customer,at,sku,n,price,note\n1,a,2026-01-01,x,2,1.5,\n1,a,2026-01-01,y,1,4,hello\n2,b,2026-01-02,x,1,1.5,\n1,a,2026-01-01,z,1,1,\n";
    let found = csv_events(&order("all"), table).expect("a table");
    assert_eq!(found.events.len(), 2);
    assert_eq!(
        found.events[0]["properties"],
        json!({
            "total": 8.0, "dearest": 4.0, "note": "hello",
            "products": [{"sku": "x", "quantity": 2}, {"sku": "y", "quantity": 1}, {"sku": "z", "quantity": 1}],
        })
    );
    let found = csv_events(&order("consecutive"), table).expect("a table");
    assert_eq!(found.events.len(), 3);
    // A row that cannot be read rejects its order, not the others.
    let table = b"order,customer,at,sku,n,price,note\n1,a,2026-01-01,x,2,1.5,\n1,a,2026-01-01,y,one,4,\n2,b,2026-01-02,x,1,1.5,\n";
    let found = csv_events(&order("consecutive"), table).expect("a table");
    assert_eq!(found.events.len(), 1);
    assert_eq!(found.faults.len(), 2);
    assert!(found.faults[1].reason.contains("the group of 2 rows that starts here"));
}

#[test]
fn content_ids_of_groups_depend_on_all_rows() {
    let text = mapping(
        "timestamp = \"{at}\"\nmessage_id = \"o-{content}\"\n[group]\nby = [\"order\"]\n[properties]\n",
    );
    let id = |table: &str| {
        let found = csv_events(&text, table.as_bytes()).expect("a table");
        found.events[0]["message_id"].as_str().unwrap().to_owned()
    };
    let head = "order,customer,at,sku\n1,a,2026-01-01,x\n";
    assert_eq!(id(head), id(head));
    assert_ne!(id(head), id(&format!("{head}1,a,2026-01-01,y\n")));
}

#[test]
fn semicolons_and_decimal_commas_are_read() {
    let text = mapping(
        "timestamp = \"{at}\"\nmessage_id = \"{line}\"\n[table]\ndecimal = \",\"\n[properties]\ntotal = { column = \"total\" }",
    );
    let found = csv_events(&text, b"customer;at;total\na;2026-01-01;5,50\n").expect("a table");
    assert_eq!(found.events[0]["properties"], json!({"total": 5.5}));
}

/// A mapping that uses most of what mappings offer; `ID` stands for the message id.
const WIDE: &str = r#"
type = "track"
name = "{name}"
customer_id = "{customer}"
timestamp = "{at}"
timestamp_format = ["%m/%d/%Y %H:%M", "rfc3339", "epoch-seconds", "excel"]
timezone = "Europe/London"
where = [{ column = "customer", empty = false }]
[table]
optional = ["customer", "at", "name", "order", "price", "json"]
[group]
by = ["order"]
rows = "all"
[[event]]
message_id = "ID"
where = [{ column = "price", above = 0 }]
[event.properties]
total = { product = ["price", "price"], aggregate = "sum" }
[event.properties.products.each]
name = { column = "name", type = "text" }
[[event]]
message_id = "o-{order}"
[event.properties.money]
column = "price"
type = "money"
divide_by = -1
[event.properties.list]
list = "json.items"
[event.properties.list.each]
price = { column = "a.0.b" }
"#;

proptest! {
    /// Whatever a table and a template contain, a mapping makes valid events or faults.
    #[test]
    fn any_text_makes_events_or_faults(
        id in "[{}a-c]{0,10}|\\{content\\}|\\{order\\}|\\{file\\}-\\{line\\}",
        rows in prop::collection::vec(
            "[0-9a-c]{0,2},[ab]{0,1},(2026-03-29 01:30|12/1/2010 8:26|[0-9.:/ -]{0,12}),[xy\"é]{0,3},[-0-9.,$()eE\"]{0,6},(\"\\{\"\"items\"\": \\[\\{\\}\\]\\}\"|[{}\"a:]{0,6})",
            0..12,
        ),
    ) {
        let mapping = WIDE.replace("ID", &id);
        let table = format!("order,customer,at,name,price,json\n{}\n", rows.join("\n"));
        if let Ok(found) = csv_events(&mapping, table.as_bytes()) {
            for fault in &found.faults {
                prop_assert!(fault.line > 1, "{:?}", fault);
            }
            for event in &found.events {
                prop_assert!(event["message_id"].is_string() && event["customer_id"].is_string());
            }
        }
    }
}
