//! Tokens of an issuer of our own, over a network that is a table.

#![allow(clippy::needless_pass_by_value, reason = "tests: values are written where they are used")]

use super::*;
use crate::authn::tokens::{TokenSigner, base64url_encode, generate_es256, generate_rsa, jwks};
use api::json::json;
use parking_lot::Mutex;
use rcgen::{KeyPair, SigningKey as _};
use std::collections::HashMap;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

#[derive(Default)]
struct Web {
    pages: Mutex<HashMap<String, Value>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Fetch for Web {
    async fn get(&self, url: &str, _: Option<&str>) -> Result<Vec<u8>, String> {
        self.asked.lock().push(url.to_owned());
        let pages = self.pages.lock();
        let page = pages.get(url).ok_or_else(|| format!("Get {url:?}: 404"))?;
        Ok(page.as_str().map_or_else(|| page.to_string().into_bytes(), |text| text.as_bytes().to_vec()))
    }
}

/// Signs what it is told to.
struct Signer {
    own: TokenSigner,
    pair: KeyPair,
    rsa: bool,
}

impl Signer {
    fn new(rsa: bool) -> Signer {
        let pem = if rsa { generate_rsa() } else { generate_es256() }.unwrap();
        Signer { own: TokenSigner::from_pem(&pem, ISSUER).unwrap(), pair: KeyPair::from_pem(&pem).unwrap(), rsa }
    }

    fn p521() -> Signer {
        let pem = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap().serialize_pem();
        Signer { own: TokenSigner::from_pem(&pem, ISSUER).unwrap(), pair: KeyPair::from_pem(&pem).unwrap(), rsa: false }
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(if self.rsa { "RS256" } else { "ES256" }, claims)
    }

    fn sign_as(&self, algorithm: &str, claims: &Value) -> String {
        let header = json!({"alg": algorithm, "kid": self.own.public().id});
        let message = format!("{}.{}", base64url_encode(header.to_string()), base64url_encode(claims.to_string()));
        let signature = self.pair.sign(message.as_bytes()).unwrap();
        let width =
            if algorithm == "ES512" && self.pair.is_compatible(&rcgen::PKCS_ECDSA_P521_SHA512) { 66 } else { 32 };
        let fixed = || crate::authn::tokens::fixed_width(&signature, width).unwrap();
        let signature = if self.rsa { signature.clone() } else { fixed() };
        format!("{message}.{}", base64url_encode(signature))
    }
}

fn web(signer: &Signer) -> Arc<Web> {
    let web = Web::default();
    let document = json!({"issuer": ISSUER, "jwks_uri": "https://keys.example/keys"});
    web.pages.lock().insert(format!("{ISSUER}/.well-known/openid-configuration"), document);
    web.pages.lock().insert("https://keys.example/keys".to_owned(), jwks(&[signer.own.public().clone()]));
    Arc::new(web)
}

fn file(body: &str) -> Result<Configuration, String> {
    let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n{body}");
    Configuration::parse(text.as_bytes(), &["https://own".to_owned()])
}

fn jwt(rest: &str) -> Jwt {
    file(&format!("jwt:\n- issuer: {{url: '{ISSUER}', audiences: [app]}}\n{rest}")).unwrap().jwt.remove(0)
}

fn provider(jwt: &Jwt, web: &Arc<Web>) -> Tokens {
    Tokens(vec![Provider::new(jwt, &signature::ALL, Arc::clone(web) as _).unwrap()])
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"iss": ISSUER, "aud": "app", "exp": NOW + 60, "sub": "jane"});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

async fn ask(tokens: &Tokens, token: &str) -> Result<Option<User>, String> {
    tokens.token(token, &[], NOW, &Remarks::default()).await.map(|accepted| accepted.map(|accepted| accepted.user))
}

const BY_CLAIM: &str =
    "  claimMappings:\n    username: {claim: sub, prefix: 'oidc:'}\n    groups: {claim: roles, prefix: 'g:'}\n";

