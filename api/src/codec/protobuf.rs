//! Protobuf
use super::{DecodeError, Decoded, EncodeError, Strictness};
use crate::schema::SchemaRef;
use serde_json::Value;

/// Decodes
///
/// # Errors
/// x
pub fn decode(_bytes: &[u8], _schema: SchemaRef<'_>, _mode: Strictness) -> Result<Decoded, DecodeError> {
    Err(DecodeError::Syntax(String::new()))
}

/// Encodes
///
/// # Errors
/// x
pub fn encode(_value: &Value, schema: SchemaRef<'_>) -> Result<Vec<u8>, EncodeError> {
    Err(EncodeError::NoProtobuf(schema.def().name.clone()))
}
