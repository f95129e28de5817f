//! The benchmarks that send real packets run, lose nothing, and reach every backend; figures are for quiet machines.

use std::time::Duration;

use anyhow::{Result, ensure};
use balancer_bench::{live, path};

#[test]
fn live_frames_are_dropped_and_forwarded() -> Result<()> {
    let rows = live::run(1, Duration::from_millis(20), |_| ())?;
    ensure!(rows.len() > 10, "{rows:?}");
    for row in &rows {
        ensure!(row.nanoseconds > 0.0 && row.lost < 0.05, "{row:?}");
    }
    Ok(())
}

#[test]
fn every_contender_answers_every_request() -> Result<()> {
    let report = path::run(path::Plan { rounds: 1, each: Duration::from_millis(300) }, |_| ())?;
    for row in &report.rows {
        for load in [&row.new, &row.kept, &row.paced] {
            ensure!(load.failed == 0 && load.rate > 100.0, "{}: {load:?}", row.name);
        }
        ensure!(row.new.least_share > 0.2, "{}: uneven, {:?}", row.name, row.new);
    }
    Ok(())
}
