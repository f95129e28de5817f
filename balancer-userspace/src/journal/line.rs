//! A change as a line of the file, also as earlier versions wrote it, and how a secret is recognised that is not in it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Change, Secret};
use crate::model::{BackendName, ServiceName, TableSize, Weight};

/// Stands for a secret: two that differ have different marks, and no mark says what its secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(String);

impl Mark {
    pub fn of(secret: &Secret) -> Self {
        let [first, second] = secret.keys;
        let mut hasher = Sha256::new();
        hasher.update(b"balancer: what a table was computed with");
        [secret.seed, first, second].iter().for_each(|word| hasher.update(word.to_le_bytes()));
        Self(hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}

#[derive(Deserialize)]
struct Line {
    generation: u64,
    at: String,
    service: ServiceName,
    cause: String,
    mark: Option<Mark>,
    table_size: TableSize,
    port_mask: u32,
    weights: Vec<(BackendName, Weight)>,
    /// Earlier versions wrote these two instead of a mark.
    seed: Option<u64>,
    keys: Option<[u64; 2]>,
}

/// A change, and whether its line holds no secret.
pub(super) fn read(text: &str) -> Option<(Change, bool)> {
    let line: Line = serde_json::from_str(text).ok()?;
    let secret = line.seed.zip(line.keys).map(|(seed, keys)| Secret { seed, keys });
    let Line { generation, at, service, cause, table_size, port_mask, weights, .. } = line;
    let mark = secret.as_ref().map(Mark::of).or(line.mark)?;
    let change = Change { generation, at, service, cause, mark, table_size, port_mask, weights, secret };
    Some((change, secret.is_none()))
}

/// What may be the seed of a config, without reading all of it: whether it is shows by its mark.
pub fn seeds_in(text: &str) -> Vec<u64> {
    let value = |after: &str| {
        let value = after.trim_start().strip_prefix('=')?.trim_start().trim_start_matches(['"', '\'']);
        let end = value.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(value.len());
        let digits = value.get(..end)?.replace('_', "");
        match digits.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => digits.parse().ok(),
        }
    };
    text.match_indices("seed").filter_map(|(at, word)| value(text.get(at + word.len()..)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_found_however_they_are_written() {
        let text = "# seed\n[node]\nseed = \"0x5d1c_3a97\" # seed = 4\nnode.seed=7\nseed = -1\nnode = { seed = '9' }\n";
        assert_eq!(seeds_in(text), [0x5d1c_3a97, 4, 7, 9]);
    }
}
