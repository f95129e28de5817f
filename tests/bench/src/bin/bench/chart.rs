//! Bar charts as SVG, readable on a light and on a dark page.

use std::path::Path;

use anyhow::{Result, anyhow};
use balancer_bench::{live, path};
use plotters::coord::Shift;
use plotters::prelude::*;

const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const OTHERS: RGBColor = RGBColor(0xb0, 0x7d, 0x3c);
const REFERENCE: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
const TEXT: RGBColor = RGBColor(0x22, 0x22, 0x22);
const WIDTH: u32 = 860;
/// Height of a bar with what is around it, and of a panel's title.
const BAR: u32 = 26;
const TITLE: u32 = 44;
/// Where bars begin, and how much stays for the number behind the longest.
const NAMES: i32 = 270;
const NUMBERS: i32 = 90;

/// Bars of one measure.
struct Panel {
    title: &'static str,
    bars: Vec<(String, f64)>,
    decimals: usize,
}

impl Panel {
    fn height(&self) -> u32 {
        TITLE + BAR * self.bars.len() as u32 + 12
    }
}

/// Packets a second of each program.
pub(crate) fn live(file: &Path, rows: &[live::Row]) -> Result<()> {
    let works = [
        (live::Work::Drop, "Dropped, million packets a second of one CPU"),
        (live::Work::Return, "Sent back out, million packets a second of one CPU"),
        (live::Work::Forward, "Forwarded, million packets a second of one CPU"),
    ];
    let panel = |(work, title)| {
        let rows = rows.iter().filter(|row| row.work == work);
        Panel {
            title,
            bars: rows.map(|row| (row.name.to_owned(), row.packets_per_second / 1e6)).collect(),
            decimals: 2,
        }
    };
    draw(file, &works.map(panel))
}

/// What stands between client and servers, by four measures.
pub(crate) fn path(file: &Path, rows: &[path::Row]) -> Result<()> {
    let panel = |title, decimals, value: fn(&path::Row) -> f64| Panel {
        title,
        bars: rows.iter().map(|row| (row.name.to_owned(), value(row))).collect(),
        decimals,
    };
    draw(
        file,
        &[
            panel("New connections a second (more is better)", 0, |row| row.new.rate),
            panel("Requests a second on kept connections (more is better)", 0, |row| row.kept.rate),
            panel("CPU time added to a new connection, µs (less is better)", 1, |row| row.new.added_cpu_us.max(0.0)),
            panel("CPU time added to a request, µs (less is better)", 1, |row| row.kept.added_cpu_us.max(0.0)),
            panel("Latency at 4,000 requests a second, 99th percentile, µs (less is better)", 0, |row| {
                row.paced.p99_us
            }),
        ],
    )
}

fn draw(file: &Path, panels: &[Panel]) -> Result<()> {
    let height = panels.iter().map(Panel::height).sum();
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    let drawn = (|| {
        root.fill(&WHITE)?;
        let mut rest = root.clone();
        for panel in panels {
            let (area, below) = rest.split_vertically(panel.height());
            bars(&area, panel)?;
            rest = below;
        }
        root.present()
    })();
    // The backend's errors don't live as long as this program's.
    drawn.map_err(|error| anyhow!("drawing {}: {error}", file.display()))
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn bars<'a>(area: &DrawingArea<SVGBackend<'a>, Shift>, panel: &Panel) -> Drawn<'a> {
    area.draw(&Text::new(panel.title, (14, 16), ("sans-serif", 16).into_font().color(&TEXT)))?;
    let most = panel.bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(WIDTH as i32 - NAMES - NUMBERS);
    let font = ("sans-serif", 13).into_font().color(&TEXT);
    for (at, (name, value)) in panel.bars.iter().enumerate() {
        let top = (TITLE + BAR * at as u32) as i32;
        let right = NAMES + (value / most * room) as i32;
        area.draw(&Text::new(name.as_str(), (14, top + 4), font.clone()))?;
        area.draw(&Rectangle::new([(NAMES, top), (right, top + BAR as i32 - 8)], color(name).filled()))?;
        area.draw(&Text::new(format!("{value:.*}", panel.decimals), (right + 6, top + 4), font.clone()))?;
    }
    Ok(())
}

fn color(name: &str) -> RGBColor {
    if name.starts_with("balancer") {
        OURS
    } else if name.starts_with("direct") || name.starts_with("XDP program") || name.starts_with("kernel") {
        REFERENCE
    } else {
        OTHERS
    }
}
