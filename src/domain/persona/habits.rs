//! Habits of customers: the hours and weekdays at which they visit and order, and where they visit.

use std::fmt::Write as _;

use crate::domain::feature::FeatureSet;
use crate::domain::presentation::number_format::format_percent;
use crate::domain::time::Timestamp;

/// Fewest active customers whose habits are shown.
pub const LEAST_CUSTOMERS: u64 = 30;
/// Hours of the busiest part of a day.
const BUSIEST_HOURS: usize = 3;
const WEEKDAYS: [&str; 7] =
    ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];

/// Events of some customers. Each customer with an event has weight 1 in all of them together, so that a
/// few very active ones do not decide.
#[derive(Debug, Default)]
pub struct ActivityCounts {
    /// All events.
    pub quarters: Vec<QuarterHour>,
    /// Weight of the page views.
    pub web: f64,
    /// Weight of the screen views.
    pub app: f64,
}

/// Events of a quarter of an hour: the offset of every time zone is a multiple of it.
#[derive(Debug, Clone, Copy)]
pub struct QuarterHour {
    pub begins: Timestamp,
    pub weight: f64,
}

/// When and where customers are active: means over customers of the shares of their events.
#[derive(Debug, Clone, PartialEq)]
pub struct Habits {
    /// Customers with an event.
    pub customers: u64,
    /// By hour of the day; they add up to 1.
    pub hours: [f64; 24],
    /// By weekday, from Monday; they add up to 1.
    pub weekdays: [f64; 7],
    /// Share of views of screens of an app among all views; `None` without views.
    pub app_share: Option<f64>,
}

/// The three hours in a row with most events; they may go past midnight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BusiestHours {
    /// The first hour.
    pub from: usize,
    /// The hour after the last.
    pub until: usize,
    pub share: f64,
}

impl Habits {
    /// In the time zone of the features. `None` with fewer than [`LEAST_CUSTOMERS`] active customers.
    pub fn measure(counts: &ActivityCounts, features: &FeatureSet) -> Option<Self> {
        let customers = counts.quarters.iter().map(|quarter| quarter.weight).sum::<f64>();
        if customers.round() < LEAST_CUSTOMERS as f64 {
            return None;
        }
        let (mut hours, mut weekdays) = ([0.0; 24], [0.0; 7]);
        for quarter in &counts.quarters {
            let local = features.local_hour(quarter.begins);
            hours[local.hour] += quarter.weight / customers;
            weekdays[local.weekday] += quarter.weight / customers;
        }
        let views = counts.web + counts.app;
        Some(Self {
            customers: customers.round() as u64,
            hours,
            weekdays,
            app_share: (views > 0.0).then(|| counts.app / views),
        })
    }

    /// Of equal parts of the day the first.
    pub fn busiest_hours(&self) -> BusiestHours {
        let mut busiest = BusiestHours { from: 0, until: BUSIEST_HOURS, share: -1.0 };
        for from in 0..24 {
            let share = self.share_of_hours(from);
            if share > busiest.share {
                busiest = BusiestHours { from, until: (from + BUSIEST_HOURS) % 24, share };
            }
        }
        busiest
    }

    fn share_of_hours(&self, from: usize) -> f64 {
        (from..from + BUSIEST_HOURS).map(|hour| self.hours[hour % 24]).sum()
    }

    /// These habits beside those of all customers, in words.
    pub fn describe(&self, all: &Self) -> String {
        let BusiestHours { from, until, share } = self.busiest_hours();
        let [here, everywhere] = [share, all.share_of_hours(from)].map(format_percent);
        let mut text = format!(
            "Most active from {from}:00 to {until}:00: {here} of their visits and orders ({everywhere} for \
             all customers)"
        );
        let busiest = (0..7).max_by(|a, b| self.weekdays[*a].total_cmp(&self.weekdays[*b]));
        // Writing to a String cannot fail.
        if let Some(day) = busiest {
            let shares = [self.weekdays[day], all.weekdays[day]].map(format_percent);
            let [here, everywhere] = shares;
            let _ = write!(text, ", and on {}: {here} ({everywhere})", WEEKDAYS[day]);
        }
        if let Some((here, everywhere)) = self.app_share.zip(all.app_share) {
            let [here, everywhere] = [here, everywhere].map(format_percent);
            let _ = write!(text, ". {here} of their visits are in the app ({everywhere})");
        }
        text + "."
    }
}
