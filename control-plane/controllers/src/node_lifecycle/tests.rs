//! Tests of the decisions in the file above.
