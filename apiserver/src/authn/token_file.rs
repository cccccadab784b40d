//! Static bearer tokens from `--token-auth-file`: CSV of token, user name, uid and optionally a quoted list of groups.
//!
//! The file is read once; changes need a restart, as upstream.

use super::{Accepted, Authenticator, Remarks, Settings, SettingsError, User};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// Tokens are kept by digest, so that a look-up does not compare secrets byte by byte.
struct TokenFile {
    users: HashMap<[u8; 32], User>,
}

pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let Some(text) = &settings.token_file else { return Ok(None) };
    Ok(Some(Box::new(TokenFile { users: parse(text).map_err(SettingsError::TokenFile)? })))
}

fn parse(text: &str) -> Result<HashMap<[u8; 32], User>, String> {
    let mut users = HashMap::new();
    for record in records(text)? {
        let mut fields = record.into_iter();
        let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
            return Err("a line must have at least 3 columns (token, user name, user uid)".to_owned());
        };
        if token.is_empty() {
            tracing::warn!("a line with an empty token is left out");
            continue;
        }
        let groups = fields
            .next()
            .filter(|groups| !groups.is_empty())
            .map(|groups| groups.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        let user = User { name, uid, groups, extra: BTreeMap::new() };
        if users.insert(Sha256::digest(token.as_bytes()).into(), user).is_some() {
            tracing::warn!("a token occurs twice; the last line counts");
        }
    }
    Ok(users)
}

/// RFC 4180 records; empty lines are skipped.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut was_quoted = false;
    let mut chars = text.chars().peekable();
    loop {
        let c = chars.next();
        match c {
            None if quoted => return Err("a quotation mark is never closed".to_owned()),
            Some('"') if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            Some('"') if quoted => quoted = false,
            Some(other) if quoted => field.push(other),
            Some('"') if field.is_empty() => (quoted, was_quoted) = (true, true),
            Some('"') => return Err("a quotation mark stands inside an unquoted field".to_owned()),
            Some(',') => record.push(std::mem::take(&mut field)),
            Some('\r') if chars.peek() == Some(&'\n') => {}
            None | Some('\n') => {
                if !record.is_empty() || !field.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut field));
                    records.push(std::mem::take(&mut record));
                }
                was_quoted = false;
                if c.is_none() {
                    return Ok(records);
                }
            }
            Some(other) => field.push(other),
        }
    }
}

#[async_trait]
impl Authenticator for TokenFile {
    async fn token(&self, token: &str, _: &[String], _: i64, _: &Remarks) -> Result<Option<Accepted>, String> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        Ok(self.users.get(&digest).map(|user| Accepted { user: user.clone(), audiences: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_as_upstream_reads_it() {
        let check = |text: &str, want: &[&[&str]]| assert_eq!(records(text).unwrap(), want, "{text:?}");
        check("", &[]);
        check("a,b,c\n\nd,e,f", &[&["a", "b", "c"], &["d", "e", "f"]]);
        check("a,b,c,\"x,y\"\r\n", &[&["a", "b", "c", "x,y"]]);
        check("a,\"b\"\"b\",c\n", &[&["a", "b\"b", "c"]]);
        check("a,,c", &[&["a", "", "c"]]);
        assert!(records("a,\"b").is_err());
        assert!(parse("token,user").is_err());
        let users = parse("t,u,1,\"g1,g2\"\n,skipped,2\n").unwrap();
        assert_eq!(users.len(), 1);
        assert_eq!(users.values().next().unwrap().groups, ["g1", "g2"]);
    }
}
