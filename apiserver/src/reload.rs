//! Files that may change while the server runs: its certificate and key, those with which it asks others, authorities of clients and of front
//! proxies, the files of `--authentication-config` and `--authorization-config`. What cannot be used is said, and what was there goes on.
//!
//! Never writes a file. Looks at contents, so that it matters not how a file was changed.

use crate::authn::{self, Anonymous, Authenticators, Issuers, oidc};
use crate::authz::{self, Entry, ModeError};
use crate::server::{Clients, Config, Server, StartError};
use crate::transport::{Identity, Named, TlsOptions, TlsSettings, server_config, unjudged_client_config};
use crate::trust::Trust;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const EVERY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };

/// Contents of files, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// `--tls-cert-file`, `--tls-private-key-file`.
    pub identity: Identity,
    /// `--tls-sni-cert-key`.
    pub named: Vec<Named>,
    /// `--client-ca-file`.
    pub client_ca: Option<String>,
    /// `--requestheader-client-ca-file`.
    pub front_proxy_ca: Option<String>,
    /// `--kubelet-client-certificate`, `--kubelet-client-key`.
    pub kubelet_client: Option<Identity>,
    /// `--proxy-client-cert-file`, `--proxy-client-key-file`.
    pub proxy_client: Option<Identity>,
}

/// Reads the files again; an error is one sentence. Called from a thread that may wait.
pub type Source = Arc<dyn Fn() -> Result<Material, String> + Send + Sync>;

/// Who is believed beyond the cluster, and whether callers without credentials are: from the file of `--authentication-config` and
/// the flags.
///
/// # Errors
/// One sentence.
pub(crate) fn issuers(config: &Config) -> Result<(Issuers, Anonymous), StartError> {
    let refused = |why: String| StartError::Authentication(authn::SettingsError::Issuers(why));
    let given = &config.authentication;
    let by_flag = Anonymous { enabled: config.anonymous.unwrap_or(true), conditions: Vec::new() };
    let Some(path) = &given.config_file else {
        let Some(flags) = &given.oidc else { return Ok((Issuers::default(), by_flag)) };
        let jwt = vec![oidc::Jwt::from(flags)];
        let configuration = oidc::Configuration { jwt, anonymous: None };
        configuration.judge(&config.issuers).map_err(refused)?;
        return Ok((Issuers { jwt: configuration.jwt, signing_algs: Some(flags.signing_algs.clone()) }, by_flag));
    };
    if given.oidc.is_some() {
        return Err(refused("authentication-config file and oidc-* flags are mutually exclusive".to_owned()));
    }
    let said = |why: String| {
        refused(format!(
            "failed to load authentication configuration from file {:?}: {why}",
            path.display().to_string()
        ))
    };
    let text = std::fs::read(path).map_err(|error| said(error.to_string()))?;
    let configuration = oidc::Configuration::parse(&text, &config.issuers).map_err(said)?;
    let anonymous = match (configuration.anonymous, config.anonymous) {
        (Some(_), Some(_)) => {
            let why = "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file";
            return Err(refused(why.to_owned()));
        }
        (Some(anonymous), None) => anonymous,
        (None, _) => by_flag,
    };
    Ok((Issuers { jwt: configuration.jwt, signing_algs: None }, anonymous))
}

