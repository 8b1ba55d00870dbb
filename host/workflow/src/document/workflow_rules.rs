//! `workflow.rules`: only their shape is looked at; conditions are not evaluated yet, which a warning says.

use super::keys::{Keys, keys, written};
use super::value::Reader;
use crate::diagnostic::Pointer;
use crate::yaml::Node;

keys! {
    /// The keys of `workflow`.
    pub(super) enum WorkflowKey {
        Rules = "rules",
    }
}
keys! {
    /// The keys of one rule.
    pub(super) enum RuleKey {
        If = "if",
    }
}
const RULES: &str = "set workflow.rules to a sequence of {if: ...} entries";
const NOT_EVALUATED: &str = "remove workflow.rules: they have no effect yet, and every job runs";
const IF: &str = "set workflow.rules[].if to a non-empty string condition";

pub(super) fn read(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) {
    let Some(entries) = reader.map(node, at, "set workflow to a mapping with the key rules") else {
        return;
    };
    let mut has_rules = false;
    for entry in entries {
        let place = at.key(&entry.key);
        match WorkflowKey::of(&entry.key) {
            Some(WorkflowKey::Rules) => {
                has_rules = true;
                let errors = reader.errors();
                read_rules(&entry.value, &place, reader);
                if reader.errors() == errors {
                    reader.warning(entry.key_span, &place, NOT_EVALUATED);
                }
            }
            None => {
                let hint = "remove unknown key; workflow only allows key rules";
                reader.unknown_key_with(entry, &place, hint, &written(WorkflowKey::KEYS));
            }
        }
    }
    if !has_rules {
        reader.error(node.span, &at.key("rules"), RULES);
    }
}

fn read_rules(node: &Node, at: &Pointer<'_>, reader: &mut Reader<'_>) {
    let Some(rules) = reader.list(node, at, RULES) else {
        return;
    };
    for (index, rule) in rules.iter().enumerate() {
        let place = at.index(index);
        let Some(entries) = reader.map(rule, &place, RULES) else {
            continue;
        };
        let mut has_if = false;
        for entry in entries {
            let place = place.key(&entry.key);
            match RuleKey::of(&entry.key) {
                Some(RuleKey::If) => {
                    has_if = true;
                    let condition = reader.text_or(&entry.value, &place, IF);
                    if condition.is_some_and(|text| text.value.trim().is_empty()) {
                        reader.error(entry.value.span, &place, IF);
                    }
                }
                None => {
                    let hint = "remove unknown key; workflow rules only allow key if";
                    reader.unknown_key_with(entry, &place, hint, &written(RuleKey::KEYS));
                }
            }
        }
        if !has_if {
            reader.error(rule.span, &place.key("if"), "add required key if to workflow rule");
        }
    }
}
