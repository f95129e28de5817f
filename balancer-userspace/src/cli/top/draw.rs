//! The screen, from 80 columns and 24 rows on. Words and marks say what colours say.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};
use unicode_width::UnicodeWidthStr;

use super::app::{App, Mode, Row};
use super::change::Change;
use super::trend::short;
use crate::alarm::Severity;
use crate::cli::backends::{headline, shortened, state, up};
use crate::cli::render::{place, word};
use crate::control::api::{BackendState, BackendStatus, ServiceStatus};
use crate::model::BackendId;
use crate::spec::counted;

/// Alarms that are shown at most; the status has all.
const ALARMS: usize = 3;
/// Widths of columns that don't grow: state, weight, share, flows and bits.
const STATE: usize = 10;
const WEIGHT: usize = 8;
const NUMBER: usize = 7;
const GAUGE: usize = 11;
const NARROWEST_NAME: usize = 12;
const WIDEST_NAME: usize = 32;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let alarms = alarms(app);
    let [head, top, list, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(alarms.len() as u16),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(title(app)).style(Style::new().add_modifier(Modifier::REVERSED)), head);
    frame.render_widget(Paragraph::new(alarms), top);
    draw_list(frame, app, list);
    frame.render_widget(Paragraph::new(bottom(app)), foot);
    match &app.mode {
        Mode::Look => {}
        Mode::Help => popup(frame, "keys", help()),
        Mode::Weight(id, typed) => popup(frame, "weight", asked(app, id, typed)),
        Mode::Sure(change) => popup(frame, &change.to_string(), before_and_after(app, change)),
    }
}

fn colour(app: &App, colour: Color) -> Style {
    if app.colours { Style::new().fg(colour) } else { Style::new() }
}

fn title(app: &App) -> String {
    format!(" {}", headline(&app.status).0)
}

fn alarms(app: &App) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(problem) = &app.problem {
        let text = format!("NO ANSWER, what is shown is old: {}", problem.replace('\n', " "));
        lines.push(Line::styled(text, colour(app, Color::Red).add_modifier(Modifier::BOLD)));
    }
    let shown: Vec<_> = app.status.alarms.iter().filter(|alarm| alarm.severity != Severity::Info).collect();
    for alarm in shown.iter().take(ALARMS) {
        let red = alarm.severity == Severity::Critical;
        let style = colour(app, if red { Color::Red } else { Color::Yellow });
        lines.push(Line::styled(format!("{} {}", alarm.severity.as_str().to_uppercase(), alarm.summary), style));
    }
    if shown.len() > ALARMS {
        lines.push(Line::raw(format!("and {}: `balancer status`", counted(shown.len() - ALARMS, "more alarm"))));
    }
    if let Some(guard) = &app.status.guard {
        let text = format!(
            "ON PROBATION: {}: taken back in {} s without `balancer confirm`",
            guard.command, guard.seconds_left
        );
        lines.push(Line::styled(text, colour(app, Color::Yellow)));
    }
    lines
}

/// Columns whose widths depend on the terminal's.
struct Widths {
    name: usize,
    trend: usize,
}

impl Widths {
    fn of(width: usize) -> Self {
        let fixed = STATE + WEIGHT + GAUGE + 3 * NUMBER + 6;
        let rest = width.saturating_sub(fixed);
        let name = (rest * 2 / 3).clamp(NARROWEST_NAME, WIDEST_NAME);
        Self { name, trend: rest.saturating_sub(name + 1) }
    }
}

fn draw_list(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let widths = Widths::of(area.width.into());
    let rows = app.rows();
    let room = usize::from(area.height).saturating_sub(1).max(1);
    // What is chosen stays in sight, with rows before and after it.
    let first = app.selected.saturating_sub(room / 2).min(rows.len().saturating_sub(room));
    let mut lines = vec![header(&widths)];
    for (i, row) in rows.iter().enumerate().skip(first).take(room) {
        let line = match row {
            Row::Service(service) => service_line(app, &app.status.services[*service]),
            Row::Backend(service, backend) => {
                let service = &app.status.services[*service];
                backend_line(app, service, &service.backends[*backend], &widths)
            }
        };
        lines.push(if i == app.selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line });
    }
    if rows.is_empty() {
        lines.push(Line::raw("no services"));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn header(widths: &Widths) -> Line<'static> {
    let text = format!(
        "{:<name$} {:<STATE$} {:>WEIGHT$} {:<GAUGE$} {:>NUMBER$} {:>NUMBER$} {:>NUMBER$} {:<trend$}",
        "",
        "state",
        "weight",
        "share",
        "",
        "flows/s",
        "bit/s",
        if widths.trend >= 4 { "trend" } else { "" },
        name = widths.name,
        trend = widths.trend,
    );
    Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn service_line(app: &App, service: &ServiceStatus) -> Line<'static> {
    let up = up(&service.backends);
    let all = service.backends.len();
    let style = match up {
        0 => colour(app, Color::Red),
        up if up == all => colour(app, Color::Green),
        _ => colour(app, Color::Yellow),
    };
    let state = if up == 0 { "DOWN".to_owned() } else { format!("{up} of {all} up") };
    let flows: f64 = service.backends.iter().filter_map(|backend| trend(app, service, backend)?.flows()).sum();
    let text = format!(
        "{}  {} {} {}  {state}  {} flows/s",
        service.name,
        service.protocol,
        place(service),
        word(&service.forward),
        short(flows),
    );
    Line::styled(text, style.add_modifier(Modifier::BOLD))
}

fn trend<'a>(app: &'a App, service: &ServiceStatus, backend: &BackendStatus) -> Option<&'a super::trend::Trend> {
    app.trends.get(&BackendId { service: service.name.clone(), backend: backend.name.clone() })
}

