//! Second pass: resolves and checks references between tables.

use std::sync::Arc;

use crate::domain::feature::define::{
    FeatureDefinition, FeatureEncoding, MissingValueRule, NumberTransform, Sensitivity,
    TraitDefinition, ValueType,
};
use crate::domain::feature::orders::rules::OrderRules;
use crate::domain::feature::parse::declaration::{
    DraftEncoding, DraftFeature, DraftScored, DraftTrait,
};
use crate::domain::feature::parse::fields::{FaultSink, LocatedName, did_you_mean};
use crate::domain::feature::parse::reach;
use crate::domain::feature::parse::source::{DraftDerivation, DraftOrderSource, DraftSource};
use crate::domain::feature::parse::{DraftDeclarations, FeatureDeclarations, OptionalTable};
use crate::domain::feature::rfm::{RfmInput, RfmRules};
use crate::domain::feature::source::{
    DerivationRule, DerivedFeature, EventFeatureSource, FeatureFold, FeatureSource, WeightedFilter,
};
use crate::domain::feature::zone::DayZone;

/// Returns `None` if any part is `None`; each such part has recorded a fault.
pub(super) fn resolve(
    declared: DraftDeclarations,
    faults: &FaultSink,
) -> Option<FeatureDeclarations> {
    let DraftDeclarations { traits, mut features, rfm, settings } = declared;
    refuse_duplicates(traits.iter().map(|t| (&t.path, t.name.as_ref())), faults);
    refuse_duplicates(features.iter().map(|f| (&f.path, f.name.as_ref())), faults);
    resolve_orders(&mut features, &settings.orders, faults);
    refuse_mixed_types(&features, faults);
    reach::refuse_unreachable_numbers(&features, faults);
    let mut tables =
        ParsedTables { traits: &traits, features: &features, sources: Vec::new(), faults };
    tables.sources = (0..features.len()).map(|i| tables.source(i)).collect();
    let derived = tables.derived_in_order();
    let never_negative = tables.never_negative(&derived);
    for (i, never_negative) in never_negative.into_iter().enumerate() {
        tables.check_sensitivity(i);
        tables.check_encoding(i, never_negative);
    }
    let rfm = rfm.and_then(|rfm| {
        let [recency, frequency, monetary] =
            [rfm.recency, rfm.frequency, rfm.monetary].map(|scored| tables.scored(scored?));
        Some(RfmRules { recency: recency?, frequency: frequency?, monetary: monetary? })
    });
    let sources: Option<Vec<FeatureSource>> = tables.sources.into_iter().collect();
    let traits: Option<Vec<TraitDefinition>> = traits.into_iter().map(|t| t.def).collect();
    let mut event_sources = Vec::new();
    let mut defs = Vec::with_capacity(features.len());
    for feature in features {
        let (def, event_source) = complete(feature)?;
        defs.push(def);
        event_sources.extend(event_source);
    }
    let money = match settings.money {
        OptionalTable::Absent => None,
        OptionalTable::Faulty => return None,
        OptionalTable::Read(money) => Some(money),
    };
    let zone = match settings.zone {
        OptionalTable::Absent => DayZone::Utc,
        OptionalTable::Faulty => return None,
        OptionalTable::Read(zone) => zone,
    };
    let orders = match settings.orders {
        OptionalTable::Absent | OptionalTable::Faulty => None,
        OptionalTable::Read(rules) => Some(rules),
    };
    if let Some(money) = &money {
        for source in &mut event_sources {
            money.mark(source);
        }
    }
    Some(FeatureDeclarations {
        traits: traits?,
        features: defs,
        sources: sources?,
        event_sources,
        derived,
        rfm: rfm?,
        orders,
        zone,
        money,
    })
}

/// Replaces the folds over orders by event sources with the rules of `[orders]`.
fn resolve_orders(
    features: &mut [DraftFeature],
    rules: &OptionalTable<Arc<OrderRules>>,
    faults: &FaultSink,
) {
    for feature in features {
        let Some(DraftSource::Orders(draft)) = &feature.source else { continue };
        if matches!(rules, OptionalTable::Absent) {
            let problem = "must be an event filter, or declare the table `[orders]`";
            faults.add(draft.line, format!("{}.from", feature.path), problem);
        }
        feature.source = match rules {
            OptionalTable::Read(rules) => {
                Some(DraftSource::Events(order_source(Arc::clone(rules), draft)))
            }
            OptionalTable::Absent | OptionalTable::Faulty => None,
        };
    }
}

