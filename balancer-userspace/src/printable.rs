//! Text that somebody else wrote, made fit for a terminal and a log: a reason, a file name or a node's name may hold bytes
//! that move the cursor, colour what follows, or show it in another order.

use std::borrow::Cow;
use std::fmt::Write;

/// Of several lines: line feeds and tabs stay, everything else that steers a terminal is written as `\u001b`, which JSON takes as well.
pub fn block(text: &str) -> Cow<'_, str> {
    escaped(text, |c| steers(c) && c != '\n' && c != '\t')
}

/// Of one line: line feeds and tabs are written as `\u000a` and `\u0009` as well.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, steers)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) {
            // Writing to a string can't fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Control characters, and those that hide or reorder what is shown (Unicode's UAX 9 and zero-width characters).
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_the_rest_stays() {
        assert_eq!(block("caf\u{e9}\n\tweb → b1"), "caf\u{e9}\n\tweb → b1");
        assert!(matches!(block("plain"), Cow::Borrowed(_)));
        assert_eq!(block("\u{1b}[2Jgone\u{7f}\r"), r"\u001b[2Jgone\u007f\u000d");
        assert_eq!(block("\u{9b}31m \u{202e}gnp.exe"), r"\u009b31m \u202egnp.exe");
        assert_eq!(line("why\n[[service]]"), r"why\u000a[[service]]");
    }

    #[test]
    fn a_document_of_json_stays_what_it_was() {
        let text = serde_json::to_string("\u{9b}31m\u{1b}\u{202e}\n").unwrap();
        assert_eq!(serde_json::from_str::<String>(&block(&text)).unwrap(), "\u{9b}31m\u{1b}\u{202e}\n");
    }
}
