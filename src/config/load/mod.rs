//! Loading of settings: layers of defaults, file, environment and command line, read with
//! the place of each value so that errors can name it.

pub(crate) mod environment;
pub(crate) mod layers;
pub(crate) mod reader;
