//! Everything that a change must pass, in the order in which it takes least time.

use std::process::ExitCode;
use std::thread;

use anyhow::Result;

use crate::{TESTED, build, gates, kernels, suite};

/// The oldest kernel that README names.
const OLDEST: [&str; 1] = ["6.1"];

pub(crate) fn run() -> Result<ExitCode> {
    suite::prepare()?;
    // What comes from the network comes while there is something to compile.
    let fetched = thread::scope(|scope| {
        let fetching = scope.spawn(|| {
            gates::words()?;
            kernels::fetch(&OLDEST, true)
        });
        let compiled = gates::code().and_then(|()| build(TESTED, &suite::EVERYTHING));
        let fetched = fetching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        compiled.map(|()| fetched)
    })?;
    let (mut code, flaky) = suite::all()?;
    if code == ExitCode::SUCCESS && !fetched.is_empty() {
        code = kernels::boot(&fetched)?;
    }
    // Last, where somebody looks.
    flaky.iter().for_each(|flaky| println!("{flaky}"));
    Ok(code)
}
