//! Users that a proxy in front of us names in headers, believed where the proxy shows a certificate of its own authority.
//!
//! Never believes a header of anybody else. Source: upstream's "Authenticating Proxy".

use super::x509::Authorities;
use super::{Authenticator, Credentials, Outcome, Settings, SettingsError, User};
use api::x509::common_name;
use async_trait::async_trait;
use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The `--requestheader-*` flags.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// Content of `--requestheader-client-ca-file`, PEM.
    pub ca: String,
    /// `--requestheader-allowed-names`: common names of proxies; empty for every one that the authority vouches for.
    pub allowed_names: Vec<String>,
    /// `--requestheader-username-headers`.
    pub username_headers: Vec<String>,
    /// `--requestheader-uid-headers`.
    pub uid_headers: Vec<String>,
    /// `--requestheader-group-headers`.
    pub group_headers: Vec<String>,
    /// `--requestheader-extra-headers-prefix`.
    pub extra_prefixes: Vec<String>,
}

impl Default for FrontProxy {
    /// Upstream's headers, no authority.
    fn default() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        FrontProxy {
            ca: String::new(),
            allowed_names: Vec::new(),
            username_headers: one("x-remote-user"),
            uid_headers: Vec::new(),
            group_headers: one("x-remote-group"),
            extra_prefixes: one("x-remote-extra-"),
        }
    }
}

impl FrontProxy {
    /// Names of all headers that are read, lower case; prefixes with a star behind them.
    #[must_use]
    pub(super) fn headers(&self) -> Vec<String> {
        let names = [&self.username_headers, &self.uid_headers, &self.group_headers].into_iter().flatten();
        let names = names.map(|name| name.trim().to_ascii_lowercase());
        names
            .chain(self.extra_prefixes.iter().map(|prefix| format!("{}*", prefix.trim().to_ascii_lowercase())))
            .collect()
    }
}

struct Proxied {
    authorities: Authorities,
    allowed: Vec<String>,
    names: Vec<String>,
    uids: Vec<String>,
    groups: Vec<String>,
    extras: Vec<String>,
}

pub(super) fn build(settings: &Settings) -> Result<Option<Box<dyn Authenticator>>, SettingsError> {
    let Some(proxy) = &settings.front_proxy else { return Ok(None) };
    let lower = |names: &[String]| -> Result<Vec<String>, SettingsError> {
        let names: Vec<String> = names.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        if names.iter().any(String::is_empty) {
            return Err(SettingsError::FrontProxy("empty header \"\"".to_owned()));
        }
        Ok(names)
    };
    Ok(Some(Box::new(Proxied {
        authorities: Authorities::read(&proxy.ca).map_err(SettingsError::FrontProxy)?,
        allowed: proxy.allowed_names.clone(),
        names: lower(&proxy.username_headers)?,
        uids: lower(&proxy.uid_headers)?,
        groups: lower(&proxy.group_headers)?,
        extras: lower(&proxy.extra_prefixes)?,
    })))
}

impl Proxied {
    /// The user that the headers name.
    fn user(&self, headers: &[(String, String)]) -> Option<User> {
        let all = |names: &[String]| -> Vec<String> {
            let of = |name: &String| {
                let name = name.clone();
                headers
                    .iter()
                    .filter(move |(own, value)| *own == name && !value.is_empty())
                    .map(|(_, value)| value.clone())
            };
            names.iter().flat_map(of).collect()
        };
        let name = all(&self.names).into_iter().next()?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extras {
            for (header, value) in headers {
                if let Some(key) = header.strip_prefix(prefix.as_str()) {
                    let decoded = percent_encoding::percent_decode_str(key).decode_utf8();
                    let key = decoded.map_or_else(|_| key.to_owned(), std::borrow::Cow::into_owned);
                    extra.entry(key).or_default().push(value.clone());
                }
            }
        }
        let uid = all(&self.uids).into_iter().next().unwrap_or_default();
        Some(User { name, uid, groups: all(&self.groups), extra })
    }
}

#[async_trait]
impl Authenticator for Proxied {
    async fn request(&self, credentials: &Credentials<'_>, _: Option<&str>) -> Outcome {
        let Some((leaf, rest)) = credentials.client_certs.split_first() else { return Outcome::None };
        // Who names nobody is no proxy, whatever it shows; the others have to be believed first.
        let Some(user) = self.user(credentials.headers) else { return Outcome::None };
        if let Err(why) = self.authorities.vouch(leaf, rest, credentials.now) {
            return Outcome::Rejected(why);
        }
        let name = X509Certificate::from_der(leaf).ok();
        let name = name.as_ref().and_then(|(_, certificate)| common_name(certificate.subject()));
        let name = name.unwrap_or_default();
        if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| allowed == name) {
            return Outcome::Rejected(format!("x509: subject with cn={name} is not in the allowed list"));
        }
        Outcome::User(user)
    }
}
