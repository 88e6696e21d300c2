//! A slow and simple reference implementation of identity resolution.

use std::collections::{BTreeMap, BTreeSet};

use segmentd::domain::identity::LinkAssertion;

/// The canonical id of each id, from all links.
pub(crate) fn canonical(assertions: &[LinkAssertion], max_ids: usize) -> BTreeMap<String, String> {
    let mut assertions: Vec<&LinkAssertion> = assertions.iter().collect();
    assertions.sort_by(|a, b| {
        (a.asserted_at, a.message_id.as_str()).cmp(&(b.asserted_at, b.message_id.as_str()))
    });
    let mut heard = BTreeSet::new();
    let mut next = BTreeMap::<String, String>::new();
    let mut ids = BTreeSet::new();
    for LinkAssertion { link, .. } in assertions {
        let (from, to) = (link.from.to_string(), link.to.to_string());
        ids.extend([from.clone(), to.clone()]);
        // Only the first link of an id counts.
        if !heard.insert(from.clone()) {
            continue;
        }
        let end = end_of(&next, &to);
        let of = |end: &str| ids.iter().filter(|id| end_of(&next, id) == end).count();
        if end != from && of(&from) + of(&end) <= max_ids {
            next.insert(from, to);
        }
    }
    ids.into_iter().map(|id| (id.clone(), end_of(&next, &id))).collect()
}

fn end_of(next: &BTreeMap<String, String>, id: &str) -> String {
    next.get(id).map_or_else(|| id.to_owned(), |to| end_of(next, to))
}
