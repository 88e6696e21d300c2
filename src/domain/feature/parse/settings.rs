//! First pass over the tables `[time]` and `[money]`.

use crate::domain::feature::parse::fields::TableReader;
use crate::domain::feature::reading::money::MoneyRules;
use crate::domain::feature::zone::DayZone;

const CURRENCY_EXAMPLE: &str = "a currency code of ISO 4217, such as \"EUR\"";
const CURRENCY_BYTES: usize = 3;

pub(super) fn read_time(mut fields: TableReader<'_, '_>) -> Option<DayZone> {
    let example = "a time zone of the IANA database, such as \"Europe/London\"";
    let named = fields.named("zone", example);
    let zone = named.and_then(|named| {
        let zone = DayZone::parse(&named.name);
        if zone.is_none() {
            let problem = format!("must be {example}; there is no `{}`", named.name);
            fields.fault(named.line, "zone", problem);
        }
        zone
    });
    fields.finish("the table of time");
    zone
}

pub(super) fn read_money(mut fields: TableReader<'_, '_>) -> Option<MoneyRules> {
    let currency = fields.named("currency", CURRENCY_EXAMPLE).filter(|named| {
        let is_code = named.name.len() == CURRENCY_BYTES
            && named.name.bytes().all(|byte| byte.is_ascii_uppercase());
        if !is_code {
            let problem = format!("must be {CURRENCY_EXAMPLE}; it is `{}`", named.name);
            fields.fault(named.line, "currency", problem);
        }
        is_code
    });
    let property = match fields.get("property") {
        None => Some(None),
        Some(node) => {
            let example = "the property with an event's currency, such as \"currency\"";
            fields.text_of("property", node, example).map(Some)
        }
    };
    let example = "the properties with money, such as [\"total\", \"products.price\"]";
    let properties = fields.need("properties", example).and_then(|node| {
        let items = fields.list_of("properties", node, example)?;
        let read: Vec<_> =
            items.iter().map(|item| fields.text_of("properties", item, example)).collect();
        read.into_iter().collect::<Option<Vec<Box<str>>>>()
    });
    let rates = match fields.get("rates") {
        None => Some(None),
        Some(node) => {
            let example = "a CSV file with the columns date, currency and rate";
            fields.text_of("rates", node, example).map(Some)
        }
    };
    if let (Some(Some(_)), Some(None), Some(node)) = (&rates, &property, fields.peek("rates")) {
        let problem = "has no effect without `property`, which names an event's currency";
        fields.fault(node.line, "rates", problem);
    }
    fields.finish("the table of money");
    Some(MoneyRules {
        currency: currency?.name,
        property: property?,
        properties: properties?,
        rates_file: rates?,
    })
}
