//! The audiences of a workspace, checked and in their order of evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::audience::condition::{AudienceInputs, Condition};
use crate::domain::audience::parser;
use crate::domain::audience::resolve::{Vocabulary, referenced_audiences, segment_literals};
use crate::domain::audience::syntax::{Expression, ExpressionFault};
use crate::domain::audience::time_change::{AudienceSchedule, ForecastSource};
use crate::domain::feature::FeatureSet;
use crate::domain::rescore_schedule::QuietCustomer;
use crate::domain::time::Timestamp;

/// A named rule, as defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceDefinition {
    /// Unique in the workspace, and always the same for one name.
    pub id: i32,
    pub name: Arc<str>,
    pub expression: String,
}

/// Audiences with resolved rules. Default: none.
#[derive(Debug, Default)]
pub struct AudienceSet {
    /// Number of the latest change of a rule; 0 before the first.
    version: i64,
    /// In order of evaluation: an audience comes after those that its rule names.
    audiences: Vec<CompiledAudience>,
    /// Indices in `audiences`, in order of the ids.
    by_id: Vec<usize>,
    schedule: AudienceSchedule,
    reads_value: bool,
}

#[derive(Debug)]
struct CompiledAudience {
    id: i32,
    name: Arc<str>,
    /// A rule that cannot be evaluated, for example because a feature no longer exists, leaves
    /// memberships unchanged.
    rule: Result<Condition, AudienceFault>,
}

/// The reason why a rule cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudienceFault {
    Expression(ExpressionFault),
    /// The rule depends on itself through these audiences, in order.
    Cycle(Vec<Arc<str>>),
}

impl std::fmt::Display for AudienceFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expression(fault) => fault.fmt(f),
            Self::Cycle(names) => {
                write!(f, "the audience depends on itself: {}", names.join(" → "))
            }
        }
    }
}

/// The stored audiences of a customer.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoredAudiences<'a> {
    /// Ascending.
    pub ids: &'a [i32],
    /// Version of the definitions that were evaluated.
    pub version: i64,
}

/// The audiences of one customer.
#[derive(Debug, Clone, Default)]
pub struct CustomerAudiences {
    /// Gives the names; `None` without ids, because threads would contend for the reference count.
    set: Option<Arc<AudienceSet>>,
    /// Version of the definitions that were evaluated: that of `set`, or a later one.
    version: i64,
    /// Ascending.
    ids: Vec<i32>,
}

impl CustomerAudiences {
    /// Version of the definitions that were evaluated.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The ids, ascending.
    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// The names, in order of the ids.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().filter_map(|id| self.set.as_ref()?.name_of(*id))
    }
}

impl AudienceSet {
    /// Parses and resolves the definitions; `version` is that of the latest change of a rule. A faulty
    /// definition has a fault ([`Self::faults`]) and does not affect the others.
    pub fn compile(
        version: i64,
        definitions: &[AudienceDefinition],
        features: &FeatureSet,
    ) -> Arc<Self> {
        let parsed: Vec<Result<Expression, ExpressionFault>> =
            definitions.iter().map(|definition| parser::parse(&definition.expression)).collect();
        let order = EvaluationOrder::find(definitions, &parsed);
        let mut positions = BTreeMap::new();
        for (position, index) in order.sorted.iter().enumerate() {
            positions.insert(&*definitions[*index].name, position);
        }
        let vocabulary = Vocabulary { features, audiences: &positions };
        let mut audiences = Vec::with_capacity(definitions.len());
        for index in &order.sorted {
            let definition = &definitions[*index];
            let rule = match (&parsed[*index], order.cycles.get(index)) {
                (_, Some(cycle)) => Err(AudienceFault::Cycle(cycle.clone())),
                (Err(fault), None) => Err(AudienceFault::Expression(fault.clone())),
                (Ok(expression), None) => {
                    vocabulary.resolve(expression).map_err(AudienceFault::Expression)
                }
            };
            audiences.push(CompiledAudience {
                id: definition.id,
                name: Arc::clone(&definition.name),
                rule,
            });
        }
        let rules = audiences.iter().filter_map(|audience| audience.rule.as_ref().ok());
        let schedule = AudienceSchedule::new(rules.clone(), features);
        let reads_value = rules.clone().any(reads_value);
        let mut by_id: Vec<usize> = (0..audiences.len()).collect();
        by_id.sort_unstable_by_key(|index| audiences[*index].id);
        Arc::new(Self { version, audiences, by_id, schedule, reads_value })
    }

    pub fn version(&self) -> i64 {
        self.version
    }

    /// Whether a rule reads forecasts of customer value.
    pub fn reads_value(&self) -> bool {
        self.reads_value
    }

    /// Ids and names, in order of evaluation.
    pub fn audiences(&self) -> impl ExactSizeIterator<Item = (i32, &str)> {
        self.audiences.iter().map(|audience| (audience.id, &*audience.name))
    }