#[tokio::test(start_paused = true)]
async fn claims_become_users() {
    for rsa in [false, true] {
        let signer = Signer::new(rsa);
        let web = web(&signer);
        let tokens = provider(&jwt(BY_CLAIM), &web);
        let got = ask(&tokens, &signer.sign(&claims(json!({"roles": ["a", "b"], "jti": "7"})))).await.unwrap().unwrap();
        assert_eq!(
            (got.name.as_str(), got.groups.as_slice()),
            ("oidc:jane", ["g:a".to_owned(), "g:b".to_owned()].as_slice())
        );
        assert_eq!(got.extra[CREDENTIAL_ID], ["JTI=7"]);
        let one = ask(&tokens, &signer.sign(&claims(json!({"roles": "a"})))).await.unwrap().unwrap();
        assert_eq!(one.groups, ["g:a"]);
        assert_eq!(ask(&tokens, "abc").await, Ok(None));
        assert_eq!(ask(&tokens, &signer.sign(&claims(json!({"iss": "https://else"})))).await, Ok(None));
        // Discovery once, keys once.
        assert_eq!(web.asked.lock().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_hold_is_refused() {
    let signer = Signer::new(false);
    let web = web(&signer);
    let tokens = provider(&jwt(BY_CLAIM), &web);
    for (more, want) in [
        (json!({"aud": "other"}), "expected audience"),
        (json!({"aud": []}), "expected audience"),
        (json!({"exp": NOW - 1}), "token is expired"),
        (json!({"exp": null}), "token is expired"),
        (json!({"exp": "soon"}), "token is expired"),
        (json!({"nbf": NOW + 301}), "before the nbf"),
        (json!({"sub": 7}), "parse username claims \"sub\""),
        (json!({"sub": null}), "parse username claims \"sub\""),
        (json!({"roles": [1]}), "parse groups claim \"roles\""),
    ] {
        let why = ask(&tokens, &signer.sign(&claims(more.clone()))).await.unwrap_err();
        assert!(why.contains(want), "{more}: {why}");
    }
    let forger = Signer::new(false);
    let forged = forger.sign(&claims(json!({})));
    assert!(ask(&tokens, &forged).await.unwrap_err().contains("failed to verify"));
    let good = signer.sign(&claims(json!({})));
    let (message, _) = good.rsplit_once('.').unwrap();
    for bad in [format!("{message}."), format!("{message}.AAAA"), format!("{message}.!")] {
        assert!(ask(&tokens, &bad).await.is_err(), "{bad}");
    }
    for algorithm in ["none", "HS256", "RS256", "ES512", ""] {
        assert!(ask(&tokens, &signer.sign_as(algorithm, &claims(json!({})))).await.is_err(), "{algorithm}");
    }
}

#[tokio::test]
async fn tokens_of_the_largest_curve_are_judged_by_their_own_algorithm_alone() {
    let signer = Signer::p521();
    let tokens = provider(&jwt(BY_CLAIM), &web(&signer));
    for _ in 0..20 {
        // ECDSA integers come in varying lengths.
        assert!(ask(&tokens, &signer.sign_as("ES512", &claims(json!({})))).await.is_ok());
    }
    let forged = Signer::p521().sign_as("ES512", &claims(json!({})));
    assert!(ask(&tokens, &forged).await.unwrap_err().contains("failed to verify"));
    let good = signer.sign_as("ES512", &claims(json!({})));
    let (message, signature) = good.rsplit_once('.').unwrap();
    for bad in [format!("{message}."), format!("{message}.AAAA"), good.replacen('.', ".e30", 1)] {
        assert!(!matches!(ask(&tokens, &bad).await, Ok(Some(_))), "{bad}");
    }
    // The same signature under another name.
    let header = base64url_encode(json!({"alg": "ES384", "kid": signer.own.public().id}).to_string());
    let body = message.split_once('.').unwrap().1;
    assert!(ask(&tokens, &format!("{header}.{body}.{signature}")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn new_keys_are_found_and_forged_tokens_do_not_make_us_ask_without_end() {
    let (old, new) = (Signer::new(false), Signer::new(false));
    let web = web(&old);
    let tokens = provider(&jwt(BY_CLAIM), &web);
    assert!(ask(&tokens, &old.sign(&claims(json!({})))).await.is_ok());
    let token = new.sign(&claims(json!({})));
    for _ in 0..5 {
        assert!(ask(&tokens, &token).await.is_err());
    }
    assert_eq!(web.asked.lock().len(), 2);
    web.pages.lock().insert("https://keys.example/keys".to_owned(), jwks(&[new.own.public().clone()]));
    tokio::time::advance(std::time::Duration::from_secs(3)).await;
    assert!(ask(&tokens, &token).await.is_ok());
    assert!(ask(&tokens, &old.sign(&claims(json!({"jti": "x"})))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_is_asked_again_later() {
    let signer = Signer::new(false);
    let (web, away) = (web(&signer), Arc::new(Web::default()));
    let tokens = provider(&jwt(BY_CLAIM), &away);
    let token = signer.sign(&claims(json!({})));
    for _ in 0..3 {
        assert!(ask(&tokens, &token).await.is_err());
    }
    assert_eq!(away.asked.lock().len(), 1);
    *away.pages.lock() = web.pages.lock().clone();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    assert!(ask(&tokens, &token).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn expressions_make_users() {
    let signer = Signer::new(false);
    let web = web(&signer);
    let rest = r#"  claimValidationRules:
  - {claim: hd, requiredValue: example.com}
  - {expression: 'claims.exp - claims.nbf <= 86400.0', message: too long}
  claimMappings:
    username: {expression: '"u:" + claims.kubernetes__dot__io.name'}
    groups: {expression: 'claims.roles.split(",").map(role, "g:" + role)'}
    uid: {claim: sub}
    extra:
    - {key: example.com/tenant, valueExpression: claims.tenant}
    - {key: example.com/none, valueExpression: 'claims.?none.orValue("")'}
  userValidationRules:
  - {expression: "!user.username.startsWith('u:system:')", message: reserved}
  - {expression: "user.groups.all(group, group != 'g:banned')", message: banned}
"#;
    let tokens = provider(&jwt(rest), &web);
    let with = |more: Value| {
        let mut whole = claims(json!({"nbf": NOW - 60, "hd": "example.com", "roles": "a,b", "tenant": ["t"],
            "kubernetes.io": {"name": "ann"}}));
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signer.sign(&whole)
    };
    let got = ask(&tokens, &with(json!({}))).await.unwrap().unwrap();
    assert_eq!((got.name.as_str(), got.uid.as_str()), ("u:ann", "jane"));
    assert_eq!(got.groups, ["g:a", "g:b"]);
    assert_eq!(got.extra, std::collections::BTreeMap::from([("example.com/tenant".to_owned(), vec!["t".to_owned()])]));
    for (more, want) in [
        (json!({"hd": "x"}), "required claim hd value does not match. Got = x, want = example.com"),
        (json!({"hd": null}), "oidc: parse claim hd"),
        (json!({"nbf": NOW - 100_000}), "failed: too long"),
        (json!({"roles": 7}), "error evaluating group claim expression"),
        (json!({"kubernetes.io": {"name": 7}}), "username claim expression"),
        (json!({"kubernetes.io": {"name": "system:x"}}), "failed: reserved"),
        (json!({"roles": "banned"}), "failed: banned"),
        (json!({"tenant": {}}), "expression must return a string or a list of strings"),
    ] {
        let why = ask(&tokens, &with(more.clone())).await.unwrap_err();
        assert!(why.contains(want), "{more}: {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn groups_may_lie_elsewhere() {
    let signer = Signer::new(false);
    let web = web(&signer);
    let tokens = provider(&jwt(BY_CLAIM), &web);
    let page = |token: String| web.pages.lock().insert("https://groups.example/jane".to_owned(), token.into());
    let token = signer.sign(&claims(json!({
        "_claim_names": {"roles": "s"}, "_claim_sources": {"s": {"endpoint": "https://groups.example/jane"}}})));
    page(signer.sign(&claims(json!({"roles": ["far"]}))));
    assert_eq!(ask(&tokens, &token).await.unwrap().unwrap().groups, ["g:far"]);
    let again = signer.sign(&claims(json!({"jti": "2",
        "_claim_names": {"roles": "s"}, "_claim_sources": {"s": {"endpoint": "https://groups.example/jane"}}})));
    page(signer.sign(&claims(json!({"iss": "https://else", "roles": ["system:masters"]}))));
    assert!(ask(&tokens, &again).await.unwrap_err().contains("another issuer"));
    page(Signer::new(false).sign(&claims(json!({"roles": ["system:masters"]}))));
    assert!(ask(&tokens, &again).await.unwrap_err().contains("verify distributed claim token"));
}

#[test]
fn files_are_judged() {
    let good = "  claimMappings: {username: {claim: sub, prefix: ''}}\n";
    let whole = |issuer: &str, rest: &str| format!("jwt:\n- issuer: {{{issuer}}}\n{rest}");
    let plain = "url: 'https://a', audiences: [x]";
    let check = |body: &str, want: &str| {
        let why = file(body).err().unwrap_or_default();
        assert!(if want.is_empty() { why.is_empty() } else { why.contains(want) }, "{body}\n{why}\n{want}");
    };
    check("jwt: []\n", "");
    check("anonymous: {enabled: true, conditions: [{path: /livez}]}\n", "");
    check(
        "anonymous: {enabled: false, conditions: [{path: /livez}]}\n",
        "enabled should be set to true when conditions are defined",
    );
    check("jwts: []\n", "unknown field `jwts`");
    check(&whole(plain, good), "");
    check(&whole("audiences: [x]", good), "jwt[0].issuer.url: Required value");
    check(&whole("url: 'http://a', audiences: [x]", good), "URL scheme must be https");
    check(&whole("url: 'https://u:p@a', audiences: [x]", good), "must not contain a username or password");
    check(&whole("url: 'https://a?b=c', audiences: [x]", good), "must not contain a query");
    check(&whole("url: 'https://a#b', audiences: [x]", good), "must not contain a fragment");
    check(
        &whole("url: 'https://own', audiences: [x]", good),
        "must not overlap with disallowed issuers: [https://own]",
    );
    check(
        &whole("url: 'https://a', discoveryURL: 'https://a/', audiences: [x]", good),
        "discoveryURL must be different from URL",
    );
    check(&whole("url: 'https://a'", good), "at least one jwt[0].issuer.audiences is required");
    check(
        &whole("url: 'https://a', audiences: [x, z]", good),
        "audienceMatchPolicy must be MatchAny for multiple audiences",
    );
    check(&whole("url: 'https://a', audiences: [x, z], audienceMatchPolicy: MatchAny", good), "");
    check(&whole("url: 'https://a', audiences: [x, x], audienceMatchPolicy: MatchAny", good), "Duplicate value: \"x\"");
    check(&whole("url: 'https://a', audiences: [x], certificateAuthority: hello", good), "certificateAuthority");
    check(&whole("url: 'https://a', audiences: [x], egressSelectorType: cluster", good), "egressSelectorType");
    check(&whole(plain, ""), "claimMappings.username: Required value: claim or expression is required");
    check(&whole(plain, "  claimMappings: {username: {claim: sub}}\n"), "prefix is required when claim is set");
    check(&whole(plain, "  claimMappings: {username: {claim: sub, expression: claims.sub}}\n"), "can't both be set");
    check(&whole(plain, "  claimMappings: {username: {expression: clams.sub}}\n"), "undeclared reference to 'clams'");
    check(
        &whole(plain, "  claimMappings: {username: {expression: claims.email}}\n"),
        "claims.email_verified must be used",
    );
    let verified = "  claimMappings: {username: {expression: claims.email}}\n  claimValidationRules: [{expression: 'claims.?email_verified.orValue(true) == true'}]\n";
    check(&whole(plain, verified), "");
    check(
        &whole(plain, &format!("{good}  claimValidationRules: [{{expression: claims.sub}}]\n")),
        "must evaluate to bool",
    );
    check(
        &whole(plain, &format!("{good}  claimValidationRules: [{{claim: a, message: b}}]\n")),
        "may not be specified when claim is set",
    );
    check(
        &whole(plain, &format!("{good}  userValidationRules: [{{expression: user.name == 'x'}}]\n")),
        "undefined field 'name'",
    );
    let extra = |key: &str| {
        format!(
            "  claimMappings: {{username: {{claim: sub, prefix: ''}}, extra: [{{key: '{key}', valueExpression: claims.a}}]}}\n"
        )
    };
    check(&whole(plain, &extra("a.b/c")), "");
    check(&whole(plain, &extra("abc")), "domain-prefixed path");
    check(&whole(plain, &extra("a.b/C")), "must be lowercase");
    check(&whole(plain, &extra("x.k8s.io/c")), "reserved for Kubernetes use");
    check(&format!("{0}{1}", whole(plain, good), &whole(plain, good)[5..]), "Duplicate value: \"https://a\"");
}

#[test]
fn flags_are_one_issuer() {
    let check = |claim: &str, prefix: &str, want: &str| {
        let flags = Flags {
            issuer_url: "https://a".into(),
            client_id: "c".into(),
            username_claim: claim.into(),
            username_prefix: prefix.into(),
            ..Flags::default()
        };
        let jwt = Jwt::from(&flags);
        assert_eq!(jwt.claim_mappings.username.prefix.as_deref(), Some(want));
        Configuration { jwt: vec![jwt], anonymous: None }.judge(&[]).unwrap();
    };
    check("sub", "", "https://a#");
    check("sub", "-", "");
    check("email", "", "");
    check("sub", "x:", "x:");
    assert!(algorithms(Some(&["HS256".to_owned()])).is_err());
}
