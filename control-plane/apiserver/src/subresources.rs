//! Subresources that are more than a part of their object, one file each.

pub mod token;
