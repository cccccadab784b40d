//! What an object is in the versions in which others own its fields, where a webhook has to be asked.
//!
//! A write is computed without waiting for anybody: it says which version of which object it misses, is tried again when that is known,
//! and finds it here. Never remembers anything beyond its write.

use super::convert::Conversions;
use api::apply::{Unconverted, Versions};
use api::json::Value;
use api::kind::Kind;
use api::schema::SchemaRef;
use api::value;
use parking_lot::Mutex;

/// A write asks for so many objects at most: a few for each version of its kind.
const MOST: usize = 64;

/// The other versions of the objects of one write.
#[derive(Debug)]
pub struct Others {
    kind: &'static Kind,
    met: Mutex<Met>,
}

#[derive(Debug, Default)]
struct Met {
    known: Vec<(Question, Result<Value, String>)>,
    missing: Option<Question>,
}

#[derive(Clone, Debug, PartialEq)]
struct Question {
    object: Value,
    version: String,
}

impl Others {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(kind: &'static Kind) -> Others {
        Others { kind, met: Mutex::default() }
    }

    /// Asks for what was missed. `false` when nothing was, or no more is asked: whatever the write has come to stands.
    pub async fn found(&self, conversions: &Conversions) -> bool {
        let Some((kind, question)) = self.missing() else { return false };
        let answer = conversions.raw(kind, question.object.clone()).await;
        self.learn(question, answer)
    }

    /// What was missed, and the kind of its version.
    fn missing(&self) -> Option<(&'static Kind, Question)> {
        let question = self.met.lock().missing.take()?;
        Some((self.kind.sibling(&question.version)?, question))
    }

    /// `false` when that is enough for one write.
    fn learn(&self, question: Question, answer: Result<Value, String>) -> bool {
        let mut met = self.met.lock();
        met.known.push((question, answer));
        met.known.len() <= MOST
    }
}

impl Versions for Others {
    fn convert(&self, object: &Value, version: &str) -> Result<Option<(Value, SchemaRef<'_>)>, Unconverted> {
        let to = self.kind.sibling(version).filter(|_| self.kind.by_webhook());
        let Some(to) = to.filter(|_| value::text(object, "apiVersion") != version) else {
            return self.kind.convert(object, version);
        };
        let mut met = self.met.lock();
        let answer = met.known.iter().find(|(asked, _)| asked.version == version && asked.object == *object);
        match answer.map(|(_, answer)| answer.clone()) {
            Some(Ok(object)) => Ok(Some((object, to.schema()))),
            Some(Err(why)) => Err(Unconverted::Never(why)),
            None => {
                met.missing = Some(Question { object: object.clone(), version: version.to_owned() });
                Err(Unconverted::Later)
            }
        }
    }

    fn resets(&self) -> bool {
        self.kind.resets()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;
    use api::json::json;

    fn kind(strategy: &Value) -> &'static Kind {
        let version = |name: &str| json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": {"type": "object"}}});
        let defined =
            api::custom::kinds::define(&json!({"spec": {"group": "g.io", "scope": "Cluster", "conversion": strategy,
            "names": {"plural": "things", "kind": "Thing"}, "versions": [version("v1"), version("v2")]}}));
        defined.unwrap().stored
    }

    #[test]
    fn what_is_missed_is_asked_once_and_known_then() {
        let others =
            Others::new(kind(&json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}})));
        assert!(others.missing().is_none(), "nothing was missed");
        let object = |version: &str| json!({"apiVersion": version, "kind": "Thing", "metadata": {"name": "x"}});
        let found = |object: &Value, version| others.convert(object, version).map(|found| found.unwrap().0);
        let (first, second) = (object("g.io/v1"), object("g.io/v2"));
        assert_eq!(found(&first, "g.io/v1"), Ok(first.clone()), "nobody has to be asked");
        assert_eq!(found(&first, "g.io/v2"), Err(Unconverted::Later));
        let (to, question) = others.missing().unwrap();
        assert_eq!((to.version, &question.object), ("v2", &first));
        assert!(others.learn(question, Ok(second.clone())));
        assert_eq!(found(&first, "g.io/v2"), Ok(second.clone()));
        assert!(others.missing().is_none(), "what is known is not asked again");
        assert_eq!(found(&second, "g.io/v1"), Err(Unconverted::Later));
        let (_, question) = others.missing().unwrap();
        assert!(others.learn(question, Err("not today".to_owned())));
        assert_eq!(found(&second, "g.io/v1"), Err(Unconverted::Never("not today".to_owned())));
        let why = "request to convert CR to an invalid group/version: g.io/v3";
        assert_eq!(found(&first, "g.io/v3"), Err(Unconverted::Never(why.to_owned())));
        // A converter that never gives the same twice does not keep a write for ever.
        let rounds = (0..).take_while(|round| {
            let object = json!({"apiVersion": "g.io/v1", "round": round});
            assert_eq!(found(&object, "g.io/v2"), Err(Unconverted::Later));
            others.learn(others.missing().unwrap().1, Ok(object))
        });
        assert_eq!(rounds.count(), MOST - 2);
    }

    #[test]
    fn versions_by_name_are_known() {
        let others = Others::new(kind(&json!({"strategy": "None"})));
        let (found, _) = others.convert(&json!({"apiVersion": "g.io/v1", "a": 1}), "g.io/v2").unwrap().unwrap();
        assert_eq!(found, json!({"apiVersion": "g.io/v2", "a": 1}));
        assert!(others.missing().is_none());
    }
}
