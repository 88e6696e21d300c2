//! The stages of a model, and the gates between them.

use proptest::prelude::*;
use segmentd::domain::deployment::lifecycle::{
    GateEvidence, GateResult, GateThresholds, ModelStage, StageTransition, SystematicSampler,
    TransitionRefusal, is_in_canary,
};
use segmentd::domain::drift::RowCount;
use segmentd::domain::id::{CustomerKey, ModelId};
use serde_json::json;

const MOVES: [StageTransition; 5] = [
    StageTransition::Shadow,
    StageTransition::Canary,
    StageTransition::Promote,
    StageTransition::Retire,
    StageTransition::Reject,
];

const ASKED: GateThresholds = GateThresholds {
    reproducibility: 0.1,
    score_loss: 0.1,
    jaccard: 0.5,
    smallest_share: 0.01,
    outlier_deviations: 4.0,
    relabelled: 0.4,
    backtest_lift: 0.0,
    shadow_customers: 100,
    shadow_agreement: 0.8,
    require_figures: true,
};

fn good() -> GateEvidence {
    GateEvidence {
        reproducibility: Some(0.3),
        score: Some(0.3),
        jaccard: Some(0.9),
        smallest_share: Some(0.1),
        outliers: Some(RowCount { counted: 10, all: 1000 }),
        active_score: Some(0.35),
        relabelled_share: Some(0.2),
        backtest_lift: None,
        shadow_customers: 100,
        shadow_agreement: Some(0.9),
    }
}

fn gate(passed: bool) -> GateResult {
    GateResult { gate: "reproducibility", asked: 0.5, found: Some(0.4), passed, why: "said".into() }
}

#[test]
fn only_the_listed_transitions_are_legal() {
    use ModelStage::{Active, Canary, Candidate, Retired, Shadow};
    // In the order of `MOVES`.
    let table = [
        (Candidate, [Some(Shadow), Some(Canary), Some(Active), Some(Retired), Some(Retired)]),
        (Shadow, [Some(Shadow), Some(Canary), Some(Active), Some(Retired), Some(Retired)]),
        (Canary, [None, Some(Canary), Some(Active), Some(Retired), Some(Retired)]),
        (Active, [None, None, Some(Active), None, None]),
        (Retired, [Some(Shadow), Some(Canary), Some(Active), None, None]),
    ];
    for (stage, after) in table {
        assert_eq!(ModelStage::parse(stage.as_str()), Some(stage));
        for (step, expected) in MOVES.into_iter().zip(after) {
            let found = stage.apply_transition(step, &[gate(true)]);
            assert_eq!(found.clone().ok(), expected, "{stage} {step}");
            assert!(
                expected.is_some() || matches!(found, Err(TransitionRefusal::NoSuchTransition(_)))
            );
            // A gate makes no transition legal, and can refuse every legal one.
            match stage.apply_transition(step, &[gate(true), gate(false)]) {
                Err(TransitionRefusal::Gates(refusing)) => {
                    assert!(expected.is_some());
                    assert_eq!(refusing, [gate(false)]);
                }
                other => assert!(expected.is_none() && other == found, "{stage} {step}"),
            }
        }
    }
    assert_eq!(ModelStage::parse("rejected"), None);
}

#[test]
fn each_gate_refuses_by_its_own_figure_alone() {
    let names = |evidence: &GateEvidence| -> Vec<&'static str> {
        let gates = ASKED.gates(evidence, 0.01);
        gates.iter().filter(|gate| !gate.passed).map(|gate| gate.gate).collect()
    };
    assert_eq!(names(&good()), [""; 0]);
    let with = |change: fn(&mut GateEvidence)| {
        let mut evidence = good();
        change(&mut evidence);
        names(&evidence)
    };
    assert_eq!(with(|e| e.jaccard = Some(0.49)), ["jaccard"]);
    assert_eq!(with(|e| e.smallest_share = Some(0.009)), ["smallest_share"]);
    assert_eq!(with(|e| e.active_score = Some(0.41)), ["score_loss"]);
    assert_eq!(with(|e| e.relabelled_share = Some(0.41)), ["relabelled"]);
    assert_eq!(with(|e| e.outliers = Some(RowCount { counted: 60, all: 1000 })), ["outlier_rate"]);
    assert_eq!(with(|e| e.shadow_customers = 99), ["shadow_customers"]);
    assert_eq!(with(|e| e.shadow_agreement = Some(0.79)), ["shadow_agreement"]);
    assert_eq!(with(|e| e.reproducibility = Some(0.05)), ["reproducibility"]);
    // Without evidence every gate with a limit refuses, except for those that need another
    // model.
    let nothing = GateEvidence::default();
    assert_eq!(
        names(&nothing),
        [
            "reproducibility",
            "jaccard",
            "smallest_share",
            "outlier_rate",
            "shadow_customers",
            "shadow_agreement"
        ]
    );
    // A back-test needs earlier models.
    let predictive = GateThresholds { backtest_lift: 1.2, ..ASKED };
    for (lift, passed) in [(None, true), (Some(1.2), true), (Some(1.19), false)] {
        let gates = predictive.gates(&GateEvidence { backtest_lift: lift, ..good() }, 0.01);
        let gate = gates.iter().find(|gate| gate.gate == "backtest_lift").unwrap();
        assert_eq!((gate.passed, gate.found), (passed, lift), "{}", gate.why);
    }
    let lenient = GateThresholds { require_figures: false, shadow_customers: 0, ..ASKED };
    assert!(lenient.gates(&nothing, 0.01).iter().all(|gate| gate.passed && gate.found.is_none()));
}

