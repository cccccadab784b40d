//! What aggregated API servers need to know of how users come to them: whose certificates are clients', and who may name users. It is in the
//! ConfigMap `extension-apiserver-authentication` of `kube-system`.
//!
//! Adds what this server believes to what is there, as servers beside it over one store may believe others. Takes nothing away but
//! certificates that are over. Source: upstream's cluster authentication trust controller.

use crate::answer::Failure;
use crate::authn::FrontProxy;
use crate::bootstrap::{ensure, options};
use crate::registry::write::{self, Change};
use crate::registry::{Target, read};
use crate::road::authorized::Permit;
use crate::server::{Config, Server};
use api::json::{Map, Value, json};
use api::kinds::core_v1::config_map;
use api::{value, x509};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
/// How often it is looked whether the ConfigMap says what the server believes.
const EVERY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };
/// How long a certificate that is over is kept: clocks differ.
const SLACK: i64 = 300;

/// Whom this server believes.
#[derive(Clone)]
pub(crate) struct Trust {
    /// PEM.
    pub(crate) client_ca: Option<String>,
    pub(crate) front_proxy: Option<FrontProxy>,
}

impl Trust {
    /// At the start. A server that names users to others and believes no front proxy itself says how it names them.
    pub(crate) fn of(config: &Config) -> Trust {
        let one = |name: &str| vec![name.to_owned()];
        let own = config.proxy_client.as_ref().map(|own| FrontProxy {
            ca: own.authority.clone(),
            allowed_names: one("front-proxy-client"),
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_prefixes: one("X-Remote-Extra-"),
        });
        Trust { client_ca: config.client_ca.clone(), front_proxy: config.authentication.front_proxy.clone().or(own) }
    }

    /// What the ConfigMap says when this is added to what it says.
    fn added(&self, there: &Value, now: i64) -> Value {
        let mut data = Map::new();
        let certificates =
            |field: &str, own: Option<&str>| bundle(&[value::text(there, field), own.unwrap_or("")], now);
        let clients = certificates("client-ca-file", self.client_ca.as_deref());
        if !clients.is_empty() {
            data.insert("client-ca-file".to_owned(), clients.into());
        }
        let proxies =
            certificates("requestheader-client-ca-file", self.front_proxy.as_ref().map(|proxy| proxy.ca.as_str()));
        if proxies.is_empty() {
            return data.into();
        }
        data.insert("requestheader-client-ca-file".to_owned(), proxies.into());
        type Field = fn(&FrontProxy) -> &Vec<String>;
        let lists: [(&str, Field); 5] = [
            ("requestheader-allowed-names", |proxy| &proxy.allowed_names),
            ("requestheader-extra-headers-prefix", |proxy| &proxy.extra_prefixes),
            ("requestheader-group-headers", |proxy| &proxy.group_headers),
            ("requestheader-uid-headers", |proxy| &proxy.uid_headers),
            ("requestheader-username-headers", |proxy| &proxy.username_headers),
        ];
        for (name, own) in lists {
            let mut all: Vec<String> = api::json::from_str(value::text(there, name)).unwrap_or_default();
            for one in self.front_proxy.as_ref().map(own).into_iter().flatten() {
                if !all.contains(one) {
                    all.push(one.clone());
                }
            }
            if !all.is_empty() || name != "requestheader-uid-headers" {
                data.insert(name.to_owned(), Value::from(all).to_string().into());
            }
        }
        data.into()
    }
}

/// The certificates of these texts, each once, without those that are over.
fn bundle(texts: &[&str], now: i64) -> String {
    let mut held: Vec<String> = Vec::new();
    let blocks = texts.iter().flat_map(|text| x509::pem(text.as_bytes()));
    for block in blocks.filter(|block| block.label == "CERTIFICATE" && !block.has_headers) {
        let text = x509::to_pem("CERTIFICATE", &block.contents);
        let over = x509::expiry(text.as_bytes()).is_none_or(|end| end <= now.saturating_sub(SLACK));
        if !over && !held.contains(&text) {
            held.push(text);
        }
    }
    held.concat()
}

/// Writes the ConfigMap where it does not say all of what the server believes.
///
/// # Errors
/// Those of the write.
pub(crate) async fn publish(server: &Server, permit: &Permit) -> Result<(), Failure> {
    let trust = server.trust.load_full();
    let target = Target { kind: &config_map::KIND, namespace: NAMESPACE.to_owned(), name: NAME.to_owned() };
    let wanted = |object: &Value| {
        let there = value::get(object, "data").cloned().unwrap_or_else(|| json!({}));
        let data = trust.added(&there, server.now());
        (data != there).then_some(data)
    };
    let found = read::find(server, permit, &target).await?.map(|entry| entry.value());
    let Some(data) = wanted(found.as_ref().unwrap_or(&Value::Null)) else { return Ok(()) };
    if found.is_none() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data});
        return ensure(server, permit, object).await;
    }
    write::update(server, permit, &target, &options(), |old| {
        let mut object = old.cloned().unwrap_or_default();
        if let Some(data) = wanted(&object) {
            value::set(&mut object, "data", data);
        }
        Ok(Change { object, applied: false, rebased: true })
    })
    .await
    .map(drop)
}

