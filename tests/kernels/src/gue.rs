//! GUE, taken off by the kernel's own receiver.

use super::network::Network;
use super::path::{self, Path, tunnel};
use super::{Cases, Outcome, receive};

/// What is inside comes out of the same devices as with `ipip`.
const PATHS: [Path; 8] = [
    tunnel("gue-4in4", "gue", 31, (false, false), "tunl0"),
    tunnel("gue-6in4", "gue", 32, (true, false), "sit0"),
    tunnel("gue-4in6", "gue", 33, (false, true), "ipip6"),
    tunnel("gue-6in6", "gue", 34, (true, true), "ipip6"),
    tunnel("gue-variant1-4in4", "gue", 35, (false, false), "tunl0").variant_1(),
    tunnel("gue-variant1-6in4", "gue", 36, (true, false), "sit0").variant_1(),
    tunnel("gue-variant1-4in6", "gue", 37, (false, true), "ipip6").variant_1(),
    tunnel("gue-variant1-6in6", "gue", 38, (true, true), "ipip6").variant_1(),
];

pub(super) fn all(cases: &mut Cases<'_>, network: &Network) {
    let prepared = cases.run("gue receivers at the backends", || {
        for backend in &network.lab.backends[..2] {
            receive::prepare_gue(backend)?;
        }
        Ok(Outcome::works("backends are prepared"))
    });
    if prepared {
        path::all(cases, network, "native", &PATHS);
    }
}