fn order_source(rules: Arc<OrderRules>, draft: &DraftOrderSource) -> EventFeatureSource {
    let mut filters: Vec<WeightedFilter> = Vec::with_capacity(rules.events.len());
    for rule in &rules.events {
        let filter = WeightedFilter { filter: rule.filter.clone(), weight: 1.0 };
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    EventFeatureSource {
        filters,
        each: None,
        conditions: Vec::new(),
        fold: FeatureFold::Orders { rules, fold: draft.fold },
        window: draft.window,
        floor: None,
    }
}

/// All parsed tables, with sources by index as far as they could be resolved.
struct ParsedTables<'d> {
    traits: &'d [DraftTrait],
    features: &'d [DraftFeature],
    sources: Vec<Option<FeatureSource>>,
    faults: &'d FaultSink,
}

impl ParsedTables<'_> {
    fn source(&self, feature: usize) -> Option<FeatureSource> {
        let draft = &self.features[feature];
        match draft.source.as_ref()? {
            DraftSource::Events(_) => {
                let earlier = self.features[..feature].iter();
                let index = earlier.filter(|feature| feature.event_source().is_some()).count();
                Some(FeatureSource::Events(index))
            }
            DraftSource::Trait(named) => {
                let names = self.traits.iter().map(|t| t.name.as_ref());
                let index = self.find(named, &format!("{}.trait", draft.path), "trait", names)?;
                Some(FeatureSource::Trait(index))
            }
            DraftSource::Derived(draft_derivation) => {
                // Both are resolved before `?`, so that the faults of both are recorded.
                let DraftDerivation { rule, left, right, floor } = draft_derivation;
                let ((_, left_key, right_key), path) = (rule.keys(), &draft.path);
                let left = self.number_feature(left, &format!("{path}.{left_key}"));
                let right = self.number_feature(right, &format!("{path}.{right_key}"));
                Some(FeatureSource::Derived(DerivedFeature {
                    feature,
                    rule: *rule,
                    left: left?,
                    right: right?,
                    floor: *floor,
                }))
            }
            // Without rules, which is a fault.
            DraftSource::Orders(_) => None,
        }
    }

    /// Resolves the name of a numeric feature.
    fn number_feature(&self, named: &LocatedName, path: &str) -> Option<usize> {
        let names = self.features.iter().map(|f| f.name.as_ref());
        let index = self.find(named, path, "feature", names)?;
        if self.kind(index) == Some(ValueType::Text) {
            let problem =
                format!("must name a feature that is a number; `{}` is a text", named.name);
            self.faults.add(named.line, path, problem);
            return None;
        }
        Some(index)
    }

    fn find<'n>(
        &self,
        named: &LocatedName,
        path: &str,
        noun: &str,
        names: impl Iterator<Item = Option<&'n LocatedName>> + Clone,
    ) -> Option<usize> {
        let index = names.clone().position(|n| n.is_some_and(|n| n.name == named.name));
        if index.is_none() {
            let meant = did_you_mean(&named.name, names.flatten().map(|n| &*n.name));
            let problem =
                format!("must name a declared {noun}; there is no `{}`{meant}", named.name);
            self.faults.add(named.line, path, problem);
        }
        index
    }

    /// The value type of a feature, if known.
    fn kind(&self, feature: usize) -> Option<ValueType> {
        match self.features[feature].source.as_ref()? {
            DraftSource::Events(source) => Some(source.kind()),
            DraftSource::Orders(_) | DraftSource::Derived(_) => Some(ValueType::Number),
            DraftSource::Trait(named) => self.read_trait(named)?.kind,
        }
    }

    fn read_trait(&self, named: &LocatedName) -> Option<&DraftTrait> {
        self.traits.iter().find(|t| t.name.as_ref().is_some_and(|n| n.name == named.name))
    }

    /// Topological sort of derived features by dependency. Each cycle is refused once.
    fn derived_in_order(&self) -> Vec<DerivedFeature> {
        let mut waiting: Vec<DerivedFeature> =
            self.sources.iter().filter_map(|source| derived(*source)).collect();
        let mut ordered = Vec::with_capacity(waiting.len());
        loop {
            let (mut blocked, mut ready) = (Vec::new(), Vec::new());
            for next in &waiting {
                let is_blocked = derived_of(next.left, &waiting).is_some()
                    || derived_of(next.right, &waiting).is_some();
                if is_blocked { blocked.push(*next) } else { ready.push(*next) }
            }
            if ready.is_empty() {
                self.refuse_cycles(&blocked);
                return ordered;
            }
            ordered.extend(ready);
            waiting = blocked;
        }
    }

    /// Refuses the cycles among `blocked`. Each feature in it depends on another one in it, so
    /// following the parts from any of them ends in a cycle.
    fn refuse_cycles(&self, blocked: &[DerivedFeature]) {
        let mut seen: Vec<usize> = Vec::new();
        for start in blocked {
            let mut walk: Vec<usize> = Vec::new();
            let mut at = Some(start);
            while let Some(next) = at.filter(|next| !seen.contains(&next.feature)) {
                seen.push(next.feature);
                walk.push(next.feature);
                at = derived_of(next.left, blocked).or_else(|| derived_of(next.right, blocked));
            }
            // The walk ended on a feature of its own: a cycle that was not refused before.
            if let Some(begin) = at.and_then(|r| walk.iter().position(|f| *f == r.feature)) {
                let names: Vec<&str> = walk[begin..]
                    .iter()
                    .chain(&walk[begin..=begin])
                    .map(|f| self.name(*f))
                    .collect();
                let first = &self.features[walk[begin]];
                let Some(DraftSource::Derived(draft)) = &first.source else { continue };
                let (fold, left, _) = draft.rule.keys();
                let problem = format!(
                    "depends on itself ({}): a {fold} must depend, directly or indirectly, on \
                     features with other folds",
                    names.join(" → ")
                );
                self.faults.add(draft.left.line, format!("{}.{left}", first.path), problem);
            }
        }
    }

    fn name(&self, feature: usize) -> &str {
        self.features[feature].name.as_ref().map_or("", |named| &*named.name)
    }

    /// Whether each feature can never be negative.
    fn never_negative(&self, derived: &[DerivedFeature]) -> Vec<bool> {
        let mut never = Vec::with_capacity(self.features.len());
        for feature in self.features {
            never.push(feature.event_source().is_some_and(EventFeatureSource::is_never_negative));
        }
        for derived in derived {
            let is_ratio = derived.rule == DerivationRule::Ratio;
            never[derived.feature] = derived.floor.is_some_and(|floor| floor >= 0.0)
                || is_ratio && never[derived.left] && never[derived.right];
        }
        never
    }

    /// A feature computed from a sensitive feature or trait must be declared sensitive.
    fn check_sensitivity(&self, feature: usize) {
        let draft = &self.features[feature];
        if draft.sensitivity.is_none_or(|s| s == Sensitivity::Sensitive) {
            return;
        }
        let sensitive_input = match &draft.source {
            Some(DraftSource::Trait(named)) => {
                let read = self.read_trait(named);
                read.is_some_and(|t| t.sensitivity == Some(Sensitivity::Sensitive)).then_some(named)
            }
            Some(DraftSource::Derived(DraftDerivation { left, right, .. })) => {
                [left, right].into_iter().find(|part| self.is_sensitive(part))
            }
            _ => None,
        };
        if let Some(LocatedName { name, .. }) = sensitive_input {
            let problem =
                format!("must be \"sensitive\": the feature is computed from `{name}`, which is");
            let path = format!("{}.sensitivity", draft.path);
            self.faults.add(draft.sensitivity_line, path, problem);
        }
    }

    fn is_sensitive(&self, named: &LocatedName) -> bool {
        self.features.iter().any(|feature| {
            feature.sensitivity == Some(Sensitivity::Sensitive)
                && feature.name.as_ref().is_some_and(|other| other.name == named.name)
        })
    }

    fn check_encoding(&self, feature: usize, never_negative: bool) {
        let draft = &self.features[feature];
        let Some(DraftEncoding { line, encoding }) = &draft.encoding else { return };
        if draft.sensitivity == Some(Sensitivity::Sensitive) {
            let problem = "must be left out: a sensitive feature never enters a model";
            self.faults.add(*line, format!("{}.encoding", draft.path), problem);
        }
        let Some(kind) = self.kind(feature) else { return };
        match encoding {
            FeatureEncoding::Number { .. } if kind == ValueType::Text => {
                let problem = "must be \"one-hot\": the feature is a text";
                self.faults.add(*line, format!("{}.encoding.as", draft.path), problem);
            }
            FeatureEncoding::OneHot { .. } if kind == ValueType::Number => {
                let problem = "must be \"number\": the feature is a number";
                self.faults.add(*line, format!("{}.encoding.as", draft.path), problem);
            }
            FeatureEncoding::Number { transform: NumberTransform::Log1p, missing, .. } => {
                if !never_negative {
                    let problem = "must not be \"log1p\", as the feature can be negative: use \
                                   \"yeo-johnson\", or exclude negative values by a `where` \
                                   condition such as { property = \"sales_value\", above = 0 }";
                    self.faults.add(*line, format!("{}.encoding.transform", draft.path), problem);
                }
                if matches!(missing, MissingValueRule::Constant(constant) if *constant < 0.0) {
                    let problem = "must not be below 0 where the transform is \"log1p\"";
                    self.faults.add(*line, format!("{}.missing", draft.path), problem);
                }
            }
            FeatureEncoding::Number { .. } | FeatureEncoding::OneHot { .. } => {}
        }
    }

    fn scored(&self, draft: DraftScored) -> Option<RfmInput> {
        let named = draft.feature?;
        let path = format!("{}.feature", draft.path);
        let index = self.number_feature(&named, &path)?;
        if self.features[index].sensitivity == Some(Sensitivity::Sensitive) {
            let problem = "must not be sensitive: the fallback scores every customer";
            self.faults.add(named.line, path, problem);
        }
        Some(RfmInput { feature: named.name, index, cuts: draft.cuts? })
    }
}

