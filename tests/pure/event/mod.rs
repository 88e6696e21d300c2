//! Events: wire formats, identity links, volume of sources.

mod content;
mod identity;
pub(crate) mod identity_oracle;
mod segment;
mod source_volume;
mod wire;
