//! Who may do what: service accounts, their tokens, roles and the questions about them.

use e2e::{Cli, Cluster, control_plane, eventually};
use std::time::Duration;

/// kubectl as somebody who has this token and nothing else.
fn somebody(cluster: &Cluster, admin: &Cli, name: &str, token: &str) -> Cli {
    // The administrator's certificate would win over a token: a kubeconfig without it.
    let place = |end: &str| cluster.directory().join(format!("{name}.{end}"));
    let authority = place("crt");
    let text = admin.ok("get configmap kube-root-ca.crt -o jsonpath={.data.ca\\.crt}");
    std::fs::write(&authority, text).expect("the authority can be written");
    let kubectl = admin.clone().env("KUBECONFIG", place("kubeconfig"));
    let server = format!("https://127.0.0.1:{}", cluster.port());
    kubectl.ok(&format!("config set-cluster c --server={server} --certificate-authority={}", authority.display()));
    kubectl.ok(&format!("config set-credentials u --token={token}"));
    kubectl.ok("config set-context x --cluster=c --user=u");
    kubectl.ok("config use-context x");
    kubectl
}

#[test]
fn a_service_account_may_what_its_roles_allow() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.namespace("robots");
    admin.ok("create serviceaccount robot");
    let token = admin.ok("create token robot --duration=20m");
    let robot = somebody(&cluster, &admin, "robot", token.trim());

    let who = robot.ok("auth whoami -o jsonpath={.status.userInfo.username}|{.status.userInfo.groups}");
    assert_eq!(
        who,
        r#"system:serviceaccount:robots:robot|["system:serviceaccounts","system:serviceaccounts:robots","system:authenticated"]"#
    );
    let refused = "is forbidden: User \"system:serviceaccount:robots:robot\" cannot";
    robot.fails("get configmaps", &format!("Error from server (Forbidden): configmaps {refused} list resource \"configmaps\" in API group \"\" in the namespace \"robots\""));
    robot.fails("get deployment d", &format!("Error from server (Forbidden): deployments.apps \"d\" {refused} get resource \"deployments\" in API group \"apps\" in the namespace \"robots\""));
    robot.fails("get nodes", &format!("Error from server (Forbidden): nodes {refused} list resource \"nodes\" in API group \"\" at the cluster scope"));
    let answer = robot.run("auth can-i list configmaps");
    assert_eq!((answer.code, answer.stdout.as_str()), (1, "no\n"));

    admin.ok("create role reader --verb=get,list,watch --resource=configmaps");
    admin.ok("create rolebinding robot-reads --role=reader --serviceaccount=robots:robot");
    eventually("the role takes effect", Duration::from_secs(10), || {
        let answer = robot.run("auth can-i list configmaps");
        if answer.stdout == "yes\n" { Ok(()) } else { Err(answer.to_string()) }
    });
    assert_eq!(robot.ok("get configmaps -o name"), "configmap/kube-root-ca.crt\n");
    robot.fails(
        "create configmap a",
        &format!("configmaps {refused} create resource \"configmaps\" in API group \"\" in the namespace \"robots\""),
    );
    assert!(robot.ok("auth can-i --list").contains("configmaps"));
    assert_eq!(admin.run("auth can-i delete secrets --as=system:serviceaccount:robots:robot").stdout, "no\n");
    assert_eq!(admin.ok("auth can-i '*' '*'"), "yes\n");

    // Nobody gives away more than he has.
    admin.ok("create role binder --verb=create,get --resource=roles,rolebindings");
    admin.ok("create rolebinding robot-binds --role=binder --serviceaccount=robots:robot");
    eventually("the second role takes effect", Duration::from_secs(10), || {
        let output = robot.run("create role more --verb=delete --resource=secrets");
        let want = "is attempting to grant RBAC permissions not currently held:";
        if output.code != 0 && output.stderr.contains(want) { Ok(()) } else { Err(output.to_string()) }
    });

    // A token lives no longer than its account.
    admin.ok("delete serviceaccount robot");
    eventually("the token is no longer accepted", Duration::from_secs(15), || {
        let output = robot.run("get configmaps");
        let want = "You must be logged in to the server";
        if output.code != 0 && output.stderr.contains(want) { Ok(()) } else { Err(output.to_string()) }
    });
}