/// Who decides: from the file of `--authorization-config`, or the flags.
///
/// # Errors
/// One sentence.
pub(crate) fn authorizers(config: &Config) -> Result<Vec<Entry>, ModeError> {
    let given = &config.authorization;
    let Some(path) = &given.config_file else {
        return Ok(authz::by_modes(&config.authorization_modes, given.webhook.as_ref()));
    };
    let said = |why: String| ModeError::File(format!("{}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| said(error.to_string()))?;
    authz::configuration::parse(&text).map_err(said)
}

/// Settings of the listener.
pub(crate) fn tls(config: &Config, material: Option<&Material>) -> TlsSettings {
    let (identity, client_ca, front_proxy_ca) = match material {
        Some(material) => (&material.identity, &material.client_ca, &material.front_proxy_ca),
        None => (&config.identity, &config.client_ca, &None),
    };
    let front_proxy = config.authentication.front_proxy.as_ref().map(|proxy| proxy.ca.as_str());
    let hints = [client_ca.as_deref(), front_proxy_ca.as_deref().or(front_proxy)];
    let hints: Vec<&str> = hints.into_iter().flatten().collect();
    TlsSettings {
        identity: identity.clone(),
        client_ca: (!hints.is_empty()).then(|| hints.join("\n")),
        options: match material {
            Some(material) => TlsOptions { named: material.named.clone(), ..config.tls.clone() },
            None => config.tls.clone(),
        },
    }
}

/// Looks at the files until `stop`.
pub(crate) async fn watch(
    server: Arc<Server>,
    mut settings: authn::Settings,
    authorization: authz::Settings,
    stop: CancellationToken,
) {
    let config = &server.config;
    if config.material.is_none()
        && config.authentication.config_file.is_none()
        && config.authorization.config_file.is_none()
    {
        return;
    }
    let mut material: Option<Material> = None;
    let mut file: Option<Vec<u8>> = None;
    let mut rules: Option<Vec<u8>> = None;
    let mut first = true;
    loop {
        let own = Arc::clone(&server);
        let read = tokio::task::spawn_blocking(move || {
            let material = own.config.material.as_ref().map(|source| source());
            let file = own.config.authentication.config_file.as_ref().map(std::fs::read);
            let rules = own.config.authorization.config_file.as_ref().map(std::fs::read);
            (material, file, rules)
        });
        let Ok((new_material, new_file, new_rules)) = read.await else { return };
        let mut changed = false;
        let mut asked = None;
        match new_material {
            Some(Ok(new)) if material.as_ref() != Some(&new) => {
                exchange(&server, &new);
                // At the first look the server may have read the files a moment ago: then nothing follows.
                let same = new.identity == server.config.identity && new.named == server.config.tls.named;
                if !first || !same || new.client_ca != server.config.client_ca {
                    changed |= take(&server, &mut settings, &new);
                }
                material = Some(new);
            }
            Some(Err(why)) => tracing::warn!(why, "certificates cannot be read again; those that are there go on"),
            _ => {}
        }
        match new_file {
            Some(Ok(new)) if file.as_ref() != Some(&new) => {
                if !first {
                    asked = Some(reread(&server, &mut settings));
                }
                file = Some(new);
            }
            Some(Err(error)) => {
                asked = Some(false);
                tracing::warn!(%error, "the file of --authentication-config cannot be read again");
            }
            _ => {}
        }
        match new_rules {
            Some(Ok(new)) if rules.as_ref() != Some(&new) => {
                if !first {
                    server.metrics.authorization.tell(decide_anew(&server, &authorization));
                }
                rules = Some(new);
            }
            Some(Err(error)) => {
                server.metrics.authorization.tell(false);
                tracing::warn!(%error, "the file of --authorization-config cannot be read again");
            }
            _ => {}
        }
        if changed || asked == Some(true) {
            match Authenticators::new(&settings) {
                Ok(authenticators) => server.authn.store(Arc::new(authenticators)),
                Err(error) => {
                    asked = asked.map(|_| false);
                    tracing::warn!(%error, "changed authentication settings cannot be used");
                }
            }
        }
        if let Some(taken) = asked {
            server.metrics.authentication.tell(taken);
        }
        first = false;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Takes up certificates with which others are asked, each if it can be used.
fn exchange(server: &Server, new: &Material) {
    let known = server.clients.load_full();
    let mut next = Clients::clone(&known);
    for (what, held, new) in [
        ("--kubelet-client-certificate", &mut next.kubelet, &new.kubelet_client),
        ("--proxy-client-cert-file", &mut next.proxy, &new.proxy_client),
    ] {
        if held == new {
            continue;
        }
        match unjudged_client_config(new.as_ref()) {
            Ok(_) => {
                held.clone_from(new);
                tracing::info!(what, "a certificate was read again");
            }
            Err(error) => {
                tracing::warn!(what, error = &error as &dyn std::error::Error, "a changed certificate cannot be used");
            }
        }
    }
    server.clients.store(Arc::new(next));
}

/// Takes up certificates; whether authorities of clients are among them.
fn take(server: &Server, settings: &mut authn::Settings, new: &Material) -> bool {
    match server_config(&tls(&server.config, Some(new))) {
        Ok(config) => server.tls.store(Arc::new(config)),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "changed certificates cannot be used");
            return false;
        }
    }
    tracing::info!("certificates were read again");
    let mut changed = settings.client_ca != new.client_ca;
    settings.client_ca.clone_from(&new.client_ca);
    if let (Some(proxy), Some(ca)) = (&mut settings.front_proxy, &new.front_proxy_ca)
        && proxy.ca != *ca
    {
        proxy.ca.clone_from(ca);
        changed = true;
    }
    if changed {
        let mut trust = Trust::clone(&server.trust.load());
        trust.client_ca.clone_from(&settings.client_ca);
        if settings.front_proxy.is_some() {
            trust.front_proxy.clone_from(&settings.front_proxy);
        }
        server.trust.store(Arc::new(trust));
    }
    changed
}

/// Takes up the file of `--authentication-config`; whether it could be.
fn reread(server: &Server, settings: &mut authn::Settings) -> bool {
    match issuers(&server.config) {
        Ok((issuers, anonymous)) => {
            if anonymous != settings.anonymous {
                tracing::warn!("a change of anonymous in the file of --authentication-config needs a restart");
            }
            settings.issuers = issuers;
            tracing::info!("the file of --authentication-config was read again");
            true
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the changed file of --authentication-config cannot be used"
            );
            false
        }
    }
}

/// Takes up the file of `--authorization-config`; whether it could be.
fn decide_anew(server: &Server, settings: &authz::Settings) -> bool {
    let taken = authorizers(&server.config).and_then(|entries| server.authz.replace(&entries, settings));
    match &taken {
        Ok(()) => tracing::info!("the file of --authorization-config was read again"),
        Err(error) => tracing::warn!(%error, "the changed file of --authorization-config cannot be used"),
    }
    taken.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::Encryption;
    use crate::testing::{World, config};
    use parking_lot::Mutex;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn certificates_for_others_are_read_again() {
        let identity = || config(&Encryption::none()).identity;
        let (own, first, second) = (identity(), identity(), identity());
        let files = Arc::new(Mutex::new(Material {
            identity: own.clone(),
            named: Vec::new(),
            client_ca: None,
            front_proxy_ca: None,
            kubelet_client: Some(first.clone()),
            proxy_client: None,
        }));
        let source = Arc::clone(&files);
        let world = World::start(|config| {
            config.identity = own;
            config.kubelet_client = Some(first.clone());
            config.material = Some(Arc::new(move || Ok(source.lock().clone())));
        })
        .await;
        let server = world.running.server();
        let held = || server.clients.load().kubelet.clone();
        assert_eq!(held(), Some(first.clone()));
        // A key of somebody else's.
        let torn = Identity { key: second.key.clone(), ..first.clone() };
        let front = identity();
        for (kubelet, proxy, want) in [(&torn, &front, &first), (&second, &front, &second)] {
            let change = |files: &mut Material| {
                files.kubelet_client = Some(kubelet.clone());
                files.proxy_client = Some(proxy.clone());
            };
            change(&mut files.lock());
            for _ in 0..500 {
                if server.clients.load().proxy.as_ref() == Some(proxy) && held().as_ref() == Some(want) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!((held().as_ref(), server.clients.load().proxy.as_ref()), (Some(want), Some(proxy)));
        }
    }
}
