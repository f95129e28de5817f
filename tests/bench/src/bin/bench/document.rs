//! Results as tables that are read in a terminal as well as in Markdown, and the same with charts in docs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use balancer_bench::live::Work;
use balancer_bench::{control, live, packets, path};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use crate::{Report, chart};

const BEGIN: &str = "<!-- results: written by `cargo xtask bench --docs` -->\n";
const END: &str = "<!-- end of results -->";

/// A part of the report: what was measured, how to read it, the table.
struct Section {
    title: &'static str,
    notes: String,
    table: Table,
    /// A chart of the same in docs.
    chart: Option<&'static str>,
}

pub(crate) fn text(report: &Report) -> String {
    let sections = sections(report);
    let one = |section: &Section| format!("\n{}\n{}\n\n{}\n", section.title, section.notes, section.table);
    sections.iter().map(one).collect::<String>() + &format!("\n{}", report.machine)
}

/// Writes tables, charts and figures into `docs` of the workspace.
pub(crate) fn write(report: &Report) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let results = docs.join("benchmarks");
    fs::create_dir_all(&results)?;
    let file = results.join("results.json");
    let mut figures: serde_json::Map<String, Value> =
        serde_json::from_str(&fs::read_to_string(&file).unwrap_or_else(|_| "{}".to_owned()))?;
    let Value::Object(mut measured) = serde_json::to_value(report)? else { bail!("a report is an object") };
    if figures.keys().any(|part| !measured.contains_key(part)) {
        // The other parts are of an earlier run.
        measured.remove("machine");
    }
    figures.extend(measured);
    fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
    if let Some(rows) = &report.live {
        chart::live(&results.join("live.svg"), rows)?;
    }
    if let Some(path) = &report.path {
        chart::path(&results.join("path.svg"), &path.rows)?;
    }
    let file = docs.join("benchmarks.md");
    let page = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let (before, rest) = page.split_once(BEGIN).context("no beginning of results in docs/benchmarks.md")?;
    let (results, after) = rest.split_once(END).context("no end of results in docs/benchmarks.md")?;
    fs::write(&file, format!("{before}{BEGIN}{}{END}{after}", replaced(results, report)))?;
    Ok(())
}

/// The results with the sections that were measured in the place of those that were there.
fn replaced(results: &str, report: &Report) -> String {
    let mut parts = results.split("\n## ");
    let head = parts.next().unwrap_or_default();
    let mut there: Vec<String> = parts.map(|part| format!("\n## {}\n", part.trim_end())).collect();
    let measured = sections(report);
    let all = there.iter().all(|part| measured.iter().any(|new| part.starts_with(&format!("\n## {}\n", new.title))));
    let head = if all { format!("\nOn {}.\n", report.machine) } else { head.to_owned() };
    for section in &measured {
        let new = markdown(section);
        match there.iter_mut().find(|part| part.starts_with(&format!("\n## {}\n", section.title))) {
            Some(part) => *part = new,
            None => there.push(new),
        }
    }
    head + &there.concat() + "\n"
}

fn markdown(Section { title, notes, table, chart }: &Section) -> String {
    let chart = chart.map(|name| format!("\n![{title}](benchmarks/{name})\n")).unwrap_or_default();
    format!("\n## {title}\n\n{notes}\n\n{table}\n{chart}")
}

fn sections(report: &Report) -> Vec<Section> {
    let packets = report.packets.as_ref().map(packets_section);
    let live = report.live.as_deref().map(live_section);
    let path = report.path.as_ref().map(path_sections).into_iter().flatten();
    let control = report.control.as_ref().map(control_section);
    packets.into_iter().chain(live).chain(path).chain(control).collect()
}

/// A table whose columns but the first hold numbers.
fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header.to_vec()).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn packets_section(report: &packets::Report) -> Section {
    let row = |row: &packets::Row| {
        let [one, many, million] = row.ns.map(|ns| format!("{ns:.0}"));
        let ratio = row.ratio.map(|ratio| format!("{:.2}", ratio[2])).unwrap_or_default();
        let growth = row.growth.map(|growth| format!("{growth:.2}")).unwrap_or_default();
        vec![row.name.to_owned(), one, many, million, ratio, growth, row.base.unwrap_or_default().to_owned()]
    };
    let mut notes = String::from(
        "Nanoseconds a packet by BPF_PROG_TEST_RUN, the driver that restores the packet included, at 1, 10,000 and 1,000,000 \
         flows; medians of interleaved rounds. Ratio: without the driver, over what the last column names, at 1,000,000 flows. \
         Growth: from 10,000 to 1,000,000 flows, over that of the same.",
    );
    if let Some(verified) = report.verified_instructions {
        notes += &format!(" The verifier processed {verified} instructions; it gives up at 1,000,000.");
    }
    let header = ["", "1 flow", "10,000", "1,000,000", "ratio", "growth", "over"];
    Section { title: "A packet in the program", notes, table: table(&header, report.rows.iter().map(row)), chart: None }
}