fn backend_line(app: &App, service: &ServiceStatus, backend: &BackendStatus, widths: &Widths) -> Line<'static> {
    let state = state(backend);
    let style = match backend.state {
        BackendState::Up => Style::new(),
        BackendState::Down => colour(app, Color::Red).add_modifier(Modifier::BOLD),
        _ => colour(app, Color::Yellow),
    };
    let mark = if backend.set_by_command.is_some() { "*" } else { "" };
    let weight = format!("{mark}{}", backend.effective_weight);
    let trend = trend(app, service, backend);
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), short);
    let full = service.backends.iter().filter_map(|other| Some(self::trend(app, service, other)?.highest()));
    let full = full.fold(0.0, f64::max);
    let percent = backend.share.kernel.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    Line::from(vec![
        Span::styled(format!("  {} ", fitted(backend.name.as_str(), widths.name.saturating_sub(2))), style),
        Span::styled(format!("{state:<STATE$} "), style),
        Span::raw(format!("{weight:>WEIGHT$} ")),
        Span::raw(gauge(backend.share.kernel, backend.share.config)),
        Span::raw(format!(" {percent:>NUMBER$}")),
        Span::raw(format!(" {:>NUMBER$}", rate(trend.and_then(super::trend::Trend::flows)))),
        Span::raw(format!(" {:>NUMBER$} ", rate(trend.and_then(|trend| trend.bits)))),
        Span::styled(trend.map_or(String::new(), |trend| trend.line(widths.trend, full)), colour(app, Color::Cyan)),
    ])
}

/// The kernel's share as a bar, with a mark where the configured one ends.
fn gauge(kernel: Option<f64>, config: Option<f64>) -> String {
    let cells = |share: Option<f64>| (share.unwrap_or(0.0) * GAUGE as f64).round() as usize;
    let (filled, mark) = (cells(kernel), config.map(|share| cells(Some(share)).clamp(1, GAUGE) - 1));
    let cell = |i: usize| match (i < filled, Some(i) == mark) {
        (true, true) => '▓',
        (true, false) => '█',
        (false, true) => '│',
        (false, false) => '·',
    };
    (0..GAUGE).map(cell).collect()
}

/// As wide as this, whatever it was.
fn fitted(text: &str, width: usize) -> String {
    let text = shortened(&crate::printable::line(text), width);
    let blanks = width.saturating_sub(text.width());
    text + &" ".repeat(blanks)
}

fn bottom(app: &App) -> Line<'static> {
    match &app.said {
        Some((said, true)) => Line::raw(format!(" done: {}", said.replace('\n', " "))),
        Some((said, false)) => Line::styled(format!(" {}", said.replace('\n', " ")), colour(app, Color::Red)),
        None => Line::raw(" ↑ ↓ choose   d drain or undrain   w weight   enter fold   ? keys   q quit"),
    }
}

fn help() -> Vec<Line<'static>> {
    let lines = [
        "↑ ↓ j k         choose a backend; PgUp PgDn, Home End",
        "d               drain it, or take its drain back; asks first",
        "w               set its weight; shows the shares, asks first",
        "enter, space    fold a service, or unfold it",
        "q, Esc, Ctrl-C  quit; the balancer goes on",
        "",
        "The bar is the part of the kernel's table. Its mark is where",
        "the configured share ends: inside the bar, it is reached.",
        "* a weight or a drain that a command set.",
    ];
    lines.into_iter().map(Line::raw).collect()
}

fn asked(app: &App, id: &BackendId, typed: &str) -> Vec<Line<'static>> {
    let service = app.service_of(id);
    let backend = service.and_then(|service| service.backends.iter().find(|backend| backend.name == id.backend));
    let now = backend.map_or(0, |backend| backend.weight);
    vec![
        Line::raw(format!("{id} has weight {now}")),
        Line::raw(format!("new weight, 0 to 1000000: {typed}_")),
        Line::raw("enter goes on, Esc leaves it"),
    ]
}

fn before_and_after(app: &App, change: &Change) -> Vec<Line<'static>> {
    /// Rows that fit the smallest screen.
    const MOST: usize = 12;
    let Some(service) = app.service_of(change.id()) else {
        return vec![Line::raw("its service is gone; n leaves it")];
    };
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.2} %", share * 100.0));
    let rows = change.shares(service);
    let mut lines = vec![Line::raw(format!("{:<24} {:>9} {:>9}", "share", "now", "then"))];
    let nobody = rows.iter().all(|(_, _, after)| after.unwrap_or(0.0) == 0.0);
    // The one that is changed is always there.
    let (own, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(name, ..)| *name == change.id().backend);
    let left_out = (own.len() + others.len()).saturating_sub(MOST);
    for (name, before, after) in own.into_iter().chain(others).take(MOST) {
        let text = format!("{} {:>9} {:>9}", fitted(name.as_str(), 24), percent(before), percent(after));
        lines.push(Line::raw(text));
    }
    if left_out > 0 {
        lines.push(Line::raw(format!("and {}", counted(left_out, "more backend"))));
    }
    if nobody {
        lines.push(Line::styled("NOBODY WOULD TAKE FLOWS", colour(app, Color::Red)));
    }
    lines.push(Line::raw(""));
    lines.push(Line::raw("y does it, n leaves it"));
    lines
}

fn popup(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'static>>) {
    let whole = frame.area();
    let widest = lines.iter().map(Line::width).chain([title.width() + 2]).max().unwrap_or(0);
    let width = (widest as u16 + 4).min(whole.width);
    let height = (lines.len() as u16 + 2).min(whole.height);
    let area = Rect { x: whole.x + (whole.width - width) / 2, y: whole.y + (whole.height - height) / 2, width, height };
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(format!(" {title} ")).padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}
