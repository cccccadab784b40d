//! The flags of the API server about who asks and what they may: structured files, issuers, webhooks, front proxies.

use super::settings::Settings;
use crate::cluster;
use anyhow::Context as _;
use apiserver::authn::{FrontProxy, TokenWebhook, oidc};
use apiserver::authz::configuration::webhook_by_flags;
use apiserver::{Authentication, Authorization};
use std::path::PathBuf;

/// What the flags say.
pub(crate) struct Flags {
    authentication: Authentication,
    authorization: Authorization,
    oidc_ca: Option<PathBuf>,
    policy: Option<PathBuf>,
    /// `--requestheader-client-ca-file`.
    pub(crate) front_ca: Option<PathBuf>,
    front: FrontProxy,
}

/// Reads the flags; the files that they name are read by `open`, or by the server, which takes up their changes.
///
/// # Errors
/// Flags that exclude each other.
pub(crate) fn read(settings: &Settings) -> anyhow::Result<Flags> {
    let config_file = settings.path("authorization-config");
    if config_file.is_some() {
        for flag in ["authorization-mode", "authorization-webhook-config-file", "authorization-policy-file"] {
            let given = settings.is_given(flag);
            anyhow::ensure!(!given, "--authorization-config can not be specified when --{flag} is specified");
        }
    }
    let issuer_url = settings.text("oidc-issuer-url");
    let file = settings.path("authentication-config");
    anyhow::ensure!(
        file.is_none() || issuer_url.is_empty(),
        "authentication-config file and oidc-* flags are mutually exclusive"
    );
    let flags = oidc::Flags {
        issuer_url,
        client_id: settings.text("oidc-client-id"),
        ca: String::new(),
        username_claim: settings.text("oidc-username-claim"),
        username_prefix: settings.text("oidc-username-prefix"),
        groups_claim: settings.text("oidc-groups-claim"),
        groups_prefix: settings.text("oidc-groups-prefix"),
        signing_algs: settings.list("oidc-signing-algs"),
        required_claims: settings.map("oidc-required-claim"),
    };
    let webhook = settings.path("authentication-token-webhook-config-file");
    let (version, cache_ttl) = (
        settings.text("authentication-token-webhook-version"),
        settings.duration("authentication-token-webhook-cache-ttl")?,
    );
    let asked = settings.path("authorization-webhook-config-file");
    let (asked_version, yes, no) = (
        settings.text("authorization-webhook-version"),
        settings.duration("authorization-webhook-cache-authorized-ttl")?,
        settings.duration("authorization-webhook-cache-unauthorized-ttl")?,
    );
    Ok(Flags {
        authentication: Authentication {
            config_file: file,
            oidc: (!flags.issuer_url.is_empty()).then_some(flags),
            webhook: webhook.map(|config_file| TokenWebhook { config_file, version, cache_ttl }),
            front_proxy: None,
            bootstrap_tokens: settings.bool("enable-bootstrap-token-auth"),
        },
        authorization: Authorization {
            config_file,
            webhook: asked.map(|path| webhook_by_flags(&path, &asked_version, yes, no)),
            policy: None,
        },
        oidc_ca: settings.path("oidc-ca-file"),
        policy: settings.path("authorization-policy-file"),
        front_ca: settings.path("requestheader-client-ca-file"),
        front: front(settings),
    })
}

/// How a front proxy names users, without its authority.
pub(crate) fn front(settings: &Settings) -> FrontProxy {
    FrontProxy {
        ca: String::new(),
        allowed_names: settings.list("requestheader-allowed-names"),
        username_headers: settings.list("requestheader-username-headers"),
        uid_headers: settings.list("requestheader-uid-headers"),
        group_headers: settings.list("requestheader-group-headers"),
        extra_prefixes: settings.list("requestheader-extra-headers-prefix"),
    }
}

impl Flags {
    /// Whether a file says who decides, in the place of `--authorization-mode`.
    pub(crate) fn decides(&self) -> bool {
        self.authorization.config_file.is_some()
    }

    /// The flags with the files that are read once.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(crate) fn open(self) -> anyhow::Result<(Authentication, Authorization)> {
        let Flags { mut authentication, mut authorization, oidc_ca, policy, front_ca, front } = self;
        if let (Some(oidc), Some(path)) = (&mut authentication.oidc, &oidc_ca) {
            oidc.ca = cluster::read(path).context("--oidc-ca-file")?;
        }
        if let Some(path) = &front_ca {
            let ca = cluster::read(path).context("--requestheader-client-ca-file")?;
            authentication.front_proxy = Some(FrontProxy { ca, ..front });
        }
        authorization.policy =
            policy.as_deref().map(cluster::read).transpose().context("--authorization-policy-file")?;
        Ok((authentication, authorization))
    }
}
