//! Tables and mappings: readers of every format, and the events that mappings make.

mod known_formats;
mod mappings;
mod parquet;
mod readers;
mod support;
