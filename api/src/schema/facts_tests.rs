//! Tests of the fact table: that it is whole and says what upstream says.

use super::*;

#[test]
fn every_line_of_the_table_parses() {
    let types = native();
    assert!(types.iter().count() > 1000);
    let text = include_str!("facts.txt");
    let lines = text.lines().filter(|line| line.starts_with(' ')).count();
    assert_eq!(types.iter().map(|def| def.fields.len()).sum::<usize>(), lines);
    for line in text.lines() {
        assert_eq!(
            line.contains(" def="),
            line.split_once(" def=").is_some_and(|(_, json)| crate::json::from_str::<crate::json::Value>(json).is_ok()),
            "{line}"
        );
    }
    for def in types.iter() {
        assert_eq!(def.by_name.len(), def.fields.len(), "{} names a field twice", def.name);
    }
}

#[test]
fn volumes_are_nested_in_protobuf_alone() {
    let types = native();
    let id = types.named("io.k8s.api.core.v1.Volume").unwrap();
    let index = types.get(id).by_name["hostPath"];
    assert_eq!(types.wire(id, index).unwrap().outer, [2]);
    assert_eq!(types.get(id).fields[index].number, 1);
}
