//! The admission plugins that are on, with their settings from the file of `--admission-control-config-file`.
//!
//! Never judges a write. Source: upstream's `AdmissionConfiguration` of `apiserver.config.k8s.io`.

use crate::configuration;
use crate::kubeconfig;
use crate::remote::Remote;
use crate::server::Config;
use admission::{Chain, Opener};
use api::codec::yaml;
use api::json::Value;
use async_trait::async_trait;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    plugins: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Entry {
    name: String,
    /// A file with the plugin's configuration, relative to this one.
    path: String,
    configuration: Value,
}

const VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1alpha1"];

/// Reads the file and puts the plugins together.
///
/// # Errors
/// One sentence.
pub(crate) fn chain(config: &Config) -> Result<Chain, String> {
    let mut configurations = match &config.admission_config {
        None => Vec::new(),
        Some(path) => read(path).map_err(|why| format!("{}: {why}", path.display()))?,
    };
    let [not_ready, unreachable] = config.toleration_seconds;
    let seconds = api::json::json!({"notReady": not_ready, "unreachable": unreachable});
    configurations.insert(0, ("DefaultTolerationSeconds".to_owned(), seconds));
    let base = config.admission_config.as_deref().and_then(Path::parent).unwrap_or(Path::new("."));
    let opener = Files(base.to_owned());
    Chain::configured(&config.enable_admission, &config.disable_admission, &configurations, &opener)
        .map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Vec<(String, Value)>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let file: File = configuration::parse(&text, "AdmissionConfiguration", &VERSIONS)?;
    let base = path.parent().unwrap_or(Path::new("."));
    let entry = |entry: Entry| {
        if !entry.configuration.is_null() || entry.path.is_empty() {
            return Ok((entry.name, entry.configuration));
        }
        let path = base.join(&entry.path);
        let said = |error: String| format!("plugin {:?}: {}: {error}", entry.name, path.display());
        let text = std::fs::read(&path).map_err(|error| said(error.to_string()))?;
        let configuration = yaml::parse(&text).map_err(|error| said(error.to_string()))?;
        Ok((entry.name.clone(), configuration))
    };
    file.plugins.into_iter().map(entry).collect()
}

/// Opens kubeconfig files beside this directory's.
struct Files(PathBuf);

impl Opener for Files {
    fn open(&self, file: &Path) -> Result<Arc<dyn admission::Remote>, String> {
        Ok(Arc::new(Asked(kubeconfig::remote(&self.0.join(file))?)))
    }
}

struct Asked(Remote);

#[async_trait]
impl admission::Remote for Asked {
    async fn post(&self, body: Vec<u8>, timeout: Duration) -> Result<(u16, Vec<u8>), String> {
        self.0.post(body, timeout).await.map(|(code, body)| (code, body.to_vec()))
    }
}

#[cfg(test)]
mod live;

#[cfg(test)]
mod tests {
    #[test]
    fn plugins_by_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admission.yaml");
        let write = |body: &str| {
            let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
            std::fs::write(&path, format!("{head}{body}")).unwrap();
        };
        std::fs::write(directory.path().join("limits.yaml"), "limits: [{type: Server, qps: 1, burst: 2}]").unwrap();
        write("plugins:\n- name: EventRateLimit\n  path: limits.yaml\n- name: PodSecurity\n  configuration: {a: b}\n");
        let read = super::read(&path).unwrap();
        assert_eq!(read[0].1["limits"][0]["burst"], 2);
        assert_eq!(read[1], ("PodSecurity".to_owned(), api::json::json!({"a": "b"})));
        write("plugins:\n- name: EventRateLimit\n  path: nowhere.yaml\n");
        assert!(super::read(&path).unwrap_err().contains("nowhere.yaml"));
        write("plugin: []\n");
        assert!(super::read(&path).unwrap_err().contains("unknown field `plugin`"));
    }
}
