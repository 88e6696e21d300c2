//! Inputs of features: which features are computed from the same events.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::event::EventKind;
use crate::domain::feature::reading::filter::EventFilter;
use crate::domain::feature::set::FeatureSet;
use crate::domain::feature::source::FeatureSource;

/// Features that share inputs, and the number of features that read each input.
struct InputGroup<'s> {
    features: Vec<usize>,
    readers: BTreeMap<&'s str, usize>,
}

impl InputGroup<'_> {
    fn has(&self, name: &str) -> bool {
        self.readers.contains_key(name)
    }

    fn merge(&mut self, other: Self) {
        self.features.extend(other.features);
        for (name, readers) in other.readers {
            *self.readers.entry(name).or_default() += readers;
        }
    }
}

impl FeatureSet {
    /// The input of each feature by its name: the trait, or the event from which it is computed.
    /// Features that share an event, directly or through others, have one input, which is the
    /// event that most of them read.
    pub fn inputs(&self) -> BTreeMap<Box<str>, Box<str>> {
        let mut groups: Vec<InputGroup<'_>> = Vec::new();
        for feature in 0..self.features.len() {
            let mut names = BTreeSet::new();
            self.add_inputs(feature, &mut names);
            let shares = |group: &InputGroup<'_>| names.iter().any(|name| group.has(name));
            let (shared, mut others): (Vec<_>, Vec<_>) = groups.into_iter().partition(shares);
            let mut joined = InputGroup { features: vec![feature], readers: BTreeMap::new() };
            for name in names {
                joined.readers.insert(name, 1);
            }
            for group in shared {
                joined.merge(group);
            }
            others.push(joined);
            groups = others;
        }
        let mut inputs = BTreeMap::new();
        for group in groups {
            let most_read = group.readers.iter().max_by_key(|(name, readers)| (**readers, *name));
            if let Some((name, _)) = most_read {
                let features = group.features.iter().map(|feature| &self.features[*feature]);
                inputs.extend(features.map(|feature| (feature.name.clone(), (*name).into())));
            }
        }
        inputs
    }

    fn add_inputs<'s>(&'s self, feature: usize, names: &mut BTreeSet<&'s str>) {
        match self.sources[feature] {
            FeatureSource::Trait(index) => {
                names.insert(&self.traits[index].name);
            }
            FeatureSource::Derived(derived) => {
                self.add_inputs(derived.left, names);
                self.add_inputs(derived.right, names);
            }
            FeatureSource::Events(index) => {
                for weighted in &self.event_sources[index].filters {
                    let EventFilter { kind, name } = &weighted.filter;
                    names.insert(match name {
                        Some(name) => name,
                        None => kind.map_or("events", EventKind::as_str),
                    });
                }
            }
        }
    }
}
