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
        let missing = self.met.lock().missing.take();
        let Some(question) = missing else { return false };
        let Some(kind) = self.kind.sibling(&question.version) else { return false };
        let answer = conversions.raw(kind, question.object.clone()).await;
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
