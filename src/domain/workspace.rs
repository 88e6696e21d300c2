//! Workspaces: isolated tenants or brands.

/// Identifier of a workspace. Customers, events, models, keys and alerts belong to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkspaceId(i32);

impl WorkspaceId {
    /// The workspace `default`, which every database has.
    pub const DEFAULT: Self = Self(1);

    /// The number under which the workspace is stored.
    pub const fn number(self) -> i32 {
        self.0
    }
}