#[test]
fn who_acts_as_another_may_do_as_much_as_was_given_for_that() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.namespace("deputies");
    admin.ok("create serviceaccount deputy");
    let token = admin.ok("create token deputy --duration=20m");
    let deputy = somebody(&cluster, &admin, "deputy", token.trim());
    admin.ok("create role reads --verb=get,list,watch,delete --resource=configmaps");
    admin.ok("create rolebinding jane-reads --role=reads --user=jane");
    // As jane it may list; what she may besides is not given for that.
    let roles = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"deputy-acts"},"rules":[
            {"verbs":["impersonate:user-info"],"apiGroups":["authentication.k8s.io"],"resources":["users"],"resourceNames":["jane"]},
            {"verbs":["impersonate-on:user-info:get"],"nonResourceURLs":["/api","/api/*","/apis","/apis/*"]}]},
        {"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"deputy-lists"},"rules":[
            {"verbs":["impersonate-on:user-info:list"],"apiGroups":[""],"resources":["configmaps"]}]}]}"#;
    admin.feed("create -f -", roles.as_bytes()).ok();
    admin.ok("create clusterrolebinding deputy-acts --clusterrole=deputy-acts --serviceaccount=deputies:deputy");
    admin.ok("create rolebinding deputy-lists --role=deputy-lists --serviceaccount=deputies:deputy");
    eventually("the roles take effect", Duration::from_secs(10), || {
        let output = deputy.run("get configmaps -o name --as=jane");
        if output.stdout == "configmap/kube-root-ca.crt\n" { Ok(()) } else { Err(output.to_string()) }
    });
    let refused = "is forbidden: User \"system:serviceaccount:deputies:deputy\" cannot";
    deputy.fails("get configmaps", &format!("configmaps {refused} list resource"));
    deputy.fails(
        "delete configmap kube-root-ca.crt --wait=false --as=jane",
        &format!(
            "configmaps \"kube-root-ca.crt\" {refused} impersonate-on:user-info:delete resource \"configmaps\" in API group \"\" in the namespace \"deputies\""
        ),
    );
    deputy.fails(
        "get configmaps --as=joe",
        &format!(
            "users.authentication.k8s.io \"joe\" {refused} impersonate:user-info resource \"users\" in API group \"authentication.k8s.io\" at the cluster scope"
        ),
    );
    deputy.fails(
        "get configmaps --as=jane --as-group=system:masters",
        "impersonating the system:masters group is not allowed",
    );
    // Without `impersonate` nobody acts as a service account in the mode for other users.
    deputy.fails("get configmaps --as=system:serviceaccount:deputies:deputy", "cannot impersonate-on:serviceaccount:");
    assert_eq!(
        admin.ok("auth whoami --as=jane --as-group=dev -o jsonpath={.status.userInfo.groups}"),
        r#"["dev","system:authenticated"]"#
    );
}

#[test]
fn strangers_are_nobody() {
    let Some(cluster) = control_plane() else { return };
    let stranger = cluster.anonymous();
    let pods = "/api/v1/namespaces/default/pods";
    let answer = stranger.get(pods);
    let refused = "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert_eq!(
        (answer.status, &answer.body["reason"], &answer.body["message"]),
        (403, &"Forbidden".into(), &refused.into())
    );
    let answer = stranger.get("/metrics");
    let refused = "forbidden: User \"system:anonymous\" cannot get path \"/metrics\"";
    assert_eq!((answer.status, &answer.body["message"]), (403, &refused.into()));
    assert_eq!(stranger.get("/version").body["minor"], "36", "the version is public");
    assert_eq!(stranger.get("/livez").body, "ok");
    let liar = somebody(&cluster, &cluster.kubectl(), "liar", "nonsense");
    liar.run(&format!("get --raw {pods}")).check_failed("You must be logged in to the server");
}