#[test]
fn evidence_is_read_from_the_report_of_a_run() {
    let report = json!({
        "sizes": [60, 30, 5],
        "unassigned": 5,
        "outliers": { "checks": [
            { "alpha": 0.05, "rows": 40, "flagged": 3 },
            { "alpha": 0.01, "rows": 40, "flagged": 1 },
        ] },
        "leaderboard": { "entries": [{
            "criteria": { "reproducibility": { "value": 0.9 } },
            "score": { "value": 0.42 },
            "figures": { "stability": { "mean_jaccard": 0.8 } },
        }] },
    });
    let evidence = GateEvidence::from_report(&report, 0.01);
    assert_eq!(
        evidence,
        GateEvidence {
            reproducibility: Some(0.9),
            score: Some(0.42),
            jaccard: Some(0.8),
            smallest_share: Some(0.05),
            outliers: Some(RowCount { counted: 1, all: 40 }),
            ..GateEvidence::default()
        }
    );
    assert_eq!(GateEvidence::from_report(&json!({}), 0.01), GateEvidence::default());
    assert_eq!(GateEvidence::from_report(&report, 0.02).outliers, None);
}

proptest! {
    #[test]
    fn a_customer_in_a_canary_stays_while_it_grows(
        seed in any::<u64>(), small in 0.0..=1.0_f64, more in 0.0..=1.0_f64,
    ) {
        let model = ModelId::of(&seed.to_be_bytes());
        let large = small + (1.0 - small) * more;
        let mut within = 0;
        for number in 0..200 {
            let customer = CustomerKey::try_from(format!("c{number}")).unwrap();
            let is_in = is_in_canary(&model, small, &customer);
            within += u32::from(is_in);
            prop_assert!(!is_in || is_in_canary(&model, large, &customer));
            prop_assert!(!is_in_canary(&model, 0.0, &customer));
            prop_assert!(is_in_canary(&model, 1.0, &customer));
        }
        // Six standard deviations.
        let band = 6.0 * (200.0 * small * (1.0 - small)).sqrt() + 1.0;
        prop_assert!((f64::from(within) - 200.0 * small).abs() <= band);
    }

    #[test]
    fn a_picker_picks_its_share_evenly(per_cent in 0_u32..=100, from in 0_u64..5_000_000) {
        let picker = SystematicSampler::new(f64::from(per_cent) / 100.0);
        let picked = (from..from + 1000).filter(|turn| picker.picks(*turn)).count();
        prop_assert!(picked.abs_diff(per_cent as usize * 10) <= 1);
    }
}

/// The documented hash, compared with `printf '%s/%s' $(printf 0%.0s {1..64}) c1 |
/// sha256sum | cut -c1-8`.
#[test]
fn the_hash_of_a_canary_is_the_documented_one() {
    let model: ModelId = "0".repeat(64).parse().unwrap();
    let customer = CustomerKey::try_from("c1".to_owned()).unwrap();
    let first = f64::from(HASH_OF_C1) / f64::from(u32::MAX);
    assert!(!is_in_canary(&model, first - 1e-6, &customer));
    assert!(is_in_canary(&model, first + 1e-6, &customer));
}

/// Its first four bytes.
const HASH_OF_C1: u32 = 0xf9d0_60ce;
