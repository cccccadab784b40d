//! `serde_json`'s values are the model: what both are told to do leaves the same JSON.

use super::*;
use serde_json::Value as Model;

/// Choices from a seed that is printed where a test fails.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Short and long names, some beginnings of others, some that the order of bytes and of lengths tell apart differently.
    fn name(&mut self) -> String {
        let stem = ["", "a", "b", "aa", "é", "spec", "metadata.name", "terminationGracePeriodSeconds"];
        let stem = stem[self.roll(stem.len() as u64) as usize];
        if self.roll(2) == 0 { stem.to_owned() } else { format!("{stem}{}", self.roll(30)) }
    }

    fn model(&mut self, depth: u64) -> Model {
        match self.roll(if depth == 0 { 6 } else { 8 }) {
            0 => Model::Null,
            1 => Model::Bool(self.roll(2) == 0),
            2 => Model::from(self.0 >> self.roll(64)),
            3 => Model::from(-((self.0 >> (1 + self.roll(63))) as i64)),
            4 => Model::from(f64::from_bits(self.0)),
            5 => Model::from("\u{0}\"\\<é\u{2028}".repeat(self.roll(5) as usize) + &self.name()),
            6 => (0..self.roll(4)).map(|_| self.model(depth - 1)).collect(),
            _ => {
                let count = if self.roll(4) == 0 { 40 } else { 5 };
                (0..self.roll(count)).map(|_| (self.name(), self.model(depth - 1))).collect()
            }
        }
    }
}

fn of(model: &Model) -> Value {
    Value::from(model.clone())
}

/// Runs a law on many seeds, one of them from the clock.
fn law(run: impl Fn(&mut Dice)) {
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64);
    for seed in (1..200).chain([now | 1]) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut dice = Dice(seed);
            (0..50).for_each(|_| {
                dice.roll(2);
            });
            run(&mut dice);
        }));
        if let Err(problem) = outcome {
            println!("seed {seed}");
            std::panic::resume_unwind(problem);
        }
    }
}

#[test]
fn what_is_read_and_written_is_what_serde_json_reads_and_writes() {
    law(|dice| {
        // What serde_json reads is not always the double that it wrote.
        let model: Model = from_str(&dice.model(4).to_string()).unwrap();
        let text = model.to_string();
        let model: Model = from_str(&text).unwrap();
        let value: Value = from_str(&text).unwrap();
        assert_eq!(value.to_string(), model.to_string());
        assert_eq!(format!("{value:#}"), format!("{model:#}"));
        assert_eq!(of(&model), value);
        assert_eq!(Model::from(value.clone()), model);
        assert_eq!(to_value(&model).unwrap(), value);
        assert_eq!(from_value::<Model>(value.clone()).unwrap(), model);
        let cut = &text.as_bytes()[..dice.roll(text.len() as u64 + 1) as usize];
        let (ours, theirs) = (from_slice::<Value>(cut), from_slice::<Model>(cut));
        assert_eq!(ours.map_err(|e| e.to_string()), theirs.map(|m| of(&m)).map_err(|e| e.to_string()));
    });
}

#[test]
fn values_are_equal_where_models_are() {
    law(|dice| {
        let (a, mut b) = (dice.model(3), dice.model(3));
        if dice.roll(2) == 0 {
            b = a.clone();
        }
        assert_eq!(of(&a) == of(&b), a == b, "{a} {b}");
        let mut other = a.clone();
        if let Some(entry) = other.as_object_mut().and_then(|map| map.values_mut().next_back()) {
            *entry = b.clone();
            assert_eq!(of(&a) == of(&other), a == other, "{a} {other}");
        }
    });
}

#[test]
fn maps_do_what_maps_of_serde_json_do() {
    law(|dice| {
        let mut model = serde_json::Map::new();
        let mut map = Map::new();
        for _ in 0..dice.roll(120) {
            let name = dice.name();
            let new = dice.model(1);
            match dice.roll(9) {
                0..3 => assert_eq!(map.insert(name.as_str(), of(&new)), model.insert(name, new).as_ref().map(of)),
                3 => assert_eq!(map.remove(&name), model.remove(&name).as_ref().map(of)),
                4 => assert_eq!(map.get(&name), model.get(&name).map(of).as_ref()),
                5 => assert_eq!(map.get_mut(&name), model.get_mut(&name).map(|value| of(value)).as_mut()),
                6 => {
                    let ours = map.entry(&name).and_modify(|value| *value = Value::Null).or_insert(of(&new)).clone();
                    let theirs = model.entry(name).and_modify(|value| *value = Model::Null).or_insert(new).clone();
                    assert_eq!(ours, of(&theirs));
                }
                7 => {
                    let more = [(name, new.clone()), ("b".to_owned(), Model::Null), ("b".to_owned(), new)];
                    map.extend(more.iter().map(|(name, value)| (Text::from(name), of(value))));
                    model.extend(more);
                }
                _ => {
                    map.retain(|name, value| name.len() % 5 != 4 || value.is_null());
                    model.retain(|name, value| name.len() % 5 != 4 || value.is_null());
                }
            }
            assert_eq!(map.contains_key("a"), model.contains_key("a"));
            assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            let same =
                map.iter().zip(&model).all(|((name, value), (wanted, model))| name == wanted && *value == of(model));
            assert!(same, "{map:?} {model:?}");
        }
        assert!(map.keys().is_sorted_by(|a, b| a.as_str() < b.as_str()));
        let entries: Vec<_> = (0..dice.roll(30)).map(|_| (dice.name(), dice.model(0))).collect();
        let ours: Map = entries.iter().map(|(name, value)| (name, of(value))).collect();
        assert_eq!(Value::Object(ours), of(&entries.into_iter().collect()));
    });
}

