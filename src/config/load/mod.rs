//! Loading of settings: layers of defaults, file, environment and command line. Each value is
//! stored with its origin, so that errors can name it.

pub(crate) mod environment;
pub(crate) mod layers;
pub(crate) mod reader;
