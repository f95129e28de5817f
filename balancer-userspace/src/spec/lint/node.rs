//! What of a whole config is most likely not meant.

use super::{Kind, Lint};

/// Of the documentation.
const PUBLISHED: u64 = 0x5d1c_3a97_f0e2_b648;

pub(super) fn check(lint: &Lint<'_>, text: &str) {
    if lint.models.is_empty() {
        let message = "there are no services: everything that is forwarded would stop";
        lint.problems.add(Kind::NoServices, 0..0, message, "add [[service]], or give the file that was meant");
    }
    seed(lint, text);
}

fn seed(lint: &Lint<'_>, text: &str) {
    let help = "draw one with `openssl rand -hex 8`, and set it as `node.seed` on all balancers that share services";
    match lint.node.seed {
        0 => {
            let message = "`node.seed` is the default: who knows it can open flows that all go to one backend";
            lint.problems.add(Kind::DefaultSeed, 0..0, message, help);
        }
        PUBLISHED => {
            let written = format!("{PUBLISHED:016x}");
            let at = text.to_ascii_lowercase().find(&written);
            let span = at.map_or(0..0, |at| at..at + written.len());
            let message =
                "`node.seed` is that of the documentation: who knows it can open flows that all go to one backend";
            lint.problems.add(Kind::PublishedSeed, span, message, help);
        }
        _ => {}
    }
}
