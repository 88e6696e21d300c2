//! First pass over number expressions: a property, the first of several, or a product.

use crate::domain::feature::parse::document::{DocumentNode, NodeData};
use crate::domain::feature::parse::fields::TableReader;
use crate::domain::feature::reading::amount::NumberExpression;
use crate::domain::feature::reading::event::NumberProperty;

pub(super) const PROPERTY_EXAMPLE: &str = "the name of a property, such as \"sales_value\"";
const TERMS_EXAMPLE: &str = "the name of a property, or several in a list";
const EXPRESSION_EXAMPLE: &str = "{ first_of = [\"total\", \"revenue\"] } or \
     { product_of = [\"price\", \"quantity\"] }";

/// Parses a required expression.
pub(super) fn required(
    fields: &mut TableReader<'_, '_>,
    key: &'static str,
) -> Option<NumberExpression> {
    let node = fields.need(key, PROPERTY_EXAMPLE)?;
    expression(fields, key, node)
}

/// Parses one expression.
pub(super) fn expression(
    fields: &TableReader<'_, '_>,
    key: &str,
    node: &DocumentNode,
) -> Option<NumberExpression> {
    let NodeData::Table(_) = &node.data else {
        let name = fields.text_of(key, node, PROPERTY_EXAMPLE)?;
        return Some(NumberExpression::Property(NumberProperty { name, is_money: false }));
    };
    let mut inner = fields.table_of(key, node)?;
    let (first, product) = (inner.get("first_of"), inner.get("product_of"));
    let read = match (first, product) {
        (Some(node), None) => properties(&inner, "first_of", node).map(NumberExpression::FirstOf),
        (None, Some(node)) => properties(&inner, "product_of", node).map(NumberExpression::Product),
        _ => {
            let problem = format!("must be the name of a property, {EXPRESSION_EXAMPLE}");
            fields.fault(node.line, key, problem);
            return None;
        }
    };
    inner.finish("a number expression");
    read
}

/// Parses one expression, or a list of expressions to be summed.
pub(super) fn terms(fields: &mut TableReader<'_, '_>) -> Option<Vec<NumberExpression>> {
    let node = fields.need("property", TERMS_EXAMPLE)?;
    match &node.data {
        NodeData::List(_) => {}
        NodeData::Table(_) => return expression(fields, "property", node).map(|term| vec![term]),
        _ => {
            let name = fields.text_of("property", node, TERMS_EXAMPLE)?;
            let property = NumberProperty { name, is_money: false };
            return Some(vec![NumberExpression::Property(property)]);
        }
    }
    let items = fields.list_of("property", node, TERMS_EXAMPLE)?;
    // Collected before the first `None` ends the reading, so that every fault is recorded.
    let read: Vec<_> = items.iter().map(|item| term(fields, item)).collect();
    let terms: Vec<NumberExpression> = read.into_iter().collect::<Option<_>>()?;
    for (i, (item, term)) in items.iter().zip(&terms).enumerate() {
        if let (NumberExpression::Property(property), true) = (term, terms[..i].contains(term)) {
            let name = &property.name;
            let problem = format!("`{name}` is named twice: name each property once");
            fields.fault(item.line, "property", problem);
            return None;
        }
    }
    Some(terms)
}

fn term(fields: &TableReader<'_, '_>, item: &DocumentNode) -> Option<NumberExpression> {
    if let NodeData::Table(_) = &item.data {
        return expression(fields, "property", item);
    }
    let name = fields.text_of("property", item, TERMS_EXAMPLE)?;
    Some(NumberExpression::Property(NumberProperty { name, is_money: false }))
}

fn properties(
    fields: &TableReader<'_, '_>,
    key: &str,
    node: &DocumentNode,
) -> Option<Vec<NumberProperty>> {
    let items =
        fields.list_of(key, node, "names of properties, such as [\"total\", \"revenue\"]")?;
    let read: Vec<_> =
        items.iter().map(|item| fields.text_of(key, item, PROPERTY_EXAMPLE)).collect();
    let names: Vec<Box<str>> = read.into_iter().collect::<Option<_>>()?;
    Some(names.into_iter().map(|name| NumberProperty { name, is_money: false }).collect())
}
