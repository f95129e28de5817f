//! Screens as they are drawn, kept as text: `UPDATE_GOLDEN=1 cargo test cli::top` writes them again.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::app::{App, Then};
use super::change::Change;
use super::draw::draw;
use crate::cli::status::tests::{node, service, three, troubled};
use crate::control::api::{BackendState, Status};

fn app(status: &Status) -> App {
    let mut app = App::new(true);
    app.answered(status.clone(), Duration::ZERO);
    let mut later = status.clone();
    for second in 1..=20 {
        for service in &mut later.services {
            for (i, backend) in service.backends.iter_mut().enumerate() {
                backend.new_flows += 100 * i as u64 + second * 10;
                backend.bytes += 1_000_000 * (i as u64 + second);
            }
        }
        app.answered(later.clone(), Duration::from_secs(second));
    }
    app
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal.backend().to_string()
}

fn press(app: &mut App, keys: &str) -> Vec<Then> {
    let code = |c| match c {
        '↓' => KeyCode::Down,
        '⏎' => KeyCode::Enter,
        '⎋' => KeyCode::Esc,
        c => KeyCode::Char(c),
    };
    keys.chars().map(|c| app.key(KeyEvent::new(code(c), KeyModifiers::NONE))).collect()
}

#[test]
fn screens_of_two_sizes() {
    let well = node(vec![service("web", three(BackendState::Up)), service("api", three(BackendState::Up))]);
    let mut drained = app(&well);
    press(&mut drained, "↓↓d");
    let mut weighed = app(&well);
    press(&mut weighed, "↓w50");
    let mut helped = app(&well);
    press(&mut helped, "?");
    let mut silent = app(&troubled());
    silent.silent("no controller answers on /run/balancer/control.sock".to_owned());
    let mut said = String::new();
    for (what, app) in [
        ("well", &app(&well)),
        ("troubled, and no answer", &silent),
        ("asked about a drain", &drained),
        ("a weight is typed", &weighed),
        ("keys", &helped),
    ] {
        for (width, height) in [(80, 24), (120, 40)] {
            said += &format!("==== {what}, {width}x{height}\n{}\n", screen(app, width, height));
        }
    }
    crate::cli::golden::golden("top.txt", &said);
}

#[test]
fn a_change_is_made_only_after_a_yes() {
    let web = "web/web-12".parse().unwrap();
    let mut app = app(&node(vec![service("web", three(BackendState::Up))]));
    assert!(press(&mut app, "↓↓d").iter().all(|then| *then == Then::Nothing));
    // Neither yes nor no.
    assert!(press(&mut app, "dwq⏎").iter().all(|then| *then == Then::Nothing));
    assert_eq!(press(&mut app, "y"), [Then::Do(Change::Drain(web))]);
    let web = "web/web-12".parse().unwrap();
    assert_eq!(press(&mut app, "w5x0⏎y").last(), Some(&Then::Do(Change::Weight(web, 50))));
    assert!(press(&mut app, "w9999999⏎y⎋d⎋").iter().all(|then| *then == Then::Nothing));
    assert_eq!(press(&mut app, "q"), [Then::Quit]);
}

#[test]
fn shares_before_and_after_are_those_of_the_weights() {
    let service = service("web", three(BackendState::Up));
    let after =
        |change: Change| change.shares(&service).into_iter().map(|(_, _, after)| after.unwrap()).collect::<Vec<_>>();
    assert_eq!(after(Change::Drain("web/web-11".parse().unwrap())), [0.0, 0.5, 0.5]);
    assert_eq!(after(Change::Weight("web/web-11".parse().unwrap(), 200)), [0.5, 0.25, 0.25]);
}

#[test]
fn what_was_chosen_stays_chosen_while_services_come_and_go() {
    let mut app = app(&node(vec![service("web", three(BackendState::Up))]));
    press(&mut app, "↓↓↓");
    let more = node(vec![service("api", three(BackendState::Up)), service("web", three(BackendState::Up))]);
    app.answered(more, Duration::from_secs(30));
    assert_eq!(app.selected, 7);
    app.answered(node(Vec::new()), Duration::from_secs(31));
    assert_eq!((app.selected, app.rows().len()), (0, 0));
    press(&mut app, "↓d");
    assert!(screen(&app, 80, 24).contains("choose a backend first"));
}

#[test]
fn a_small_terminal_is_no_panic() {
    let app = app(&troubled());
    for (width, height) in [(1, 1), (20, 5), (40, 10), (300, 100)] {
        let _ = screen(&app, width, height);
    }
}
