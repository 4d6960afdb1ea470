//! What only the embedded store promises: its file, its lock, its failure.