#[test]
fn an_administrator_may_act_as_others() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.kubectl();
    let who = admin
        .ok("auth whoami --as=jane --as-group=devs -o jsonpath={.status.userInfo.username}|{.status.userInfo.groups}");
    assert_eq!(who, r#"jane|["devs","system:authenticated"]"#);
    admin.fails(
        "get pods --as=jane",
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
    );
    admin.ok("create clusterrolebinding jane-views --clusterrole=view --user=jane");
    eventually("the binding takes effect", Duration::from_secs(10), || {
        let output = admin.run("get pods --as=jane -A");
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    admin.fails("get secrets --as=jane", "secrets is forbidden: User \"jane\" cannot list resource \"secrets\"");
}

#[test]
fn roles_are_reconciled_and_deleted_in_the_foreground() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.namespace("reconciled");
    let role = |name: &str, verbs: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}, namespace: reconciled}}\nrules:\n\
             - {{apiGroups: [\"\"], resources: [secrets], verbs: [{verbs}]}}\n"
        )
    };
    let verbs = "get role keeper -o jsonpath={.rules[*].verbs}";
    admin.feed("auth reconcile -f -", role("keeper", "get").as_bytes()).ok();
    assert_eq!(admin.ok(verbs), r#"["get"]"#);
    // What is there is added to.
    admin.feed("auth reconcile -f -", role("keeper", "list").as_bytes()).ok();
    assert_eq!(admin.ok(verbs), r#"["get"] ["list"]"#);

    // Who may write roles gives away no more than is his.
    admin.ok("create serviceaccount writer");
    admin.ok("create role writer --verb=get,create,update,patch --resource=roles,rolebindings");
    admin.ok("create rolebinding writer --role=writer --serviceaccount=reconciled:writer");
    let token = admin.ok("create token writer --duration=20m");
    let writer = somebody(&cluster, &admin, "writer", token.trim());
    eventually("the role takes effect", Duration::from_secs(10), || {
        let output = writer.feed("auth reconcile -f -", role("keeper", "delete").as_bytes());
        let want = "is attempting to grant RBAC permissions not currently held";
        if output.code != 0 && output.stderr.contains(want) { Ok(()) } else { Err(output.to_string()) }
    });
    assert_eq!(admin.ok(verbs), r#"["get"] ["list"]"#);

    // One that gathers the rules of others is for those who hold everything, or may escalate.
    let gathers = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: reconciled-gathers}\n\
                   aggregationRule: {clusterRoleSelectors: [{matchLabels: {reconciled: here}}]}\nrules: []\n";
    admin.ok("create clusterrole reconciled-writer --verb=get,create,update,patch --resource=clusterroles");
    admin.ok("create clusterrolebinding reconciled-writer --clusterrole=reconciled-writer --serviceaccount=reconciled:writer");
    eventually("the cluster role takes effect", Duration::from_secs(10), || {
        let output = writer.feed("auth reconcile -f -", gathers.as_bytes());
        let want = "must have cluster-admin privileges to use the aggregationRule";
        if output.code != 0 && output.stderr.contains(want) { Ok(()) } else { Err(output.to_string()) }
    });
    admin.ok("create clusterrole reconciled-escalates --verb=escalate --resource=clusterroles");
    admin.ok("create clusterrolebinding reconciled-escalates --clusterrole=reconciled-escalates --serviceaccount=reconciled:writer");
    eventually("who may escalate writes it", Duration::from_secs(10), || {
        let output = writer.feed("auth reconcile -f -", gathers.as_bytes());
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });

    // The garbage collector holds none of these rules, and yet lets go of what has them.
    admin.ok("create rolebinding everything --clusterrole=cluster-admin --user=nobody");
    for line in [
        "delete role keeper --cascade=foreground --timeout=60s",
        "delete rolebinding everything --cascade=orphan --timeout=60s",
        "delete clusterrole reconciled-gathers --cascade=foreground --timeout=60s",
    ] {
        admin.ok(line);
    }
}

#[test]
fn a_secret_holds_a_token_for_its_account() {
    let Some(cluster) = control_plane() else { return };
    let admin = cluster.namespace("keepers");
    admin.ok("create serviceaccount keeper");
    let secret = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
                  metadata: {name: keeper, annotations: {kubernetes.io/service-account.name: keeper}}\n";
    admin.feed("create -f -", secret.as_bytes()).ok();
    let token = eventually("the secret has a token", Duration::from_secs(15), || {
        let token = admin.ok("get secret keeper -o go-template='{{with .data.token}}{{. | base64decode}}{{end}}'");
        if token.is_empty() { Err("none".to_owned()) } else { Ok(token) }
    });
    let keeper = somebody(&cluster, &admin, "keeper", token.trim());
    let who = keeper.ok("auth whoami -o jsonpath={.status.userInfo.username}");
    assert_eq!(who, "system:serviceaccount:keepers:keeper");
    admin.ok("delete serviceaccount keeper");
    admin.ok("wait --for=delete secret/keeper --timeout=30s");
}
