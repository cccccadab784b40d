//! Encodings of objects: JSON, YAML and protobuf, each driven by the schema.
//!
//! Never knows what a single kind means.
