//! Profiles of seccomp and AppArmor: the fields, and the annotations that named them before there were fields.
//!
//! Never knows what a profile allows.

use super::labels::map;
use super::pod_defaults::CONTAINER_LISTS;
use super::pod_volumes::descending_path;
use super::rules::{invalid_struct, text_or_null};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value, json};
use crate::value;

/// Prefix of the annotations that named containers' AppArmor profiles.
pub const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// The longest path of a machine, without its end.
const LONGEST: usize = 4095;

/// What annotations say of one kind of profile and fields say otherwise.
struct Sort {
    field: &'static str,
    shown: &'static str,
    /// Words of annotations for the default of the runtime.
    default: &'static [&'static str],
}

const SECCOMP_SORT: Sort =
    Sort { field: "seccompProfile", shown: "seccomp", default: &["runtime/default", "docker/default"] };
const APPARMOR_SORT: Sort = Sort { field: "appArmorProfile", shown: "apparmor", default: &["runtime/default"] };

/// Both profiles of a security context at `field`.
pub fn validate(errors: &mut Errors, context: &Value, field: &Path) {
    for (name, shown) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = context.get(name).filter(|profile| profile.is_object()) else { continue };
        let field = field.child(name);
        let kind = value::text(profile, "type");
        let local = profile.get("localhostProfile").and_then(Value::as_str);
        match kind {
            "" => {
                errors.push(FieldError::required(&field.child("type"), format!("type is required when {name} is set")));
            }
            "Localhost" | "RuntimeDefault" | "Unconfined" => {}
            other => errors.push(FieldError::not_supported(
                &field.child("type"),
                other,
                &["Localhost", "RuntimeDefault", "Unconfined"],
            )),
        }
        let at = field.child("localhostProfile");
        match (kind, local) {
            ("Localhost", None) => {
                errors.push(FieldError::required(&at, format!("must be set when {shown} type is Localhost")));
            }
            ("Localhost", Some(path)) if name == "seccompProfile" => descending_path(errors, path, &at),
            ("Localhost", Some(path)) => local_armor(errors, path, &at),
            (_, None) => {}
            (kind, path) if name == "seccompProfile" => {
                let fields = [("Type", kind.into()), ("LocalhostProfile", text_or_null(path))];
                errors.push(invalid_struct(&at, &fields, "can only be set when seccomp type is Localhost"));
            }
            ("RuntimeDefault" | "Unconfined", Some(path)) => {
                errors.push(FieldError::invalid(&at, path, "can only be set when AppArmor type is Localhost"));
            }
            (_, Some(_)) => {}
        }
    }
}

fn local_armor(errors: &mut Errors, path: &str, field: &Path) {
    if path.trim() != path {
        errors.push(FieldError::invalid(field, path, "must not be padded with whitespace"));
    } else if path.is_empty() {
        errors.push(FieldError::required(field, "must be set when AppArmor type is Localhost"));
    }
    if path.len() > LONGEST {
        errors.push(FieldError::too_long(field, LONGEST));
    }
}

/// What is wrong with the annotations of a pod or template by themselves.
pub fn annotations(errors: &mut Errors, object: &Value, field: &Path) {
    let Some(all) = map(object, "metadata.annotations") else { return };
    let said = |prefix: &'static str| all.iter().filter(move |(key, _)| key.starts_with(prefix));
    let seccomp = all.iter().filter(|(key, _)| key.as_str() == SECCOMP).chain(said(SECCOMP_OF));
    for (key, profile) in seccomp {
        let (at, profile) = (field.child(key), profile.as_str().unwrap_or_default());
        match profile.strip_prefix("localhost/") {
            Some(path) => descending_path(errors, path, &at),
            None if SECCOMP_SORT.default.contains(&profile) || profile == "unconfined" => {}
            None => errors.push(FieldError::invalid(&at, profile, "must be a valid seccomp profile")),
        }
    }
    for (key, profile) in said(APPARMOR) {
        let (at, profile) = (field.key(key), profile.as_str().unwrap_or_default());
        let name = key.strip_prefix(APPARMOR).unwrap_or_default();
        let spec = object.get("spec").unwrap_or(&Value::Null);
        if !containers(spec, field).any(|(_, container)| value::text(container, "name") == name) {
            errors.push(FieldError::invalid(&at, name, "container not found"));
        }
        let known = matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
        if !known {
            let why = format!("invalid AppArmor profile name: {}", crate::quote::quoted(profile));
            errors.push(FieldError::invalid(&at, profile, why));
        }
    }
}

