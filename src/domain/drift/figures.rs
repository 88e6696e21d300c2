//! Drift figures of one feature: tests, distances and changes against training.

use serde::Serialize;

use crate::domain::drift::dependence::{DesignEffects, FeatureDependence};
use crate::domain::drift::output_shift::{RateComparison, RowCount, ShareChange, most_changed};
use crate::domain::drift::statistics::chi_square::{ChiSquareTest, jensen_shannon};
use crate::domain::drift::statistics::contingency_table::{ContingencyTable, shares};
use crate::domain::drift::statistics::kolmogorov_smirnov::KolmogorovSmirnov;
use crate::domain::drift::statistics::psi::StabilityIndex;
use crate::domain::drift::statistics::wasserstein::{BinnedMedian, WassersteinShift};
use crate::domain::drift::unseen::{UnseenShare, compare_sparse};
use crate::domain::drift::window::FeatureCounts;
use crate::domain::model::{FeatureBaseline, FeatureBins, Model};

/// One feature, at training and now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureFigures {
    /// Name of the feature.
    pub feature: Box<str>,
    pub title: Box<str>,
    pub unit: Box<str>,
    pub owner: Box<str>,
    /// Whether the model reads the feature; if not, no score depends on it.
    pub is_read: bool,
    pub before: KnownMissingCounts,
    pub now: KnownMissingCounts,
    /// Effective sample size of the known values now.
    pub effective_sample_size: f64,
    #[serde(skip)]
    pub dependence: FeatureDependence,
    /// Index over the bins of known values; `None` if a side has no known value, or all
    /// are in one bin.
    pub psi: Option<StabilityIndex>,
    pub jensen_shannon: Option<f64>,
    pub missing: Option<RateComparison>,
    /// Share of the known values that no training row had; `None` if the model does not list
    /// the values of training, or without known values.
    pub unseen: Option<UnseenShare>,
    /// Share of the known values in bins too sparse for the test of values; `None` without
    /// rows in such a bin.
    pub rare: Option<RateComparison>,
    pub values: ValueFigures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KnownMissingCounts {
    pub known: u64,
    pub missing: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueFigures {
    Number {
        ks: Option<KolmogorovSmirnov>,
        moved: Option<WassersteinShift>,
        median_before: Option<BinnedMedian>,
        median_now: Option<BinnedMedian>,
        /// The bin with the largest change of its share.
        most_changed: Option<BinChange>,
    },
    Category {
        chi_square: Option<ChiSquareTest>,
        most_changed: Option<CategoryChange>,
    },
}

/// The share of known values above one cut and up to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BinChange {
    pub above: Option<f64>,
    pub up_to: Option<f64>,
    pub before: f64,
    pub now: f64,
}

/// The share of known values in one category.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CategoryChange {
    /// `None`: all categories that training did not count by name.
    pub category: Option<Box<str>>,
    pub before: f64,
    pub now: f64,
}

impl FeatureFigures {
    pub(super) fn of(
        model: &Model,
        reference: &FeatureBaseline,
        before: FeatureCounts<'_>,
        now: FeatureCounts<'_>,
        dependence: FeatureDependence,
    ) -> Self {
        let FeatureDependence { values: effects, missing, unseen } = dependence;
        let def = &model.features()[reference.feature];
        let cells = match &reference.bins {
            FeatureBins::Numbers(_) => ContingencyTable::ordered(before.bins, now.bins, effects),
            FeatureBins::Categories(_) => {
                ContingencyTable::categories(before.bins, now.bins, effects)
            }
        };
        let (rows_before, rows_now) = (KnownMissingCounts::of(before), KnownMissingCounts::of(now));
        Self {
            feature: def.name.clone(),
            title: def.title.clone(),
            unit: def.unit.clone(),
            owner: def.owner.clone(),
            is_read: model.encoder().feature_indices().any(|feature| feature == reference.feature),
            before: rows_before,
            now: rows_now,
            effective_sample_size: effects.effective_sample_size(rows_now.known),
            dependence,
            psi: cells.as_ref().map(StabilityIndex::of),
            jensen_shannon: jensen_shannon(before.bins, now.bins),
            missing: RateComparison::of(
                rows_before.missing_count(),
                rows_now.missing_count(),
                missing,
            ),
            unseen: reference.seen.as_ref().and_then(|seen| {
                UnseenShare::of(seen, rows_before.known, rows_now.count_known(now.unseen), unseen)
            }),
            rare: compare_sparse(&reference.bins, before.bins, now.bins, cells.is_some(), effects),
            values: values(&reference.bins, cells.as_ref(), before.bins, now.bins, effects),
        }
    }

    /// The p-value of the test of known values: PSI for numbers, chi-square for categories.
    pub(crate) fn values_p_value(&self) -> Option<f64> {
        match &self.values {
            ValueFigures::Number { .. } => self.psi.map(|psi| psi.p_value),
            ValueFigures::Category { chi_square, .. } => chi_square.map(|test| test.p_value),
        }
    }
}

impl KnownMissingCounts {
    fn of(counts: FeatureCounts<'_>) -> Self {
        Self { known: counts.known(), missing: counts.missing }
    }

    pub(crate) fn all(self) -> u64 {
        self.known.saturating_add(self.missing)
    }

    /// These rows, of all rows with a known value.
    fn count_known(self, counted: u64) -> RowCount {
        RowCount { counted, all: self.known }
    }

    fn missing_count(self) -> RowCount {
        RowCount { counted: self.missing, all: self.all() }
    }
}

fn values(
    bins: &FeatureBins,
    cells: Option<&ContingencyTable>,
    before: &[u64],
    now: &[u64],
    effects: DesignEffects,
) -> ValueFigures {
    let changed = cells.and_then(|_| most_changed(&shares(before), &shares(now)));
    match bins {
        FeatureBins::Numbers(numbers) => ValueFigures::Number {
            ks: KolmogorovSmirnov::of(before, now, effects),
            moved: WassersteinShift::of(&numbers.cuts, before, now),
            median_before: BinnedMedian::of(&numbers.cuts, before),
            median_now: BinnedMedian::of(&numbers.cuts, now),
            most_changed: changed.map(|ShareChange { index, before, now }| BinChange {
                above: index.checked_sub(1).and_then(|cut| numbers.cuts.get(cut)).copied(),
                up_to: numbers.cuts.get(index).copied(),
                before,
                now,
            }),
        },
        FeatureBins::Categories(categories) => ValueFigures::Category {
            chi_square: cells.map(ChiSquareTest::of),
            most_changed: changed.map(|ShareChange { index, before, now }| CategoryChange {
                category: categories.counts.get(index).map(|(name, _)| name.clone()),
                before,
                now,
            }),
        },
    }
}
