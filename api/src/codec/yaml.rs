//! YAML
use super::{DecodeError, Decoded, Strictness, json};
use crate::schema::SchemaRef;
use serde_json::Value;

/// Decodes
///
/// # Errors
/// x
pub fn decode(bytes: &[u8], schema: SchemaRef<'_>, mode: Strictness) -> Result<Decoded, DecodeError> {
    let value: Value = serde_yaml_ng::from_slice(bytes).map_err(|e| DecodeError::Syntax(e.to_string()))?;
    json::decode(&serde_json::to_vec(&value).unwrap_or_default(), schema, mode)
}

/// Encodes
#[must_use]
pub fn encode(value: &Value, schema: SchemaRef<'_>) -> Vec<u8> {
    let bytes = json::encode(value, schema);
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    serde_yaml_ng::to_string(&value).unwrap_or_default().into_bytes()
}