fn containers<'a>(spec: &'a Value, field: &Path) -> impl Iterator<Item = (Path, &'a Value)> {
    let field = field.clone();
    CONTAINER_LISTS.iter().flat_map(move |list| {
        let field = field.child(list);
        value::items(spec, list).iter().enumerate().map(move |(i, container)| (field.index(i), container))
    })
}

fn profile<'a>(of: &'a Value, sort: &Sort) -> Option<&'a Value> {
    value::get(of, "securityContext")?.get(sort.field).filter(|profile| profile.is_object())
}

/// Annotations and fields of a new pod or of a template say the same where both are there; `field` is that of its spec.
pub fn agree(errors: &mut Errors, object: &Value, field: &Path) {
    let Some(annotations) = map(object, "metadata.annotations") else { return };
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    if let (Some(profile), Some(annotation)) = (profile(spec, &SECCOMP_SORT), text(SECCOMP)) {
        same(errors, annotation, profile, &SECCOMP_SORT, field);
    }
    for (at, container) in containers(spec, field) {
        let key = format!("{SECCOMP_OF}{}", value::text(container, "name"));
        if let (Some(profile), Some(annotation)) = (profile(container, &SECCOMP_SORT), text(&key)) {
            same(errors, annotation, profile, &SECCOMP_SORT, &at);
        }
    }
    if value::text(spec, "os.name") == "windows" {
        return;
    }
    let whole = profile(spec, &APPARMOR_SORT);
    for (at, container) in containers(spec, field) {
        let key = format!("{APPARMOR}{}", value::text(container, "name"));
        if let (Some(profile), Some(annotation)) = (profile(container, &APPARMOR_SORT).or(whole), text(&key)) {
            same(errors, annotation, profile, &APPARMOR_SORT, &at);
        }
    }
}

fn same(errors: &mut Errors, annotation: &str, profile: &Value, sort: &Sort, field: &Path) {
    let at = field.child("securityContext").child(sort.field);
    let local = annotation.strip_prefix("localhost/");
    let of_type = match value::text(profile, "type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => sort.default.contains(&annotation),
        "Localhost" => local.is_some(),
        _ => return,
    };
    let shown = sort.shown;
    if !of_type {
        let detail = format!("{shown} type in annotation and field must match");
        errors.push(FieldError::forbidden(&at.child("type"), detail));
    } else if local.is_some() && local != profile.get("localhostProfile").and_then(Value::as_str) {
        let detail = format!("{shown} profile in annotation and field must match");
        errors.push(FieldError::forbidden(&at.child("localhostProfile"), detail));
    }
}

/// The AppArmor profile that an annotation says, if it says one that is fine.
fn of_annotation(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        other => {
            let path = other.strip_prefix("localhost/")?;
            let fine = !path.is_empty() && path.trim() == path && path.len() <= LONGEST;
            fine.then(|| json!({"type": "Localhost", "localhostProfile": path}))
        }
    }
}

/// Containers of a new pod without a profile get that of their annotation, unless the pod has it; answers what to warn of.
pub fn from_annotations(pod: &mut Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let Some(annotations) = map(pod, "metadata.annotations").filter(|all| any_armor(all)).cloned() else {
        return warnings;
    };
    let Some(spec) = pod.get_mut("spec").filter(|spec| value::text(spec, "os.name") != "windows") else {
        return warnings;
    };
    let whole = profile(spec, &APPARMOR_SORT).cloned();
    for list in CONTAINER_LISTS {
        for container in value::items_mut(spec, list) {
            let key = format!("{APPARMOR}{}", value::text(container, "name"));
            let Some(annotation) = annotations.get(&key).and_then(Value::as_str) else { continue };
            if profile(container, &APPARMOR_SORT).is_some() {
                continue;
            }
            let own = of_annotation(annotation);
            if own.is_none() || own != whole {
                warnings.push(deprecated(&Path::new("metadata.annotations"), &key));
            }
            if let Some(own) = own.filter(|own| Some(own) != whole.as_ref()) {
                value::set(container, "securityContext.appArmorProfile", own);
            }
        }
    }
    warnings
}

/// What `from_annotations` warns of.
#[must_use]
pub fn doubts(pod: &Value) -> Vec<String> {
    let any = map(pod, "metadata.annotations").is_some_and(any_armor);
    if any { from_annotations(&mut pod.clone()) } else { Vec::new() }
}

