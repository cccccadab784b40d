//! What the plugins about CertificateSigningRequests share: which writes they judge, and the rights over signers.
//!
//! Never refuses anything itself.

use crate::plugin::{Lookup, Operation, Request, Right};

/// The group of requests and signers.
const GROUP: &str = "certificates.k8s.io";

/// The write is to a CertificateSigningRequest, through this subresource.
pub(crate) fn concerns(request: &Request<'_>, operation: Operation, subresource: &str) -> bool {
    concerns_other(request, "certificatesigningrequests", operation, subresource)
}

/// The write is to this resource of the group, through this subresource.
pub(crate) fn concerns_other(request: &Request<'_>, plural: &str, operation: Operation, subresource: &str) -> bool {
    request.operation == operation
        && (request.kind.group, request.kind.plural) == (GROUP, plural)
        && request.subresource == subresource
}

/// Whether the user may do `verb` for a signer, by its own name or by `domain/*`.
pub(crate) async fn may(request: &Request<'_>, verb: &str, signer: &str, lookup: &dyn Lookup) -> bool {
    let right = |name| Right { verb, group: GROUP, resource: "signers", name, ..Right::default() };
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    lookup.may(request, right(signer)).await || lookup.may(request, right(&domain)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Chain;
    use crate::testing::Cluster;
    use api::json::{Value, json};
    use api::kinds::by_resource;

    /// Where the user holds these rights, `verb name`.
    fn holding(rights: &'static [&'static str]) -> Cluster {
        let right = move |request: &Request<'_>, right: Right<'_>| {
            assert_eq!((request.user, right.group, right.resource), ("jane", GROUP, "signers"));
            rights.contains(&format!("{} {}", right.verb, right.name).as_str())
        };
        Cluster { right: Box::new(right), ..Cluster::default() }
    }

    /// O=system:masters, CN=jane; P-256.
    const MASTERS: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIa01JR0tBZ0VBTUNneEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRw\
        dFlYTjBaWEp6TVEwd0N3WURWUVFEREFScQpZVzVsTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFY0xZdStET1Fs\
        bnJuSUxST1dCZDlrWWNpCitCUk1VOTNPVDBySUVTSE95RGxmclVnaitOaU5kL1NDN2NzQWduTnFWdlJYb3FRRmg4a1BlNzQ4b2Y1\
        KzJhQUEKTUFvR0NDcUdTTTQ5QkFNQ0Ewa0FNRVlDSVFERW4weUVzQm5VNzJ0Wlo1cnFjRUd5VjQybG93U3J6VmVaV0lnbgpXbjVm\
        WFFJaEFJSjVQWWZ2aEVVQnJyZWRRVGJ5MzNEVHJVcXVEZ1ZtVnFmU2FlQnpOQUdDCi0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVF\
        U1QtLS0tLQo=";

    /// What jane is told of a write of `r`; nothing when it is admitted.
    fn said(
        (version, plural): (&str, &str),
        rights: &'static [&'static str],
        operation: Operation,
        part: &str,
        (old, new): (&Value, &Value),
    ) -> String {
        let request = Request {
            operation,
            kind: by_resource(GROUP, version, plural).unwrap(),
            namespace: "",
            name: "r",
            subresource: part,
            user: "jane",
            uid: "",
            groups: &[],
            extra: &std::collections::BTreeMap::new(),
            old,
            now: 0,
            form: crate::Form::Itself,
            dry_run: false,
            options: &Value::Null,
            notes: &crate::Notes::default(),
            rounds: None,
        };
        let chain = Chain::new(&[], &[]).unwrap();
        let outcome = futures::executor::block_on(chain.validate(&request, new, &holding(rights)));
        outcome.err().map(|refusal| refusal.0.message).unwrap_or_default()
    }

    #[test]
    fn signers_are_guarded() {
        let own =
            |status: Value| json!({"spec": {"signerName": "example.com/x", "request": MASTERS}, "status": status});
        let (bare, issued) = (own(json!({})), own(json!({"certificate": "eA=="})));
        let mut masters = bare.clone();
        masters["spec"]["signerName"] = json!("kubernetes.io/kube-apiserver-client");
        let mut unreadable = masters.clone();
        unreadable["spec"]["request"] = json!("");
        let (create, update) = (Operation::Create, Operation::Update);
        let approve = "user not permitted to approve requests with signerName \"example.com/x\"";
        let sign = "user not permitted to sign requests with signerName \"example.com/x\"";
        for (rights, operation, part, old, new, why) in [
            (&[][..], update, "approval", &bare, &bare, approve),
            (&["sign example.com/x", "approve *"], update, "approval", &bare, &bare, approve),
            (&["approve example.com/x"], update, "approval", &bare, &bare, ""),
            (&["approve example.com/*"], update, "approval", &bare, &bare, ""),
            // The signer is the stored object's.
            (&["approve kubernetes.io/*"], update, "approval", &bare, &masters, approve),
            (&[], update, "status", &bare, &bare, ""),
            (&[], update, "status", &bare, &issued, sign),
            (&["sign example.com/*"], update, "status", &bare, &issued, ""),
            (&[], update, "", &bare, &issued, ""),
            (&[], create, "", &Value::Null, &bare, ""),
            (
                &[],
                create,
                "",
                &Value::Null,
                &masters,
                "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            ),
            (
                &[],
                create,
                "",
                &Value::Null,
                &unreadable,
                "failed to parse CSR: PEM block type must be CERTIFICATE REQUEST",
            ),
        ] {
            let said = said(("v1", "certificatesigningrequests"), rights, operation, part, (old, new));
            let expected = match why {
                "" => String::new(),
                why => format!("certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: {why}"),
            };
            assert_eq!(said, expected, "{rights:?} {operation:?} {part}");
        }
    }

    #[test]
    fn bundles_and_requests_of_pods_are_guarded() {
        let of = |status: Value| json!({"metadata": {"name": "r"}, "spec": {"signerName": "a.b/c"}, "status": status});
        let (plain, done) = (of(json!({})), of(json!({"certificateChain": "x"})));
        let mut owned = plain.clone();
        owned["metadata"]["finalizers"] = json!(["a.b/c"]);
        let nobodys = json!({"spec": {"trustBundle": "x"}});
        let attest = "clustertrustbundles.certificates.k8s.io \"r\" is forbidden: user not permitted to attest for signerName \"a.b/c\"";
        let sign = "PodCertificateRequest.certificates.k8s.io \"r\" is invalid: spec.signerName: Forbidden: User \"jane\" is not \
                    permitted to \"sign\" for signer \"a.b/c\"";
        const BUNDLES: &str = "clustertrustbundles";
        const REQUESTS: &str = "podcertificaterequests";
        let (create, update) = (Operation::Create, Operation::Update);
        for (plural, rights, operation, part, old, new, why) in [
            (BUNDLES, &[][..], create, "", &Value::Null, &plain, attest),
            (BUNDLES, &["sign a.b/c"], create, "", &Value::Null, &plain, attest),
            (BUNDLES, &["attest a.b/*"], create, "", &Value::Null, &plain, ""),
            (BUNDLES, &[], create, "", &Value::Null, &nobodys, ""),
            (BUNDLES, &[], update, "", &plain, &owned, ""),
            (BUNDLES, &[], update, "", &plain, &done, attest),
            (REQUESTS, &[], update, "status", &plain, &plain, ""),
            (REQUESTS, &[], update, "status", &plain, &done, sign),
            (REQUESTS, &["sign a.b/c"], update, "status", &plain, &done, ""),
            (REQUESTS, &[], update, "", &plain, &done, ""),
        ] {
            let said = said(("v1beta1", plural), rights, operation, part, (old, new));
            assert_eq!(said, why, "{plural} {rights:?} {operation:?} {part}");
        }
    }
}