/// The derivation that computes the feature.
fn derived_of(feature: usize, among: &[DerivedFeature]) -> Option<&DerivedFeature> {
    among.iter().find(|derived| derived.feature == feature)
}

fn derived(source: Option<FeatureSource>) -> Option<DerivedFeature> {
    match source {
        Some(FeatureSource::Derived(derived)) => Some(derived),
        _ => None,
    }
}

/// Refuses names that are declared twice.
fn refuse_duplicates<'d>(
    declared: impl Iterator<Item = (&'d String, Option<&'d LocatedName>)>,
    faults: &FaultSink,
) {
    let mut seen: Vec<&LocatedName> = Vec::new();
    for (path, named) in declared {
        let Some(named) = named else { continue };
        match seen.iter().find(|first| first.name == named.name) {
            Some(first) => {
                let before = first.line.map_or_else(String::new, |line| format!(" on line {line}"));
                let problem =
                    format!("`{}` is declared{before} already: choose another", named.name);
                faults.add(named.line, format!("{path}.name"), problem);
            }
            None => seen.push(named),
        }
    }
}

/// Refuses features that read one property of one event as different types, because no event
/// could satisfy both.
fn refuse_mixed_types(features: &[DraftFeature], faults: &FaultSink) {
    let read: Vec<(&DraftFeature, &EventFeatureSource)> =
        features.iter().filter_map(|feature| Some((feature, feature.event_source()?))).collect();
    for (i, (feature, source)) in read.iter().enumerate() {
        let mut refused: Vec<&str> = Vec::new();
        for (earlier, other) in &read[..=i] {
            if !source.overlaps(other) {
                continue;
            }
            for (property, ours) in source.properties() {
                let clash = other
                    .properties()
                    .into_iter()
                    .find(|(name, theirs)| *name == property && ours.common(*theirs).is_none());
                if let Some((_, theirs)) = clash
                    && !refused.contains(&property)
                {
                    refused.push(property);
                    let problem = format!(
                        "reads the property `{property}` as {}, but `{}` reads it as {}: one \
                         property has one type",
                        ours.noun(),
                        earlier.path,
                        theirs.noun()
                    );
                    faults.add(feature.line, feature.path.clone(), problem);
                }
            }
        }
    }
}

/// Completes a feature if all its parts were parsed.
fn complete(draft: DraftFeature) -> Option<(FeatureDefinition, Option<EventFeatureSource>)> {
    let def = FeatureDefinition {
        name: draft.name?.name,
        title: draft.title?,
        segment_words: draft.segment_words,
        unit: draft.unit?,
        owner: draft.owner?,
        sensitivity: draft.sensitivity?,
        encoding: draft.encoding.map(|e| e.encoding),
    };
    match draft.source? {
        DraftSource::Events(source) => Some((def, Some(source))),
        DraftSource::Derived(_) | DraftSource::Trait(_) => Some((def, None)),
        DraftSource::Orders(_) => None,
    }
}