fn any_armor(annotations: &Map) -> bool {
    annotations.keys().any(|key| key.starts_with(APPARMOR))
}

fn deprecated(field: &Path, key: &str) -> String {
    format!("{}: deprecated since v1.30; use the \"appArmorProfile\" field instead", field.key(key))
}

/// Warnings about annotations without fields; `of_template` for AppArmor's too, which `from_annotations` has for pods.
pub fn warnings(out: &mut Vec<String>, object: &Value, field: &Path, of_template: bool) {
    const GONE: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let Some(annotations) = map(object, "metadata.annotations") else { return };
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let at = field.child("metadata.annotations");
    if profile(spec, &SECCOMP_SORT).is_none() && annotations.contains_key(SECCOMP) {
        out.push(format!("{}: {GONE}", at.key(SECCOMP)));
    }
    let whole = profile(spec, &APPARMOR_SORT);
    for (_, container) in containers(spec, field) {
        let name = value::text(container, "name");
        let key = format!("{SECCOMP_OF}{name}");
        if profile(container, &SECCOMP_SORT).is_none() && annotations.contains_key(&key) {
            out.push(format!("{}: {GONE}", at.key(&key)));
        }
        let key = format!("{APPARMOR}{name}");
        if let Some(annotation) = annotations.get(&key).and_then(Value::as_str)
            && of_template
            && profile(container, &APPARMOR_SORT).is_none()
            && (whole.is_none() || of_annotation(annotation).as_ref() != whole)
        {
            out.push(deprecated(&at, &key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::shared::testing::shown;

    fn pod(annotations: &Value, profile: &Value) -> Value {
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "a",
            "securityContext": {"seccompProfile": profile, "appArmorProfile": profile}}, {"name": "b"}]}})
    }

    #[test]
    fn annotations_by_themselves() {
        let armor = |name: &str| format!("{APPARMOR}{name}");
        let said = json!({armor("a"): "runtime/default", armor("b"): "else", armor("c"): "", SECCOMP: "x",
            format!("{SECCOMP_OF}a"): "localhost/../y"});
        let mut errors = Errors::new();
        annotations(&mut errors, &pod(&said, &Value::Null), &Path::new("m"));
        assert_eq!(
            shown(&errors),
            [
                format!("m.{SECCOMP}: Invalid value: \"x\": must be a valid seccomp profile"),
                format!("m.{SECCOMP_OF}a: Invalid value: \"../y\": must not contain '..'"),
                format!("m[{APPARMOR}b]: Invalid value: \"else\": invalid AppArmor profile name: \"else\""),
                format!("m[{APPARMOR}c]: Invalid value: \"c\": container not found"),
            ]
        );
    }

    #[test]
    fn annotations_beside_fields() {
        for (annotation, profile, wrong) in [
            ("runtime/default", json!({"type": "RuntimeDefault"}), None),
            ("localhost/x", json!({"type": "Localhost", "localhostProfile": "x"}), None),
            ("localhost/x", json!({"type": "Localhost", "localhostProfile": "y"}), Some("localhostProfile")),
            ("unconfined", json!({"type": "RuntimeDefault"}), Some("type")),
        ] {
            let said = json!({format!("{APPARMOR}a"): annotation, format!("{SECCOMP_OF}a"): annotation});
            let mut errors = Errors::new();
            agree(&mut errors, &pod(&said, &profile), &Path::new("spec"));
            let fields: Vec<String> = errors.iter().map(|error| error.field.to_string()).collect();
            let wanted = wrong.map(|field| {
                ["seccompProfile", "appArmorProfile"]
                    .map(|sort| format!("spec.containers[0].securityContext.{sort}.{field}"))
                    .to_vec()
            });
            assert_eq!(fields, wanted.unwrap_or_default(), "{annotation}");
        }
    }

    #[test]
    fn new_pods_get_fields() {
        let mut pod = json!({"metadata": {"annotations": {format!("{APPARMOR}a"): "localhost/x", format!("{APPARMOR}b"): "unconfined",
            format!("{APPARMOR}c"): "localhost/"}}, "spec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}},
            "containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
        let warnings = from_annotations(&mut pod);
        let said = |name: &str| {
            format!(
                "metadata.annotations[{APPARMOR}{name}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            )
        };
        assert_eq!(warnings, [said("a"), said("c")]);
        assert_eq!(
            pod["spec"]["containers"],
            json!([{"name": "a", "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}}},
                {"name": "b"}, {"name": "c"}])
        );
    }
}
