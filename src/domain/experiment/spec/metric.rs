//! Metrics of experiments, measured from stored events.

use serde::{Deserialize, Serialize};

use crate::domain::experiment::spec::MAX_METRICS;
use crate::domain::fault::{ValidationFault, ValidationFaults};
use crate::domain::feature::FeatureSet;
use crate::domain::text::check_name;

/// How the events of a customer become an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Share of the customers with such an event.
    Proportion,
    /// Events per customer, or the sum of a property per customer.
    Mean,
    /// Sum over all customers divided by another sum, such as revenue per order.
    Ratio,
}

impl MetricKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proportion => "proportion",
            Self::Mean => "mean",
            Self::Ratio => "ratio",
        }
    }
}

/// Events of one name: their number, or the sum of a property.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricSource {
    /// Name of `track` events.
    pub event: Box<str>,
    /// Numeric property to add up; `None`: count the events.
    pub property: Option<Box<str>>,
}

impl MetricSource {
    /// Whether the property is money; `None` for a number of events and for a property that is not
    /// stored.
    fn is_money(&self, features: &FeatureSet) -> Option<bool> {
        let property = self.property.as_deref()?;
        Some(features.stored_number(&self.event, property)?.is_money)
    }
}

/// A metric of an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeMetric {
    pub name: Box<str>,
    pub kind: MetricKind,
    pub source: MetricSource,
    /// Denominator of a ratio; `None` for other kinds.
    pub denominator: Option<MetricSource>,
    /// For a mean: sum to subtract for each customer, such as campaign costs.
    pub minus: Option<MetricSource>,
    /// Winsorisation (Dixon 1960): values above this quantile of the customers with a value above 0 are
    /// replaced by it, so that a few customers do not decide. Only for means.
    pub cap_quantile: Option<f64>,
}

/// Checks all that needs no feature set.
pub(super) fn find_faults(metrics: &[OutcomeMetric], faults: &mut ValidationFaults) {
    if !(1..=MAX_METRICS).contains(&metrics.len()) {
        let problem = format!("must have 1 to {MAX_METRICS} metrics; it has {}", metrics.len());
        faults.push(ValidationFault::new("metrics", problem));
    }
    for (index, metric) in metrics.iter().enumerate() {
        let path = format!("metrics[{index}]");
        faults.0.extend(check_name(&format!("{path}.name"), &metric.name).err());
        if metrics[..index].iter().any(|other| other.name == metric.name) {
            let problem = format!("must be unique; `{}` is used twice", metric.name);
            faults.push(ValidationFault::new(format!("{path}.name"), problem));
        }
        metric.find_kind_faults(&path, faults);
    }
}

impl OutcomeMetric {
    fn find_kind_faults(&self, path: &str, faults: &mut ValidationFaults) {
        let kind = self.kind.as_str();
        if self.kind == MetricKind::Proportion && self.source.property.is_some() {
            let problem = "must be left out: a proportion counts customers with an event; use the kind `mean` for the sum of a property";
            faults.push(ValidationFault::new(format!("{path}.property"), problem));
        }
        match (self.kind, &self.denominator) {
            (MetricKind::Ratio, None) => {
                let problem = "is missing: a ratio needs the name of the events of its denominator";
                faults.push(ValidationFault::new(format!("{path}.denominator_event"), problem));
            }
            (MetricKind::Proportion | MetricKind::Mean, Some(_)) => {
                let problem = format!("must be left out: the kind `{kind}` has no denominator");
                faults.push(ValidationFault::new(format!("{path}.denominator_event"), problem));
            }
            _ => {}
        }
        if self.kind != MetricKind::Mean && self.minus.is_some() {
            let problem = format!("must be left out: it is only for the kind `mean`, not `{kind}`");
            faults.push(ValidationFault::new(format!("{path}.minus_event"), problem));
        }
        if let Some(quantile) = self.cap_quantile {
            let path = format!("{path}.cap_quantile");
            if self.kind != MetricKind::Mean {
                let problem =
                    format!("must be left out: it is only for the kind `mean`, not `{kind}`");
                faults.push(ValidationFault::new(path, problem));
            } else if !(0.5..1.0).contains(&quantile) {
                let problem = format!("must be at least 0.5 and below 1; it is {quantile}");
                faults.push(ValidationFault::new(path, problem));
            }
        }
    }

    /// The sources, each with the field that names its events and the field that names its property.
    pub fn sources(&self) -> impl Iterator<Item = (&MetricSource, [&'static str; 2])> {
        let denominator = self.denominator.iter();
        let denominator =
            denominator.map(|one| (one, ["denominator_event", "denominator_property"]));
        let minus = self.minus.iter().map(|one| (one, ["minus_event", "minus_property"]));
        std::iter::once((&self.source, ["event", "property"])).chain(denominator).chain(minus)
    }

    /// Checks that both sums of a difference have the same unit.
    fn find_unit_faults(&self, path: &str, features: &FeatureSet, faults: &mut ValidationFaults) {
        let Some(minus) = &self.minus else { return };
        let problem = match (&self.source.property, &minus.property) {
            (Some(_), None) => "is missing: a number of events cannot be subtracted from a sum",
            (None, Some(_)) => {
                "must be left out: a sum cannot be subtracted from a number of events"
            }
            _ if self.source.is_money(features) != minus.is_money(features) => {
                "must be declared as money in the feature set if `property` is, and only then: \
                 amounts in different currencies cannot be subtracted"
            }
            _ => return,
        };
        faults.push(ValidationFault::new(format!("{path}.minus_property"), problem));
    }

    /// Checks if the events and properties are stored: only those that a feature reads are. `path`: of
    /// the metric in the definition.
    pub fn find_storage_faults(
        &self,
        path: &str,
        features: &FeatureSet,
        is_name_stored: &dyn Fn(&str) -> bool,
        faults: &mut ValidationFaults,
    ) {
        self.find_unit_faults(path, features, faults);
        for (source, [event_field, property_field]) in self.sources() {
            let event = &*source.event;
            if event.trim().is_empty() {
                let problem = "must not be blank: write the name of the events";
                faults.push(ValidationFault::new(format!("{path}.{event_field}"), problem));
            } else if !features.reads_event_name(event) && !is_name_stored(event) {
                let problem = format!(
                    "no feature reads events named `{event}`, so they are stored without their \
                     name: declare a feature that reads them, or add the name to \
                     ingestion.stored_event_names"
                );
                faults.push(ValidationFault::new(format!("{path}.{event_field}"), problem));
            } else if let Some(property) = source.property.as_deref()
                && features.stored_number(event, property).is_none()
            {
                let stored = match &*features.stored_numbers(event) {
                    [] => String::new(),
                    names => format!("; stored numbers are {}", names.join(", ")),
                };
                let problem = format!(
                    "no feature reads `{property}` of `{event}` as one number of the event, so it \
                     is not stored as such: declare a feature that reads it{stored}"
                );
                faults.push(ValidationFault::new(format!("{path}.{property_field}"), problem));
            }
        }
    }
}
