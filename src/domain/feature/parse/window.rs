//! First pass over the key `window`.

use crate::domain::feature::parse::document::NodeData;
use crate::domain::feature::parse::fields::TableReader;
use crate::domain::feature::window::TimeWindow;

const MAX_ROLLING_DAYS: u32 = 3650;
const HALF_LIFE_DAYS: std::ops::RangeInclusive<f64> = 0.5..=730.0;

/// The windows that a fold supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AllowedWindows {
    /// No window: the fold covers the whole past.
    None,
    LifetimeOrRolling,
    All,
}

/// Parses the window of a fold of this name.
pub(super) fn window(
    fields: &mut TableReader<'_, '_>,
    fold: &str,
    windows: AllowedWindows,
) -> Option<TimeWindow> {
    let allowed = match windows {
        AllowedWindows::None => {
            if fields.peek("window").is_some()
                && let Some(node) = fields.get("window")
            {
                let problem = format!(
                    "must be left out: fold `{fold}` takes no window, as it covers the whole past"
                );
                fields.fault(node.line, "window", problem);
            }
            return Some(TimeWindow::Lifetime);
        }
        AllowedWindows::LifetimeOrRolling => "\"lifetime\" or { rolling_days = 28 }",
        AllowedWindows::All => "\"lifetime\", { rolling_days = 28 } or { half_life_days = 30 }",
    };
    let Some(node) = fields.get("window") else { return Some(TimeWindow::Lifetime) };
    match &node.data {
        NodeData::Text(text) if &**text == "lifetime" => return Some(TimeWindow::Lifetime),
        NodeData::Table(entries) if entries.len() == 1 => {}
        _ => {
            let problem = format!("must be {allowed}, for fold `{fold}`");
            fields.fault(node.line, "window", problem);
            return None;
        }
    }
    let mut inner = fields.table_of("window", node)?;
    let rolling = inner.get("rolling_days");
    let half_life = if windows == AllowedWindows::All { inner.get("half_life_days") } else { None };
    let window = if let Some(node) = rolling {
        inner.whole_of("rolling_days", node, 1, MAX_ROLLING_DAYS).map(TimeWindow::RollingDays)
    } else if let Some(node) = half_life {
        let (least, most) = (HALF_LIFE_DAYS.start(), HALF_LIFE_DAYS.end());
        let range = format!("a number of days from {least} to {most}");
        inner
            .number_of("half_life_days", node, &range, |days| HALF_LIFE_DAYS.contains(&days))
            .map(TimeWindow::HalfLifeDays)
    } else {
        None
    };
    inner.finish(&format!("the window of fold `{fold}`"));
    window
}
