use crate::feature::commerce::set_of;
use crate::feature::support::{RETAIL, at, event, state_of};
use segmentd::domain::event::{CustomerEvent, EventKind, PropertyValue};
use segmentd::domain::feature::{FeatureSet, FeatureValue};
use std::collections::BTreeMap;

#[test]
fn net_revenue_equals_pandas() {
    let from =
        "from = [{ name = \"Order Completed\" }, { name = \"Order Refunded\", weight = -1 }]";
    let tables = "[time]\nzone = \"Europe/London\"\n[orders]\nid = \"order_id\"\nvalue = \"total\"\nplaced = [{ name = \"Order Completed\" }]\nreturned = [{ name = \"Order Refunded\" }]\nunmatched = \"newest\"\n";
    let windows = [30, 168, 258].map(|d| {
        (
            format!("net_{d}"),
            format!(
                "fold = \"sum\"\nproperty = \"total\"\n{from}\nwindow = {{ rolling_days = {d} }}"
            ),
        )
    });
    let net = format!("fold = \"sum\"\nproperty = \"total\"\n{from}");
    let features = [
        ("net", net.as_str()),
        (&windows[0].0, &windows[0].1),
        (&windows[1].0, &windows[1].1),
        (&windows[2].0, &windows[2].1),
        ("orders", "fold = \"count\"\nfrom = \"orders\""),
        ("spend", "fold = \"sum\"\nfrom = \"orders\""),
    ];
    let set = set_of(tables, &features);
    let retail = FeatureSet::parse(RETAIL).unwrap();
    let mut of: BTreeMap<String, Vec<CustomerEvent>> = BTreeMap::new();
    for row in csv::Reader::from_path("/tmp/w/b21/or_invoices.csv").unwrap().records() {
        let row = row.unwrap();
        let money: f64 = row[3].parse().unwrap();
        let cancel = &row[4] == "True";
        let (name, value) =
            if cancel { ("Order Refunded", -money) } else { ("Order Completed", money) };
        let id = PropertyValue::Text(row[1].into());
        let e = event(
            &row[0],
            EventKind::Track,
            name,
            at(&row[2]),
            vec![("order_id", id), ("total", PropertyValue::Number(value))],
        );
        of.entry(row[0].to_owned()).or_default().push(e);
    }
    let now = at("2011-12-10T00:30:00Z");
    let (mut customers, mut equal, mut zero, mut total, mut spend_total, mut above, mut none) =
        (0, 0, 0, 0.0, 0.0, 0, 0);
    for row in csv::Reader::from_path("/tmp/w/b21/or_values.csv").unwrap().records() {
        let row = row.unwrap();
        let state = state_of(&set, &of[&row[0]]);
        let values = state.feature_row(&set, now).0;
        let num = |i: usize| match values[i] {
            FeatureValue::Number(n) => n,
            _ => panic!(),
        };
        customers += 1;
        for i in 0..4 {
            let golden: f64 = row[i + 1].parse().unwrap();
            assert!((num(i) - golden).abs() < 0.005, "{} {i} {} {golden}", &row[0], num(i));
        }
        equal += 1;
        let net: f64 = row[1].parse().unwrap();
        if net <= 0.004 {
            zero += 1;
            if num(5) == 0.0 && num(4) == 0.0 {
                none += 1
            } else {
                eprintln!("{} net {net} orders {} spend {}", &row[0], num(4), num(5));
            }
        }
        if num(5) > net + 0.005 {
            above += 1;
        }
        assert!(num(5) + 0.005 >= net, "{} {} {net}", &row[0], num(5));
        total += net;
        spend_total += num(5);
        let r = state_of(&retail, of[&row[0]].iter()).feature_row(&retail, now).0;
        assert_eq!(r[retail.index_of("orders").unwrap()], FeatureValue::Number(num(4)));
    }
    let v = |id: &str| {
        let s = state_of(&set, &of[id]);
        s.feature_row(&set, now).0
    };
    eprintln!(
        "12346 {:?} 13958 {:?} 16995 {:?} 17547 {:?}",
        v("12346"),
        v("13958"),
        v("16995"),
        v("17547")
    );
    let largest = of.values().map(Vec::len).max();
    eprintln!(
        "customers {customers} equal {equal} zero-or-less {zero} of these without orders {none}; net total {total} spend {spend_total}, spend above net {above}, most invoices {largest:?}"
    );
    let busy = of.values().max_by_key(|e| e.len()).unwrap();
    let s = state_of(&set, busy);
    let t = std::time::Instant::now();
    for _ in 0..100 {
        std::hint::black_box(s.feature_row(&set, now));
    }
    eprintln!("row of the busiest: {:?}, {} bytes", t.elapsed() / 100, s.to_bytes(&set).len());
    let s = state_of(&retail, busy);
    eprintln!("retail bytes {}", s.to_bytes(&retail).len());
}
