//! `cargo xtask bench`.

use anyhow::Result;
use clap::Parser;
use harness::bench::{control, packets};
use serde::Serialize;

/// Benchmarks of the packet path and of the controller
#[derive(Parser)]
struct Cli {
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Of the packet path only what has one of these words in its name; nothing of the controller
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    packets: packets::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<control::Report>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let progress = |what: &str| eprintln!("bench: {what}");
    let packets = packets::run(&cli.only, progress)?;
    if !cli.json {
        print_packets(&packets);
    }
    let control = if cli.only.is_empty() { Some(control::run(progress)?) } else { None };
    let report = Report { packets, control };
    if cli.json {
        println!("{}", serde_json::to_string(&report)?);
    } else if let Some(control) = &report.control {
        print_control(control);
    }
    Ok(())
}

fn print_packets(report: &packets::Report) {
    println!("\nNanoseconds a packet, driver included; medians.");
    println!("Ratio: without the driver, over what is named behind it, at 1,000,000 flows.");
    println!("Growth: from 10,000 to 1,000,000 flows, over that of the same.\n");
    println!("{:<50} {:>8} {:>8} {:>10} {:>7} {:>7}", "", "1 flow", "10,000", "1,000,000", "ratio", "growth");
    for row in &report.rows {
        let [one, many, million] = row.ns;
        print!("{:<50} {one:>8.0} {many:>8.0} {million:>10.0}", row.name);
        if let (Some(ratio), Some(growth), Some(base)) = (row.ratio, row.growth, row.base) {
            print!(" {:>7.2} {growth:>7.2}  {base}", ratio[2]);
        }
        println!();
    }
    if let Some(verified) = report.verified_instructions {
        println!("\nInstructions processed by the verifier: {verified} (it gives up at 1,000,000)");
    }
}

fn print_control(report: &control::Report) {
    let [ten, hundred, thousand] = report.table_build_ms;
    println!("\nTable of 65,537 slots, ms: {ten:.1} for 10 backends, {hundred:.1} for 100, {thousand:.1} for 1,000");
    println!("{} services with {} backends each:", control::SERVICES, control::BACKENDS);
    println!("  apply the config          {:>8.2} s", report.apply_seconds);
    println!("  change one weight         {:>8.1} ms", report.weight_change_ms);
    println!(
        "  scrape of /metrics        {:>8.2} s ({:.1} MB)",
        report.scrape_seconds,
        report.scrape_bytes as f64 / 1e6
    );
    println!("  resident memory           {:>8.0} MiB", report.resident_mib);
    println!("  restart and take over     {:>8.2} s", report.restart_seconds);
}
