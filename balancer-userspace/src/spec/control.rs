//! `[control]`: who may use the control socket.

use super::reader::{Placed, Section};
use crate::model::{ControlPolicy, Principal};

pub(super) const CONTROL_KEYS: &[&str] = &["group", "read", "change"];
/// Of a user's or a group's name, as the kernel's tools allow it.
const LONGEST: usize = 32;

pub(super) fn policy(root: &Section<'_>) -> ControlPolicy {
    let Some(section) = root.section("control", "control", CONTROL_KEYS) else { return ControlPolicy::default() };
    let group = section.text("group").and_then(|text| {
        let valid = is_name(text.value);
        if !valid {
            let message = format!("`control.group` = {:?} is no name of a group", text.value);
            section.wrong(text.span, message, "write the name of a group, such as \"balancer\", or its number");
        }
        valid.then(|| text.value.to_owned())
    });
    ControlPolicy { group, read: principals(&section, "read"), change: principals(&section, "change") }
}

fn principals(section: &Section<'_>, key: &'static str) -> Option<Vec<Principal>> {
    let texts = section.texts(key)?.value;
    let read = |Placed { value, span }| match principal(value) {
        Some(principal) => Some(principal),
        None => {
            let message = format!("{value:?} in `control.{key}` names neither a user nor a group");
            section.wrong(
                span,
                message,
                "write a user, such as \"alice\" or \"1000\", or a group, such as \"@netops\"",
            );
            None
        }
    };
    Some(texts.into_iter().filter_map(read).collect())
}

fn principal(text: &str) -> Option<Principal> {
    let (name, of): (_, fn(String) -> Principal) = match text.strip_prefix('@') {
        Some(name) => (name, Principal::Group),
        None => (text, Principal::User),
    };
    is_name(name).then(|| of(name.to_owned()))
}

fn is_name(text: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | '$');
    (1..=LONGEST).contains(&text.len()) && !text.starts_with('-') && text.chars().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_or_a_group_is_named() {
        assert_eq!(principal("alice"), Some(Principal::User("alice".to_owned())));
        assert_eq!(principal("@ops-1"), Some(Principal::Group("ops-1".to_owned())));
        for wrong in ["", "@", "@@ops", "a b", "-x", "al:ice", "\u{1b}[2J", &"x".repeat(33)] {
            assert_eq!(principal(wrong), None, "{wrong:?}");
        }
    }
}
