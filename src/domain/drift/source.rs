//! Origin of the scores that are compared with the training rows.

/// Origin of the counted scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScoreSource {
    /// Feature rows of stateless scoring requests.
    Rows,
    /// Customers rescored because of new events.
    Events,
    /// A sample of the stored customers, each at most once a day, with or without events.
    Customers,
}

impl ScoreSource {
    pub const ALL: [Self; 3] = [Self::Rows, Self::Events, Self::Customers];
    /// Sources of scores that answer requests; `Customers` are sampled instead.
    pub const ANSWERED: [Self; 2] = [Self::Rows, Self::Events];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Events => "events",
            Self::Customers => "customers",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == text)
    }
}