/// Keeps it so until `stop`, whatever happens to the ConfigMap and to the files that say whom the server believes.
pub(crate) async fn follow(server: Arc<Server>, stop: CancellationToken) {
    let permit = Permit::without_request("cluster-authentication-trust");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(failure) = publish(&server, &permit).await {
            let status = crate::answer::status(failure);
            tracing::warn!(why = status.message, "{NAMESPACE}/{NAME} cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::{AUTHENTICATED, User};
    use crate::reload::Material;
    use crate::testing::World;
    use crate::transport::Identity;
    use parking_lot::Mutex;

    /// An authority that ends in this year.
    fn authority(year: i32) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut wanted = rcgen::CertificateParams::new(Vec::new()).unwrap();
        wanted.not_after = rcgen::date_time_ymd(year, 1, 1);
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        wanted.self_signed(&key).unwrap().pem()
    }

    fn blocks(text: &str) -> Vec<Vec<u8>> {
        x509::pem(text.as_bytes()).into_iter().map(|block| block.contents).collect()
    }

    #[test]
    fn what_is_there_stays_and_what_is_believed_is_added() {
        let (old, over, own, proxies) = (authority(2090), authority(2001), authority(2090), authority(2090));
        let trust = Trust {
            client_ca: Some(own.clone()),
            front_proxy: Some(FrontProxy {
                ca: proxies.clone(),
                allowed_names: vec!["b".to_owned(), "a".to_owned()],
                ..FrontProxy::default()
            }),
        };
        let there = json!({"client-ca-file": format!("{old}{over}"), "other": "goes",
            "requestheader-allowed-names": "[\"c\",\"a\"]"});
        let data = trust.added(&there, 1_800_000_000);
        assert_eq!(blocks(value::text(&data, "client-ca-file")), blocks(&format!("{old}{own}")));
        assert_eq!(blocks(value::text(&data, "requestheader-client-ca-file")), blocks(&proxies));
        let lists: Vec<_> =
            data.as_object().into_iter().flatten().filter(|(name, _)| !name.contains("ca-file")).collect();
        let lists: Vec<(&str, &str)> =
            lists.iter().map(|(name, said)| (name.as_str(), said.as_str().unwrap())).collect();
        assert_eq!(
            lists,
            [
                ("requestheader-allowed-names", r#"["c","a","b"]"#),
                ("requestheader-extra-headers-prefix", r#"["x-remote-extra-"]"#),
                ("requestheader-group-headers", r#"["x-remote-group"]"#),
                ("requestheader-username-headers", r#"["x-remote-user"]"#),
            ]
        );
        assert_eq!(trust.added(&data, 1_800_000_000), data);
        let alone = Trust { client_ca: Some(own.clone()), front_proxy: None };
        let data = alone.added(&json!({}), 1_800_000_000);
        assert_eq!(data.as_object().map(Map::len), Some(1), "{data}");
        assert_eq!(Trust { client_ca: None, front_proxy: None }.added(&json!({}), 0), json!({}));
    }

    #[tokio::test]
    async fn it_is_written_without_a_front_proxy_and_follows_the_file_and_its_end() {
        let (first, second) = (authority(2090), authority(2091));
        let client_ca = Arc::new(Mutex::new(first.clone()));
        let file = Arc::clone(&client_ca);
        let world = World::start(|config| {
            config.client_ca = Some(first.clone());
            let Identity { certificates, key } = config.identity.clone();
            config.material = Some(Arc::new(move || {
                Ok(Material {
                    identity: Identity { certificates: certificates.clone(), key: key.clone() },
                    named: Vec::new(),
                    client_ca: Some(file.lock().clone()),
                    front_proxy_ca: None,
                    kubelet_client: None,
                    proxy_client: None,
                })
            }));
        })
        .await;
        let root = User::new("root", &["system:masters", AUTHENTICATED]);
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}");
        let becomes = async |wanted: Vec<Vec<u8>>| {
            for _ in 0..300 {
                let (_, object) = world.ask(&root, "GET", &path, &Value::Null).await;
                if blocks(value::text(&object, "data.client-ca-file")) == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("it does not say that");
        };
        becomes(blocks(&first)).await;
        *client_ca.lock() = second.clone();
        becomes(blocks(&format!("{first}{second}"))).await;
        assert_eq!(world.ask(&root, "DELETE", &path, &Value::Null).await.0, 200);
        becomes(blocks(&second)).await;
    }
}
