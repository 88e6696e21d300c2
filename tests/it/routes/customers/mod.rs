//! Customers: current assignment, history, features, links, changes, export.

mod assignments;
mod changes;
mod customer;
mod features;
mod links;
