//! Priority levels as their objects say: read, kept while they have requests, and given their seats.
//!
//! Never writes objects. Source: KEP-1040; upstream's config controller.

use super::demand::Expected;
use super::dispatcher::Response;
use super::hand::Dealer;
use super::meters::Meters;
use super::schema::{Rule, Schema, order};
use super::share::{Part, Seats, Wish, divide};
use super::{Fairness, Level, bootstrap};
use k8s_openapi::api::flowcontrol::v1 as wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A level that is there.
pub(super) struct Holding {
    pub(super) level: Arc<Level>,
    uid: String,
    part: Part,
    seats: Seats,
    expected: Expected,
    response: Response,
    /// Seats for now.
    current: u32,
    /// Widest work that is guessed for it; 0 without a bound of its own.
    widest: u32,
    /// Its object is gone; it goes when its last request has.
    pub(super) quiescing: bool,
}

/// What the object of a level says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    part: Part,
    response: Response,
}

/// How wide the widest work may be guessed to be, of a level's seats.
const WIDEST: f64 = 0.15;

/// `None` for a level that cannot be: it is as if it were not there.
fn read(object: &wire::PriorityLevelConfiguration) -> Option<Wanted> {
    let spec = object.spec.as_ref()?;
    let number = |given: Option<i32>, otherwise: u32| given.map_or(Some(otherwise), |given| u32::try_from(given).ok());
    let exempt = spec.type_ == "Exempt";
    if exempt != (object.metadata.name.as_deref() == Some(bootstrap::EXEMPT)) {
        return None;
    }
    match (exempt, &spec.exempt, &spec.limited) {
        (true, Some(exempt), None) => Some(Wanted {
            part: Part {
                shares: number(exempt.nominal_concurrency_shares, 0)?,
                lendable: number(exempt.lendable_percent, 0)?,
                borrowing: None,
                exempt: true,
            },
            response: Response::Exempt,
        }),
        (false, None, Some(limited)) => {
            let answer = limited.limit_response.as_ref()?;
            let response = match (answer.type_.as_str(), &answer.queuing) {
                ("Reject", None) => Response::Refuse,
                ("Queue", Some(queuing)) => {
                    let dealer = Dealer::new(number(queuing.queues, 64)?, number(queuing.hand_size, 8)?)?;
                    let length = usize::try_from(number(queuing.queue_length_limit, 50)?).ok()?;
                    Response::Queue { dealer, length }
                }
                _ => return None,
            };
            let part = Part {
                shares: number(limited.nominal_concurrency_shares, 30)?,
                lendable: number(limited.lendable_percent, 0)?,
                borrowing: limited.borrowing_limit_percent.map(|percent| u32::try_from(percent).unwrap_or(0)),
                exempt: false,
            };
            Some(Wanted { part, response })
        }
        _ => None,
    }
}

/// A flow schema and whether its level is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) schema: String,
    pub(super) level: String,
    pub(super) dangling: bool,
}

impl Fairness {
    /// Takes up these objects in the place of those before, and says of each schema whether its level is there. What must be there is
    /// there, whatever the objects say.
    pub(super) fn digest(
        &self,
        levels: &[wire::PriorityLevelConfiguration],
        schemas: &[wire::FlowSchema],
    ) -> Vec<Judged> {
        let mut held = self.levels.lock();
        let mut named = BTreeSet::new();
        for object in levels {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            match read(object) {
                Some(wanted) => {
                    named.insert(name.to_owned());
                    self.hold(&mut held, name, object.metadata.uid.as_deref().unwrap_or_default(), wanted);
                }
                None => tracing::warn!(name, "a priority level cannot be used and is ignored"),
            }
        }
        held.retain(|name, holding| {
            if named.contains(name) || bootstrap::is_mandatory(name) {
                return true;
            }
            holding.quiescing = true;
            !holding.level.state.lock().is_idle()
        });
        for object in bootstrap::mandatory_levels() {
            let name = object.metadata.name.as_deref().unwrap_or_default();
            if let (false, Some(wanted)) = (held.contains_key(name), read(&object)) {
                self.hold(&mut held, name, "", wanted);
            }
        }
        self.settle(&mut held);

        let judged = schemas.iter().map(|schema| {
            let level = schema.spec.as_ref().map(|spec| spec.priority_level_configuration.name.clone());
            let level = level.unwrap_or_default();
            let dangling = !named.contains(&level);
            Judged { schema: schema.metadata.name.clone().unwrap_or_default(), level, dangling }
        });
        let judged: Vec<Judged> = judged.collect();
        let mut sound: Vec<&wire::FlowSchema> =
            schemas.iter().zip(&judged).filter(|(_, judged)| !judged.dangling).map(|(schema, _)| schema).collect();
        sound.sort_by(|one, other| order(one).cmp(&order(other)));
        let imagined = bootstrap::mandatory_schemas();
        let mut ordered: Vec<&wire::FlowSchema> = Vec::with_capacity(sound.len() + 2);
        let missing = |name: &str| {
            let has = sound.iter().any(|schema| schema.metadata.name.as_deref() == Some(name));
            imagined.iter().find(|schema| !has && schema.metadata.name.as_deref() == Some(name))
        };
        ordered.extend(missing(bootstrap::EXEMPT));
        ordered.extend(sound.iter().copied());
        ordered.extend(missing(bootstrap::CATCH_ALL));
        self.publish(&held, &ordered);
        judged
    }

