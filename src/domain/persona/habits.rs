//! Habits of customers: the hours, weekdays and channels of their events.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::domain::model::MINIMUM_REPORTED_CUSTOMERS;
use crate::domain::presentation::number_format::format_percent;

/// Fewest active customers whose habits are shown.
pub const LEAST_CUSTOMERS: u64 = 30;
/// Hours of the busiest part of a day.
const BUSIEST_HOURS: usize = 3;
const WEEKDAYS: [&str; 7] =
    ["Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"];

/// Activity of customers in one hour of one weekday on one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivityCell {
    /// 0 to 23, in local time.
    pub hour: usize,
    /// 0 for Monday, to 6.
    pub weekday: usize,
    /// `None`: not known.
    pub channel: Option<Box<str>>,
    /// Sum over the customers of the share of their events: each active customer has 1 in all cells
    /// together, so that a few very active ones do not decide.
    pub weight: f64,
}

/// When and where customers are active, as the mean over customers of the shares of their events.
#[derive(Debug, Clone, PartialEq)]
pub struct Habits {
    /// Customers with an event.
    pub customers: u64,
    /// By hour of the day; they add up to 1.
    pub hours: [f64; 24],
    /// By weekday, from Monday; they add up to 1.
    pub weekdays: [f64; 7],
    /// Channels of at least five customers, and the rest as `other`, largest share of the events with
    /// a channel first; empty without any.
    pub channels: Vec<ChannelShare>,
}

/// Use of one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelShare {
    pub channel: Box<str>,
    pub share: f64,
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
    /// `None` with fewer than [`LEAST_CUSTOMERS`] active customers.
    pub fn measure(cells: &[ActivityCell]) -> Option<Self> {
        let customers = cells.iter().map(|cell| cell.weight).sum::<f64>();
        if customers.round() < LEAST_CUSTOMERS as f64 {
            return None;
        }
        let (mut hours, mut weekdays) = ([0.0; 24], [0.0; 7]);
        let mut channels: BTreeMap<&str, f64> = BTreeMap::new();
        for cell in cells {
            hours[cell.hour % 24] += cell.weight / customers;
            weekdays[cell.weekday % 7] += cell.weight / customers;
            if let Some(channel) = &cell.channel {
                *channels.entry(channel).or_default() += cell.weight;
            }
        }
        let channels = channel_shares(&channels);
        Some(Self { customers: customers.round() as u64, hours, weekdays, channels })
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

    /// `None` if fewer than five customers use the channel.
    pub fn share_of_channel(&self, channel: &str) -> Option<f64> {
        Some(self.channels.iter().find(|one| &*one.channel == channel)?.share)
    }

    /// These habits beside those of all customers, in words.
    pub fn describe(&self, all: &Self) -> String {
        let BusiestHours { from, until, share } = self.busiest_hours();
        let [here, everywhere] = [share, all.share_of_hours(from)].map(format_percent);
        let mut text = format!(
            "Most active from {from}:00 to {until}:00: {here} of their events ({everywhere} for all \
             customers)"
        );
        // Writing to a String cannot fail.
        let busiest = (0..7).max_by(|a, b| self.weekdays[*a].total_cmp(&self.weekdays[*b]));
        if let Some(day) = busiest {
            let shares = [self.weekdays[day], all.weekdays[day]].map(format_percent);
            let [here, everywhere] = shares;
            let _ = write!(text, ", and on {}: {here} ({everywhere})", WEEKDAYS[day]);
        }
        if let Some(first) = self.channels.first() {
            let everywhere = all.share_of_channel(&first.channel).unwrap_or_default();
            let [here, everywhere] = [first.share, everywhere].map(format_percent);
            let _ = write!(text, ". Mostly by {}: {here} ({everywhere})", first.channel);
        }
        text + "."
    }
}

fn channel_shares(weights: &BTreeMap<&str, f64>) -> Vec<ChannelShare> {
    let known = weights.values().sum::<f64>();
    let mut channels: Vec<ChannelShare> = Vec::new();
    let mut other = 0.0;
    for (channel, weight) in weights {
        if *weight >= MINIMUM_REPORTED_CUSTOMERS as f64 {
            channels.push(ChannelShare { channel: (*channel).into(), share: weight / known });
        } else {
            other += weight;
        }
    }
    // A stable sort: of equal channels the first by name.
    channels.sort_by(|a, b| b.share.total_cmp(&a.share));
    if other > 0.0 && !channels.is_empty() {
        channels.push(ChannelShare { channel: "other".into(), share: other / known });
    }
    channels
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ActivityCell, Habits};

    fn cell(hour: usize, weekday: usize, channel: Option<&str>, weight: f64) -> ActivityCell {
        ActivityCell { hour, weekday, channel: channel.map(Into::into), weight }
    }

    #[test]
    fn habits_are_said_beside_those_of_all() {
        let evening = [
            cell(23, 5, Some("app"), 20.0),
            cell(0, 6, Some("app"), 10.0),
            cell(9, 0, Some("web"), 6.0),
            cell(9, 0, Some("kiosk"), 2.0),
            cell(9, 0, None, 2.0),
        ];
        let own = Habits::measure(&evening).unwrap();
        assert_eq!(own.customers, 40);
        let found = own.busiest_hours();
        assert_eq!((found.from, found.until), (22, 1));
        assert!((found.share - 0.75).abs() < 1e-12);
        let names: Vec<&str> = own.channels.iter().map(|one| &*one.channel).collect();
        assert_eq!(names, ["app", "web", "other"]);
        let all = Habits::measure(&[cell(9, 0, Some("web"), 60.0), cell(23, 5, Some("app"), 40.0)]);
        assert_eq!(
            own.describe(&all.unwrap()),
            "Most active from 22:00 to 1:00: 75 % of their events (40 % for all customers), and on \
             Saturdays: 50 % (40 %). Mostly by app: 79 % (40 %)."
        );
        // A few customers are never described.
        assert_eq!(Habits::measure(&evening[1..3]), None);
        assert_eq!(Habits::measure(&[]), None);
    }

    proptest! {
        #[test]
        fn shares_add_up(
            weights in prop::collection::vec((0_usize..24, 0_usize..7, 0_usize..4, 0.1..50.0_f64), 0..60)
        ) {
            let cells: Vec<ActivityCell> = weights
                .iter()
                .map(|(hour, day, channel, weight)| {
                    cell(*hour, *day, ["web", "app", "till"].get(*channel).copied(), *weight)
                })
                .collect();
            if let Some(habits) = Habits::measure(&cells) {
                prop_assert!((habits.hours.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                prop_assert!((habits.weekdays.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                let channels: f64 = habits.channels.iter().map(|one| one.share).sum();
                prop_assert!(habits.channels.is_empty() || (channels - 1.0).abs() < 1e-9);
                let busiest = habits.busiest_hours().share;
                prop_assert!((0.125..=1.0 + 1e-9).contains(&busiest));
            }
        }
    }
}
