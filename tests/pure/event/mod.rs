//! Events: wire formats, identity links, volume of sources.

mod content;
mod elements;
mod identity;
pub(crate) mod identity_oracle;
mod json;
mod properties;
mod segment;
mod source_volume;
mod wire;
