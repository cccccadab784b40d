//! A webhook as its configuration has it, read once.
//!
//! Never looks at a request.

use super::formula::{Asker, Conditions, Reader, Scene, Sheet, Variables};
use super::matching::{Rule, Selection, Sight};
use crate::plugin::{Lookup, Refusal, Request};
use api::cel::Budget;
use api::json::Value;
use api::{meta, value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// Where a webhook is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Client {
    /// `https://host[:port][/path]`; empty when it is a Service.
    pub url: String,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The Service's port.
    pub port: u16,
    /// The path there.
    pub path: String,
    /// Authorities of its certificate, PEM; empty: those of the machine.
    pub authorities: String,
}

/// One webhook of a configuration.
#[derive(Debug)]
pub struct Hook {
    /// Tells it from all others of its kind.
    pub id: String,
    /// The object it stands in.
    pub configuration: String,
    /// `name`.
    pub name: String,
    /// Which requests it is about.
    pub selection: Selection,
    /// When it is about a request.
    pub conditions: Conditions,
    /// It has none; expressions want some.
    pub variables: Variables,
    /// A call that fails lets the request pass.
    pub fails_open: bool,
    /// How long it may take.
    pub timeout: Duration,
    /// It may be called when nothing is going to be written.
    pub dry_run: bool,
    /// The version of the review it takes; `None` when it takes none that we know.
    pub version: Option<&'static str>,
    /// It wants to see changes that come after it.
    pub again: bool,
    /// Where it is.
    pub client: Client,
}

/// The webhooks of a configuration, in its order.
#[must_use]
pub fn read(configuration: &Value) -> Vec<Hook> {
    let of = meta::name(configuration);
    value::items(configuration, "webhooks").iter().enumerate().map(|(index, hook)| one(of, index, hook)).collect()
}

fn one(configuration: &str, index: usize, hook: &Value) -> Hook {
    let name = value::text(hook, "name").to_owned();
    let versions = value::items(hook, "admissionReviewVersions").iter().filter_map(Value::as_str);
    let known = |version: &str| ["v1", "v1beta1"].into_iter().find(|known| *known == version);
    let seconds = value::int(hook, "timeoutSeconds").and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(10);
    Hook {
        id: format!("{configuration}/{name}/{index}"),
        configuration: configuration.to_owned(),
        selection: Selection::read(hook, Rule::read_all(hook, "rules")),
        conditions: Conditions::read(hook, &Reader::new(false, false)),
        variables: Variables::default(),
        fails_open: value::text(hook, "failurePolicy") == "Ignore",
        timeout: Duration::from_secs(seconds),
        dry_run: matches!(value::text(hook, "sideEffects"), "None" | "NoneOnDryRun"),
        version: versions.filter_map(known).next(),
        again: value::text(hook, "reinvocationPolicy") == "IfNeeded",
        client: Client::read(value::get(hook, "clientConfig").unwrap_or(&Value::Null)),
        name,
    }
}

impl Client {
    /// From a `clientConfig`.
    #[must_use]
    pub fn read(config: &Value) -> Client {
        let text = |path: &str| value::text(config, path).to_owned();
        let authorities = String::from_utf8(STANDARD.decode(text("caBundle")).unwrap_or_default()).unwrap_or_default();
        Client {
            url: text("url"),
            namespace: text("service.namespace"),
            service: text("service.name"),
            port: value::int(config, "service.port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            path: text("service.path"),
            // Nothing but white space is as nothing.
            authorities: if authorities.trim().is_empty() { String::new() } else { authorities },
        }
    }
}

impl Hook {
    /// Whether the webhook is asked about a request that it is selected for; one whose conditions fail and that fails open is not.
    ///
    /// # Errors
    /// 403 with what is wrong with the conditions.
    pub fn is_asked(&self, request: &Request<'_>, sight: &Sight, lookup: &dyn Lookup) -> Result<bool, Refusal> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let scene = Scene::new(request, sight, Value::Null, Value::Null);
        let asker = Asker { request, lookup };
        let mut sheet = Sheet::new(&scene, &asker, &self.variables, Budget::match_conditions());
        match self.conditions.hold(&mut sheet) {
            Err(_) if self.fails_open => Ok(false),
            Err(why) => Err(request.forbidden(&why)),
            Ok(holds) => Ok(holds),
        }
    }
}