    /// The names of audiences whose rules cannot be evaluated, with the reasons.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &AudienceFault)> {
        self.audiences
            .iter()
            .filter_map(|audience| Some((&*audience.name, audience.rule.as_ref().err()?)))
    }

    /// The reason why the rule of an audience cannot be evaluated, if any.
    pub fn fault_of(&self, name: &str) -> Option<&AudienceFault> {
        self.faults().find(|(faulty, _)| *faulty == name).map(|(_, fault)| fault)
    }

    /// The audiences with these ids, which must ascend. Ids of deleted audiences are left out.
    pub fn named(self: &Arc<Self>, ids: &[i32]) -> CustomerAudiences {
        let mut ids = ids.to_vec();
        ids.retain(|id| self.name_of(*id).is_some());
        self.membership(self.version, ids)
    }

    fn name_of(&self, id: i32) -> Option<&str> {
        let found = self.by_id.binary_search_by_key(&id, |index| self.audiences[*index].id);
        found.ok().map(|at| &*self.audiences[self.by_id[at]].name)
    }

    /// Evaluates all rules. `before`: the customer's audiences so far, which decide for rules with a
    /// fault. If another replica has evaluated later definitions already, they remain.
    pub fn evaluate(
        self: &Arc<Self>,
        inputs: &AudienceInputs<'_>,
        before: StoredAudiences<'_>,
    ) -> CustomerAudiences {
        if before.version > self.version {
            return self.membership(before.version, before.ids.to_vec());
        }
        let mut is_member = Vec::with_capacity(self.audiences.len());
        for audience in &self.audiences {
            is_member.push(match &audience.rule {
                Ok(condition) => condition.holds(inputs, &is_member),
                Err(_) => before.ids.contains(&audience.id),
            });
        }
        let mut ids = Vec::new();
        for index in &self.by_id {
            if is_member[*index] {
                ids.push(self.audiences[*index].id);
            }
        }
        self.membership(self.version, ids)
    }

    fn membership(self: &Arc<Self>, version: i64, ids: Vec<i32>) -> CustomerAudiences {
        let set = (!ids.is_empty()).then(|| Arc::clone(self));
        CustomerAudiences { set, version, ids }
    }

    /// The features whose jumps can change a membership.
    pub fn features_read(&self) -> &[usize] {
        self.schedule.features_read()
    }

    /// The first instant at which time alone may change a membership of a customer without events,
    /// apart from jumps of features, and at most `no_later`; `None` if there is none. `no_later` must
    /// not be after the next jump of a feature in [`Self::features_read`].
    pub fn next_change_at(
        &self,
        customer: QuietCustomer<'_>,
        features: &FeatureSet,
        forecast: Option<ForecastSource<'_>>,
        no_later: Option<Timestamp>,
    ) -> Option<Timestamp> {
        self.schedule.next_change_at(customer, features, forecast, no_later)
    }
}

/// The segment ids that an expression names, with their positions.
pub fn named_segments(expression: &str) -> Result<Vec<(usize, String)>, ExpressionFault> {
    let parsed = parser::parse(expression)?;
    let literals = segment_literals(&parsed).into_iter();
    Ok(literals.map(|(position, id)| (position, id.to_owned())).collect())
}

/// Whether the rule of an audience names another audience.
pub fn names_audience(expression: &str, audience: &str) -> bool {
    parser::parse(expression).is_ok_and(|parsed| referenced_audiences(&parsed).contains(&audience))
}

fn reads_value(rule: &Condition) -> bool {
    let mut is_found = false;
    rule.for_each_leaf(&mut |leaf| is_found |= leaf.reads_value());
    is_found
}

/// Topological order of definitions, by depth-first search.
struct EvaluationOrder {
    /// Indices of all definitions.
    sorted: Vec<usize>,
    /// Definitions that depend on themselves, with the names on the way.
    cycles: BTreeMap<usize, Vec<Arc<str>>>,
}

struct OrderSearch<'d> {
    definitions: &'d [AudienceDefinition],
    references: Vec<Vec<usize>>,
    is_placed: Vec<bool>,
    path: Vec<usize>,
    order: EvaluationOrder,
}

impl EvaluationOrder {
    fn find(
        definitions: &[AudienceDefinition],
        parsed: &[Result<Expression, ExpressionFault>],
    ) -> Self {
        let mut by_name = BTreeMap::new();
        for (index, definition) in definitions.iter().enumerate() {
            by_name.insert(&*definition.name, index);
        }
        let mut references = Vec::with_capacity(parsed.len());
        for parsed in parsed {
            let names = parsed.as_ref().map(referenced_audiences).unwrap_or_default();
            references.push(names.iter().filter_map(|name| by_name.get(name).copied()).collect());
        }
        let mut search = OrderSearch {
            definitions,
            references,
            is_placed: vec![false; definitions.len()],
            path: Vec::new(),
            order: Self { sorted: Vec::new(), cycles: BTreeMap::new() },
        };
        for index in 0..definitions.len() {
            search.place(index);
        }
        search.order
    }
}

impl OrderSearch<'_> {
    /// Places a definition after those that it names.
    fn place(&mut self, index: usize) {
        if let Some(start) = self.path.iter().position(|on_path| *on_path == index) {
            let cycle = &self.path[start..];
            let on_cycle = cycle.iter().chain([&index]);
            let names: Vec<Arc<str>> =
                on_cycle.map(|at| Arc::clone(&self.definitions[*at].name)).collect();
            for member in cycle {
                self.order.cycles.insert(*member, names.clone());
            }
            return;
        }
        if self.is_placed[index] {
            return;
        }
        self.path.push(index);
        for reference in self.references[index].clone() {
            self.place(reference);
        }
        self.path.pop();
        self.is_placed[index] = true;
        self.order.sorted.push(index);
    }
}
