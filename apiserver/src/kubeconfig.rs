//! Kubeconfig files that name a webhook: where it is, whom we believe there and as whom we come.
//!
//! Never writes one. Commands and plugins that fetch credentials (`exec`, `auth-provider`) are refused.

use crate::remote::{Proof, Remote, Trust, Url};
use crate::transport::Identity;
use api::codec::yaml;
use api::json::Value;
use api::value;
use base64::Engine as _;
use std::path::Path;

/// The server of the file's current context. Files that it names are relative to it.
///
/// # Errors
/// One sentence, with the file's name.
pub(crate) fn remote(path: &Path) -> Result<Remote, String> {
    let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    read(&text, base).map_err(|why| format!("{}: {why}", path.display()))
}

fn read(text: &[u8], base: &Path) -> Result<Remote, String> {
    let config = yaml::parse(text).map_err(|error| error.to_string())?;
    let named = |list: &str, name: &str| -> Option<Value> {
        value::items(&config, list).iter().find(|entry| value::text(entry, "name") == name).cloned()
    };
    let current = value::text(&config, "current-context");
    // As upstream: a file with one cluster and no context is that cluster.
    let context = named("contexts", current).map(|context| context.get("context").cloned().unwrap_or_default());
    let context = context.ok_or_else(|| format!("context {current:?} does not exist"))?;
    let cluster = value::text(&context, "cluster");
    let cluster = named("clusters", cluster).ok_or_else(|| format!("cluster {cluster:?} does not exist"))?;
    let cluster = cluster.get("cluster").cloned().unwrap_or_default();
    let user = match value::text(&context, "user") {
        "" => Value::Null,
        name => named("users", name).ok_or_else(|| format!("user {name:?} does not exist"))?,
    };
    let user = user.get("user").cloned().unwrap_or_default();
    if !value::text(&cluster, "proxy-url").is_empty() {
        return Err("proxy-url is not supported".to_owned());
    }
    for key in ["exec", "auth-provider"] {
        if user.get(key).is_some_and(|given| !given.is_null()) {
            return Err(format!("{key} is not supported here: name a certificate or a token"));
        }
    }
    let identity = match (data(&user, "client-certificate", base)?, data(&user, "client-key", base)?) {
        (Some(certificates), Some(key)) => Some(Identity { certificates, key }),
        (None, None) => None,
        _ => return Err("client-certificate and client-key go together".to_owned()),
    };
    let insecure = cluster.get("insecure-skip-tls-verify").and_then(Value::as_bool).unwrap_or(false);
    let authorities = data(&cluster, "certificate-authority", base)?;
    if insecure && authorities.is_some() {
        return Err("specifying a root certificates file with the insecure flag is not allowed".to_owned());
    }
    let trust = Trust { authorities: authorities.unwrap_or_default(), insecure, identity };
    let text = |key: &str| value::text(&user, key).to_owned();
    let proof = match (text("token"), text("tokenFile"), text("username")) {
        (token, _, _) if !token.is_empty() => Proof::Token(token),
        (_, file, _) if !file.is_empty() => Proof::TokenFile(base.join(file)),
        (_, _, name) if !name.is_empty() => Proof::Basic(name, text("password")),
        _ => Proof::None,
    };
    let name = Some(value::text(&cluster, "tls-server-name").to_owned()).filter(|name| !name.is_empty());
    Ok(Remote::new(Url::parse(value::text(&cluster, "server"))?, trust.config()?, name, proof))
}

/// What is given as data, else as a file.
fn data(object: &Value, key: &str, base: &Path) -> Result<Option<String>, String> {
    let said = |error: &dyn std::fmt::Display| format!("{key}: {error}");
    let encoded = object.get(format!("{key}-data")).and_then(Value::as_str).unwrap_or_default();
    if !encoded.is_empty() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|error| said(&error))?;
        return String::from_utf8(bytes).map(Some).map_err(|error| said(&error));
    }
    match object.get(key).and_then(Value::as_str).unwrap_or_default() {
        "" => Ok(None),
        file => std::fs::read_to_string(base.join(file)).map(Some).map_err(|error| said(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let check = |text: &str, want: Option<&str>| match (read(text.as_bytes(), Path::new("/")).err(), want) {
            (None, None) => {}
            (Some(got), Some(want)) => assert!(got.contains(want), "{got:?} has no {want:?}"),
            (got, want) => panic!("{got:?}, not {want:?}: {text}"),
        };
        let whole = |cluster: &str, user: &str| {
            format!(
                "clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1/x', {cluster}}}}}]\n\
                 users: [{{name: u, user: {{{user}}}}}]\n\
                 contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
            )
        };
        check(&whole("insecure-skip-tls-verify: true", "token: t"), None);
        check(&whole("insecure-skip-tls-verify: true", "username: a, password: b"), None);
        check("{}", Some("context \"\" does not exist"));
        check(&whole("proxy-url: 'http://p'", ""), Some("proxy-url"));
        check(&whole("insecure-skip-tls-verify: true", "exec: {command: x}"), Some("exec"));
        check(&whole("insecure-skip-tls-verify: true", "client-certificate-data: aGk="), Some("go together"));
        check(&whole("certificate-authority: nowhere.crt", ""), Some("certificate-authority"));
        check(&whole("certificate-authority-data: '!'", ""), Some("certificate-authority"));
    }
}
