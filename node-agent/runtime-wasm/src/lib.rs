//! skiff-runtime-wasm
