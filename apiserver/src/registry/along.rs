//! What is written in the transaction of an object because of it: quotas that count it.
//!
//! Never decides what that is; admission does.

use super::Target;
use super::write::bytes;
use crate::answer::Failure;
use crate::server::Server;
use admission::Request;
use api::json::Value;
use api::meta;
use api::status::Status;
use storage::store::{Expect, Key, Op, Revision};

/// Writes that go with one write. When one of them meets another writer's, all are made anew.
pub(super) struct Along(Vec<Op>);

impl Along {
    /// Asks admission for the last word on a new or changed object.
    ///
    /// # Errors
    /// Its refusal.
    pub(super) async fn settle(server: &Server, request: &Request<'_>, object: &Value) -> Result<Along, Failure> {
        let mut ops = Vec::new();
        for mut one in server.admission.settle(request, object, server).await.map_err(|refusal| refusal.0)? {
            let (namespace, name) = (meta::namespace(&one.object).to_owned(), meta::name(&one.object).to_owned());
            let target = Target { kind: one.kind, namespace, name };
            let revision = meta::resource_version(&one.object).parse();
            let revision = revision.map_err(|_| Status::internal("an object without a version is written along"))?;
            let bytes = bytes(server, one.kind, &mut one.object).await?;
            ops.push(Op::Put { key: target.key(), bytes, expect: Expect::At(Revision(revision)), expires: None });
        }
        Ok(Along(ops))
    }

    /// The writes of a commit: the object's first, `more` last.
    pub(super) fn with(&self, op: Op, more: &[Op]) -> Vec<Op> {
        std::iter::once(op).chain(self.0.iter().chain(more).cloned()).collect()
    }

    /// Whether one of them is about this key.
    pub(super) fn holds(&self, key: &Key) -> bool {
        self.0.iter().any(|op| op.key() == key)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use crate::authn::{AUTHENTICATED, User};
    use crate::testing::World;
    use api::json::{Value, json};
    use futures::future::join_all;

    const MAPS: &str = "/api/v1/namespaces/tight/configmaps";

    fn root() -> User {
        User::new("root", &["system:masters", AUTHENTICATED])
    }

    async fn quota(world: &World) -> Value {
        world.ask(&root(), "GET", "/api/v1/namespaces/tight/resourcequotas/q", &Value::Null).await.1
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_writers_on_two_servers_exactly_as_many_get_in_as_the_quota_allows() {
        const LIMIT: usize = 12;
        let store = World::store().await;
        let worlds = [World::over(&store, |_| {}).await, World::over(&store, |_| {}).await];
        let made = |path: &'static str, object: Value| {
            let world = &worlds[0];
            async move { assert_eq!(world.ask(&root(), "POST", path, &object).await.0, 201, "{object}") }
        };
        made("/api/v1/namespaces", json!({"metadata": {"name": "tight"}})).await;
        let hard = json!({"count/configmaps": LIMIT, "secrets": 3});
        let quotas = "/api/v1/namespaces/tight/resourcequotas";
        made(quotas, json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).await;
        // The other server knows the quota once it shows it.
        while worlds[1].ask(&root(), "GET", quotas, &Value::Null).await.1["items"].as_array().is_none_or(Vec::is_empty)
        {
        }

        let create = |number: usize| {
            let world = &worlds[number % 2];
            let object = json!({"metadata": {"name": format!("c{number}")}});
            async move { world.ask(&root(), "POST", MAPS, &object).await }
        };
        let answers = join_all((0..3 * LIMIT).map(create)).await;
        let in_number = answers.iter().filter(|(code, _)| *code == 201).count();
        let refusals: Vec<&Value> = answers.iter().filter(|(code, _)| *code != 201).map(|(_, body)| body).collect();
        assert_eq!(in_number, LIMIT, "{refusals:?}");
        let words = format!(
            "exceeded quota: q, requested: count/configmaps=1, used: count/configmaps={LIMIT}, limited: count/configmaps={LIMIT}"
        );
        assert!(refusals.iter().all(|body| body["message"].as_str().unwrap().contains(&words)), "{refusals:?}");
        // Its status is that of the last one that got in, and of the same transaction.
        let after = quota(&worlds[1]).await;
        assert_eq!(after["status"]["used"], json!({"count/configmaps": LIMIT.to_string()}));
        let versions = answers.iter().filter(|(code, _)| *code == 201);
        let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        let last = versions.map(|(_, object)| version(object)).max().unwrap();
        assert_eq!(version(&after), last);

        // What goes makes room at once, and a change that costs nothing leaves the quota alone.
        let one = answers.iter().find(|(code, _)| *code == 201).map(|(_, object)| &object["metadata"]["name"]).unwrap();
        let path = format!("{MAPS}/{}", one.as_str().unwrap());
        assert_eq!(worlds[0].ask(&root(), "PATCH", &path, &json!({"data": {"k": "v"}})).await.0, 200);
        assert_eq!(version(&quota(&worlds[0]).await), last);
        assert_eq!(worlds[0].ask(&root(), "DELETE", &path, &Value::Null).await.0, 200);
        let dry = format!("{MAPS}?dryRun=All");
        let again = json!({"metadata": {"name": "again"}});
        assert_eq!(worlds[1].ask(&root(), "POST", &dry, &again).await.0, 201);
        assert_eq!(version(&quota(&worlds[1]).await), last);
        assert_eq!(worlds[1].ask(&root(), "POST", MAPS, &again).await.0, 201);
        let more = json!({"metadata": {"name": "more"}});
        assert_eq!(worlds[0].ask(&root(), "POST", MAPS, &more).await.0, 403);
    }
}