#[test]
fn pointers_lead_where_those_of_serde_json_lead() {
    law(|dice| {
        let mut model = dice.model(4);
        let mut value = of(&model);
        for _ in 0..20 {
            let step = |dice: &mut Dice| match dice.roll(4) {
                0 => dice.roll(4).to_string(),
                1 => ["01", "+1", "-", "~0", "~1a"][dice.roll(5) as usize].to_owned(),
                _ => dice.name(),
            };
            let steps: String = (0..dice.roll(4)).map(|_| "/".to_owned() + &step(dice)).collect();
            let pointer = if dice.roll(9) == 0 { dice.name() } else { steps };
            assert_eq!(value.pointer(&pointer), model.pointer(&pointer).map(of).as_ref(), "{value} {pointer}");
            let there = (value.pointer_mut(&pointer), model.pointer_mut(&pointer));
            if let (Some(ours), Some(theirs)) = there {
                assert_eq!(ours.take(), of(&theirs.take()));
            }
            assert_eq!(value, of(&model));
        }
    });
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Variant {
    Unit,
    One(i32),
    Two(u8, String),
    Named { a: Option<bool>, b: f64 },
}

#[test]
fn types_go_through_values_as_through_those_of_serde_json() {
    let all = vec![
        Variant::Unit,
        Variant::One(-3),
        Variant::Two(7, "x".to_owned()),
        Variant::Named { a: None, b: 0.5 },
        Variant::Named { a: Some(true), b: 1.0 },
    ];
    let value = to_value(&all).unwrap();
    assert_eq!(value, of(&serde_json::to_value(&all).unwrap()));
    assert_eq!(from_value::<Vec<Variant>>(value).unwrap(), all);
    for text in [
        "1",
        "{}",
        r#""None""#,
        r#"{"One":"x"}"#,
        r#"{"One":1,"Two":2}"#,
        r#"{"Two":[1]}"#,
        r#"{"Named":3}"#,
        r#"{"Unit":1}"#,
        r#""One""#,
        r#"{"Two":[1,"a",2]}"#,
        r#"{"Named":{"a":1,"b":2}}"#,
    ] {
        let ours = from_value::<Variant>(from_str(text).unwrap()).map_err(|error| error.to_string());
        let theirs = serde_json::from_value::<Variant>(from_str(text).unwrap()).map_err(|error| error.to_string());
        assert_eq!(ours, theirs, "{text}");
    }
}

#[test]
fn json_in_code_is_the_json_that_it_reads() {
    let (name, list, none) = ("key".to_owned(), vec![1, 2], None::<bool>);
    let inner = json!({"x": [null, {}, [], [[1]]]});
    let made = json!({
        "a": null, "b": true, "c": [1, -2, 2.5, "t", name, {"d": list,},], (name.clone()): {"e": {}, "f": []}, "g": none, "h": inner,
        "i": list.iter().map(|n| n + 1).collect::<Vec<_>>(), "j": if list.is_empty() { 1 } else { 2 }, "k": [1, 2].len(), "l": -1, name.clone() + "s": null,
    });
    let text = r#"{"a":null,"b":true,"c":[1,-2,2.5,"t","key",{"d":[1,2]}],"g":null,"h":{"x":[null,{},[],[[1]]]},"i":[2,3],"j":2,"k":2,"key":{"e":{},"f":[]},"keys":null,"l":-1}"#;
    assert_eq!(made.to_string(), text);
    assert_eq!(made["h"]["x"][3][0], json!([1]));
    assert_eq!(made["absent"]["x"][3], Value::Null);
    let mut made = json!(null);
    made["a"]["b"] = json!("c");
    assert_eq!(made, json!({"a": {"b": "c"}}));
}

#[test]
fn values_are_small() {
    assert_eq!((size_of::<Text>(), size_of::<Value>(), size_of::<Option<Value>>()), (24, 32, 32));
}
