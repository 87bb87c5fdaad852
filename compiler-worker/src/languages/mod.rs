//! The languages programs can be written in: one folder and one row of the table each.

pub mod lang_8f4e;
