//! Whose scores are compared with the training.

/// Where what is counted comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Feature rows, as they were sent.
    Rows,
    /// Customers with new events.
    Events,
    /// Stored customers, each at most once a day, whether or not anything happened.
    Customers,
}

impl Source {
    pub const ALL: [Self; 3] = [Self::Rows, Self::Events, Self::Customers];
    /// Those who were answered; customers are drawn, whoever asks.
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
