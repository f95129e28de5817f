//! Names in a sentence.

/// A few names, and how many more.
pub(crate) fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".to_owned(),
        n if n > 10 => format!("{shown} and {} more", n - 10),
        _ => shown,
    }
}
