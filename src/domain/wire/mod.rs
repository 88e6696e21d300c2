//! From bytes to values of the domain: one file a format.

pub mod native;
pub mod rows;

/// Where an event came in: says which form it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// One or an array, in our own form.
    Events,
    /// A line each, in our own form.
    Bulk,
}

impl Door {
    pub const ALL: [Self; 2] = [Self::Events, Self::Bulk];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bulk => "bulk",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|door| door.as_str() == text)
    }
}