    fn hold(&self, held: &mut BTreeMap<String, Holding>, name: &str, uid: &str, wanted: Wanted) {
        let holding = held.entry(name.to_owned()).or_insert_with(|| Holding {
            level: Level::new(name, wanted.part.exempt, wanted.response, 0, &self.shared),
            uid: String::new(),
            part: wanted.part,
            seats: Seats::default(),
            expected: Expected::default(),
            response: wanted.response,
            current: 0,
            widest: 0,
            quiescing: false,
        });
        uid.clone_into(&mut holding.uid);
        holding.part = wanted.part;
        holding.response = wanted.response;
        holding.quiescing = false;
        holding.widest = 0;
    }

    /// Divides the server's seats anew.
    fn settle(&self, held: &mut BTreeMap<String, Holding>) {
        let shares = held.values().map(|holding| u64::from(holding.part.shares)).sum();
        for holding in held.values_mut() {
            holding.seats = holding.part.seats(self.total, shares);
            if let Response::Queue { dealer, .. } = holding.response {
                let nominal = holding.seats.nominal;
                let part = (f64::from(nominal) * WIDEST).ceil() as u32;
                holding.widest = part.min(nominal / dealer.hand()).max(1);
            }
        }
        self.lend(held);
    }

    /// Ten seconds have passed: who needs seats borrows of who does not.
    pub(super) fn rebalance(&self) {
        self.lend(&mut self.levels.lock());
    }

    /// A level waits for its end, and there is nothing to wait for any more.
    pub(super) fn has_idle_remains(&self) -> bool {
        self.levels.lock().values().any(|holding| holding.quiescing && holding.level.state.lock().is_idle())
    }

    fn lend(&self, held: &mut BTreeMap<String, Holding>) {
        let now = self.shared.now();
        for holding in held.values_mut() {
            let seen = holding.level.state.lock().take_demand(now);
            holding.expected.note(seen);
        }
        let wish =
            |holding: &Holding| Wish { seats: holding.seats, exempt: holding.part.exempt, expected: holding.expected };
        let wishes: Vec<Wish> = held.values().map(wish).collect();
        let (seats, factor) = divide(&wishes);
        self.families.fair(factor);
        let places = held.values().map(|holding| match holding.response {
            Response::Queue { dealer, length } => {
                u32::try_from(length).unwrap_or(u32::MAX).saturating_mul(dealer.deck())
            }
            Response::Exempt | Response::Refuse => 0,
        });
        let nominal = held.values().map(|holding| holding.seats.nominal);
        self.shared.in_flight.measure_by(nominal.sum(), places.fold(0, u32::saturating_add));
        for (((name, holding), wish), current) in held.iter_mut().zip(&wishes).zip(seats) {
            holding.current = current;
            self.families.level(name, holding.seats, current, &holding.expected, wish.target());
            let mut begun = Vec::new();
            let mut state = holding.level.state.lock();
            state.measure_by((self.total + 5) / 10);
            state.configure(now, holding.response, current, &mut begun);
            holding.level.wake(&mut state, &begun);
        }
    }

    /// From now on requests are sorted by these schemas.
    fn publish(&self, held: &BTreeMap<String, Holding>, schemas: &[&wire::FlowSchema]) {
        let made = schemas.iter().filter_map(|object| {
            let spec = object.spec.as_ref()?;
            let holding = held.get(&spec.priority_level_configuration.name)?;
            let name = object.metadata.name.clone().unwrap_or_default();
            let (distinguisher, rules) = Rule::read(spec);
            Some(Arc::new(Schema {
                uid: object.metadata.uid.clone().unwrap_or_default(),
                level_uid: holding.uid.clone(),
                widest: holding.widest,
                sharded: matches!(holding.response, Response::Queue { dealer, .. } if dealer.deck() > 1),
                meters: Meters::new(&self.families, &holding.level.name, &name),
                level: Arc::clone(&holding.level),
                name,
                distinguisher,
                rules,
            }))
        });
        self.schemas.store(Arc::new(made.collect()));
    }
}
