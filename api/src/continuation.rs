//! Continue tokens: the place in a collection where the next page of a list begins. Opaque to clients.
//!
//! Never looks at the collection, and never judges whether a token is too old.

use crate::codec;
use crate::json::{Value, json};
use crate::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// As Go's `RawURLEncoding`, which takes what the last symbol says too much.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// The place where the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continue {
    /// The revision of the first page; 0 goes on with what is there by then.
    pub revision: u64,
    /// Last namespace given.
    pub namespace: String,
    /// Last name given.
    pub name: String,
    /// When the token was made, in Unix seconds: a page of an old state is not kept for ever.
    pub at: i64,
}

impl Continue {
    /// As a token.
    #[must_use]
    pub fn encode(&self) -> String {
        let inside = json!({"rv": self.revision, "ns": self.namespace, "name": self.name, "at": self.at});
        BASE64.encode(inside.to_string())
    }

    /// From a token.
    ///
    /// # Errors
    /// 400 for anything that `encode` did not make.
    pub fn decode(token: &str) -> Result<Continue, Status> {
        let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = BASE64.decode(token).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(_) => token.len().saturating_sub(1),
                base64::DecodeError::InvalidPadding => token.find('=').unwrap_or(token.len()),
            };
            bad(&format!("illegal base64 data at input byte {at}"))
        })?;
        let inside = codec::json::parse(&bytes).map_err(|error| bad(&error.to_string()))?;
        let text = |name: &str| inside.get(name)?.as_str().map(str::to_owned);
        let read = || {
            let at = inside.get("at").map_or(Some(0), Value::as_i64)?;
            Some(Continue { revision: inside.get("rv")?.as_u64()?, namespace: text("ns")?, name: text("name")?, at })
        };
        read().ok_or_else(|| bad("server does not recognize this encoded version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_were_made_and_nothing_else_is() {
        let token = Continue { revision: 1 << 62, namespace: "a".into(), name: "é/\"".into(), at: -5 };
        assert_eq!(Continue::decode(&token.encode()), Ok(token));
        for (text, why) in [
            ("%", "illegal base64 data at input byte 0"),
            ("AAA=", "illegal base64 data at input byte 3"),
            ("AAAAA", "illegal base64 data at input byte 4"),
            ("e30", "server does not recognize this encoded version"),
        ] {
            let said = Continue::decode(text).unwrap_err().message;
            assert_eq!(said, format!("invalid continue token: continue key is not valid: {why}"), "{text}");
        }
    }
}