fn live_section(rows: &[live::Row]) -> Section {
    let row = |row: &live::Row| {
        let work = match row.work {
            Work::Drop => "drop",
            Work::Return => "back out",
            Work::Forward => "forward",
        };
        let numbers = [row.packets_per_second / 1e6, row.nanoseconds, row.added];
        let [rate, ns, added] = [0, 1, 2].map(|at| format!("{:.*}", if at == 0 { 2 } else { 0 }, numbers[at]));
        vec![row.name.to_owned(), work.to_owned(), rate, ns, added]
    };
    Section {
        title: "Packets through real interfaces",
        notes: "One CPU, frames of 100 bytes of 10,000 flows, live frames of the kernel (BPF_F_TEST_XDP_LIVE_FRAMES) in by one \
                veth and out by a veth to a program that counts them; medians of interleaved rounds. Making the packet, the \
                veth and the counting are in every figure; \"more\" is what comes on top of the XDP program that does nothing \
                but the same."
            .to_owned(),
        table: table(&["", "does", "million packets/s", "ns a packet", "more, ns"], rows.iter().map(row)),
        chart: Some("live.svg"),
    }
}

/// Title and notes, a row's figures of this load, and the chart.
type Load = (&'static str, String, fn(&path::Row) -> &path::Figures, Option<&'static str>);

fn path_sections(report: &path::Report) -> Vec<Section> {
    let versions = report.versions.join(", ");
    let skipped: String = report.skipped.iter().map(|line| format!(" Skipped: {line}.")).collect();
    let loads: [Load; 3] = [
        (
            "New connections",
            format!(
                "Client, balancer and {} servers on one switch; a connection for each request of {} bytes and its answer, {} at \
                 a time, as fast as they go. All of it shares the machine's processors: the rate is what is left for \
                 everybody. CPU: of the whole machine for a request, microseconds; \"added\" is over the direct connection. \
                 Medians of interleaved rounds. Compared: {versions}.{skipped}",
                path::network::BACKENDS,
                path::load::MESSAGE,
                path::CONNECTIONS
            ),
            |row| &row.new,
            Some("path.svg"),
        ),
        (
            "Requests on kept connections",
            format!("{} connections that stay, one request at a time on each, as fast as they go.", path::CONNECTIONS),
            |row| &row.kept,
            None,
        ),
        (
            "Latency below saturation",
            format!("{} requests a second on {} kept connections.", path::PACE, path::CONNECTIONS),
            |row| &row.paced,
            None,
        ),
    ];
    let header =
        ["", "per second", "median, µs", "99th percentile, µs", "CPU, µs", "added", "of it its processes", "failed"];
    let section = |(title, notes, figures, chart): Load| {
        let row = |row: &path::Row| {
            let f = figures(row);
            let numbers = [f.rate, f.median_us, f.p99_us].map(|number| format!("{number:.0}"));
            let cpu = [f.cpu_us, f.added_cpu_us, f.process_cpu_us].map(|number| format!("{number:.1}"));
            [&[row.name.to_owned()][..], &numbers, &cpu, &[f.failed.to_string()]].concat()
        };
        Section { title, notes, table: table(&header, report.rows.iter().map(row)), chart }
    };
    loads.into_iter().map(section).collect()
}

/// What is said of a row.
type Figure<'a> = &'a dyn Fn(&control::Row) -> String;

fn control_section(report: &control::Report) -> Section {
    let ms = |spread: control::Spread| format!("{:.1} ({:.1} to {:.1})", spread.median, spread.least, spread.most);
    let figures: [(&str, Figure<'_>); 12] = [
        ("slots of a table", &|row| row.size.table_size.to_string()),
        ("apply all from nothing, ms", &|row| format!("{:.0}", row.apply)),
        ("one weight, in force, ms", &|row| ms(row.weight)),
        ("one weight, whole command, ms", &|row| ms(row.weight_command)),
        ("reload with one weight changed, ms", &|row| ms(row.reload)),
        ("`/metrics`, ms", &|row| format!("{}, {:.1} MB", ms(row.scrape), row.scrape_bytes as f64 / 1e6)),
        ("`/metrics?service=NAME`, ms", &|row| ms(row.page)),
        ("`balancer status SERVICE`, ms", &|row| ms(row.status)),
        ("`balancer check`, ms", &|row| ms(row.check)),
        ("start and take over, ms", &|row| ms(row.start)),
        ("idle, % of a core", &|row| format!("{:.2}", row.idle_percent)),
        ("resident memory, MiB", &|row| format!("{:.0}", row.resident_mib)),
    ];
    let row = |(what, figure): (&str, &dyn Fn(&control::Row) -> String)| {
        std::iter::once(what.to_owned()).chain(report.rows.iter().map(figure)).collect::<Vec<_>>()
    };
    let sizes: Vec<String> = report.rows.iter().map(|row| row.size.to_string()).collect();
    let header: Vec<&str> = std::iter::once("").chain(sizes.iter().map(String::as_str)).collect();
    let [ten, hundred, thousand] = report.table_build_ms;
    Section {
        title: "The controller",
        notes: format!(
            "Services x backends of each, without traffic and health checks. Medians, and the least and the most, of some \
             rounds in one run. A table of 65,537 slots is computed in {ten:.1} ms for 10 backends, {hundred:.1} ms for 100, \
             {thousand:.1} ms for 1,000."
        ),
        table: table(&header, figures.map(row)),
        chart: None,
    }
}
