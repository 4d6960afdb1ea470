//! One verb a file.

pub mod body;
