//! Stage 4: as whom the request acts. `Impersonate-*` headers, judged by `impersonation.rs`, and gone behind this stage.
//!
//! Never decides by itself. Source: upstream's documentation of user impersonation; KEP-5284.

use super::audited::Audited;
use super::authorized;
use crate::answer::Failure;
use crate::authn::User;
use crate::authz::quoted;
use crate::road::received::Received;
use crate::server::Server;
use actix_web::http::header::HeaderMap;
use api::status::Status;

/// A request with the user as whom it acts.
pub struct Acting {
    pub(super) received: Box<Received>,
    pub(super) user: User,
}

const NAME: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUPS: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// Who is asked for, as the headers say it; none where nobody is. They are taken out.
///
/// # Errors
/// 400 for a uid, groups or extra of nobody.
fn wanted(headers: &mut HeaderMap) -> Result<Option<User>, Status> {
    let mine = |name: &str| [NAME, UID, GROUPS].contains(&name) || name.starts_with(EXTRA);
    let named: Vec<_> = headers.keys().filter(|name| mine(name.as_str())).cloned().collect();
    if named.is_empty() {
        return Ok(None);
    }
    let mut user = User::default();
    for name in named {
        // A value that is no text is one that nobody has: it must not look as if it were not there.
        let values = headers.remove(&name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let mut values: Vec<String> = values.collect();
        match name.as_str().strip_prefix(EXTRA) {
            Some(key) => {
                let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
                user.extra.entry(key).or_default().append(&mut values);
            }
            None if name == GROUPS => user.groups = values,
            None => {
                let first = values.into_iter().next().unwrap_or_default();
                *(if name == NAME { &mut user.name } else { &mut user.uid }) = first;
            }
        }
    }
    let some = !user.uid.is_empty() || !user.groups.is_empty() || !user.extra.is_empty();
    match user.name.as_str() {
        "" if some => Err(Status::bad_request(format!("requested {} without impersonating a user name", shown(&user)))),
        "" => Ok(None),
        _ => Ok(Some(user)),
    }
}

/// As upstream's `%#v` shows a user.
fn shown(user: &User) -> String {
    let list = |texts: &[String]| {
        let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        format!("[]string{{{}}}", texts.join(", "))
    };
    let groups = if user.groups.is_empty() { "[]string(nil)".to_owned() } else { list(&user.groups) };
    let extra = if user.extra.is_empty() {
        "map[string][]string(nil)".to_owned()
    } else {
        let entries: Vec<String> =
            user.extra.iter().map(|(key, values)| format!("{}:{}", quoted(key), list(values))).collect();
        format!("map[string][]string{{{}}}", entries.join(", "))
    };
    let (name, uid) = (quoted(&user.name), quoted(&user.uid));
    format!("&user.DefaultInfo{{Name:{name}, UID:{uid}, Groups:{groups}, Extra:{extra}}}")
}

/// Stage 4.
///
/// # Errors
/// 403 without the right to act as that user; 400 for groups or extra without a user.
pub async fn impersonate(server: &Server, audited: Audited) -> Result<Acting, Failure> {
    let Audited { mut received, user } = audited;
    let Some(wanted) = wanted(&mut received.headers)? else { return Ok(Acting { received, user }) };
    let request = authorized::attributes(user, &received.info);
    let granted = server.impersonation.judge(&server.authz, &wanted, &request, server.now()).await?;
    tracing::debug!(user = request.user.name, acts_as = granted.user.name, "impersonation");
    if let Some(slip) = &received.slip {
        slip.acts_as(&granted.user, granted.constraint);
    }
    Ok(Acting { received, user: granted.user })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    #[test]
    fn headers_say_who_is_wanted_and_go() {
        let check = |headers: &[(&'static str, &[u8])], want: Result<Option<User>, &str>| {
            let mut map = HeaderMap::new();
            map.insert(HeaderName::from_static("accept"), HeaderValue::from_static("*/*"));
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
            }
            let got = wanted(&mut map).map_err(|status| format!("{} {}", status.code, status.message));
            assert_eq!(got, want.map_err(str::to_owned), "{headers:?}");
            assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"], "{headers:?}");
        };
        let user = |name: &str, groups: &[&str]| User::new(name, groups);
        check(&[], Ok(None));
        check(&[("impersonate-user", b"")], Ok(None));
        check(&[("impersonate-user", b"jane")], Ok(Some(user("jane", &[]))));
        // Whoever is wanted in a name that is no text must not be taken for nobody.
        check(&[("impersonate-user", b"j\xffne")], Ok(Some(user("j\u{fffd}ne", &[]))));
        check(&[("impersonate-user", "jürgen".as_bytes())], Ok(Some(user("jürgen", &[]))));
        let mut whole = User { uid: "1".into(), ..user("jane", &["dev", "ops"]) };
        whole.extra.insert("acme.com/a".into(), vec!["x".into(), "y".into()]);
        check(
            &[
                ("impersonate-user", b"jane"),
                ("impersonate-group", b"dev"),
                ("impersonate-group", b"ops"),
                ("impersonate-uid", b"1"),
                ("impersonate-extra-acme.com%2fa", b"x"),
                ("impersonate-extra-acme.com%2fa", b"y"),
            ],
            Ok(Some(whole)),
        );
        check(
            &[("impersonate-group", b"d\"ev")],
            Err("400 requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"d\\\"ev\"}, \
                 Extra:map[string][]string(nil)} without impersonating a user name"),
        );
        check(
            &[("impersonate-uid", b"1"), ("impersonate-extra-a", b"b")],
            Err("400 requested &user.DefaultInfo{Name:\"\", UID:\"1\", Groups:[]string(nil), \
                 Extra:map[string][]string{\"a\":[]string{\"b\"}}} without impersonating a user name"),
        );
    }
}
