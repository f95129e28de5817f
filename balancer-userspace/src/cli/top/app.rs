//! What `top` knows, and what a key does.

use std::collections::BTreeMap;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::change::Change;
use super::trend::Trend;
use crate::control::api::{BackendState, BackendStatus, ServiceStatus, Status};
use crate::model::{BackendId, ServiceName};

/// As the spec says.
const LARGEST_WEIGHT: u32 = 1_000_000;
/// A weight has no more digits.
const DIGITS: usize = 7;

/// What the caller has to do for a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Quit,
    Do(Change),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Look,
    Help,
    /// Digits of a weight that is being typed.
    Weight(BackendId, String),
    /// Until `y` or `n`.
    Sure(Change),
}

/// A line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    Service(usize),
    Backend(usize, usize),
}

pub(super) struct App {
    pub status: Status,
    pub trends: BTreeMap<BackendId, Trend>,
    pub mode: Mode,
    /// What came of the last change, and whether it was done.
    pub said: Option<(String, bool)>,
    /// Why there is no newer status.
    pub problem: Option<String>,
    pub selected: usize,
    pub colours: bool,
    /// Services whose backends are not shown.
    folded: Vec<ServiceName>,
}

impl App {
    pub fn new(colours: bool) -> Self {
        Self {
            status: Status::default(),
            trends: BTreeMap::new(),
            mode: Mode::Look,
            said: None,
            problem: None,
            selected: 0,
            colours,
            folded: Vec::new(),
        }
    }

    /// A status came, at this time since the start.
    pub fn answered(&mut self, status: Status, at: Duration) {
        let here = self.chosen_name();
        let mut trends = std::mem::take(&mut self.trends);
        for service in &status.services {
            for backend in &service.backends {
                let id = BackendId { service: service.name.clone(), backend: backend.name.clone() };
                let mut trend = trends.remove(&id).unwrap_or_default();
                trend.counted(at, backend.new_flows, backend.bytes);
                self.trends.insert(id, trend);
            }
        }
        self.status = status;
        self.problem = None;
        // What was chosen stays chosen, wherever it is now.
        if let Some(place) = self.rows().iter().position(|row| Some(self.name_of(*row)) == here) {
            self.selected = place;
        }
        self.selected = self.selected.min(self.rows().len().saturating_sub(1));
    }

    pub fn silent(&mut self, why: String) {
        self.problem = Some(why);
    }

    pub fn changed(&mut self, outcome: Result<String, String>) {
        self.said = Some(match outcome {
            Ok(said) => (said, true),
            Err(said) => (said, false),
        });
    }

    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (i, service) in self.status.services.iter().enumerate() {
            rows.push(Row::Service(i));
            if !self.folded.contains(&service.name) {
                rows.extend((0..service.backends.len()).map(|j| Row::Backend(i, j)));
            }
        }
        rows
    }

    fn name_of(&self, row: Row) -> (ServiceName, Option<crate::model::BackendName>) {
        match row {
            Row::Service(i) => (self.status.services[i].name.clone(), None),
            Row::Backend(i, j) => {
                let service = &self.status.services[i];
                (service.name.clone(), Some(service.backends[j].name.clone()))
            }
        }
    }

    fn chosen_name(&self) -> Option<(ServiceName, Option<crate::model::BackendName>)> {
        self.rows().get(self.selected).map(|row| self.name_of(*row))
    }

    fn chosen(&self) -> Option<(&ServiceStatus, &BackendStatus)> {
        match self.rows().get(self.selected)? {
            Row::Service(_) => None,
            Row::Backend(i, j) => {
                let service = self.status.services.get(*i)?;
                Some((service, service.backends.get(*j)?))
            }
        }
    }

    pub fn service_of(&self, id: &BackendId) -> Option<&ServiceStatus> {
        self.status.services.iter().find(|service| service.name == id.service)
    }

    pub fn key(&mut self, key: KeyEvent) -> Then {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Then::Quit;
        }
        match std::mem::replace(&mut self.mode, Mode::Look) {
            Mode::Look => self.look(key.code),
            Mode::Help => Then::Nothing,
            Mode::Weight(id, typed) => {
                self.typed(id, typed, key.code);
                Then::Nothing
            }
            Mode::Sure(change) => match key.code {
                KeyCode::Char('y' | 'Y') => Then::Do(change),
                KeyCode::Char('n' | 'N') | KeyCode::Esc => Then::Nothing,
                // Any other key is neither yes nor no.
                _ => {
                    self.mode = Mode::Sure(change);
                    Then::Nothing
                }
            },
        }
    }

    fn typed(&mut self, id: BackendId, mut typed: String, key: KeyCode) {
        match key {
            KeyCode::Esc => return,
            KeyCode::Enter => {
                if let Some(weight) = typed.parse().ok().filter(|weight| *weight <= LARGEST_WEIGHT) {
                    self.mode = Mode::Sure(Change::Weight(id, weight));
                    return;
                }
            }
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(digit) if digit.is_ascii_digit() && typed.len() < DIGITS => typed.push(digit),
            _ => {}
        }
        self.mode = Mode::Weight(id, typed);
    }

    fn look(&mut self, key: KeyCode) -> Then {
        const PAGE: isize = 10;
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Then::Quit,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.selected = 0,
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Enter | KeyCode::Char(' ') => self.fold(),
            KeyCode::Char('d') => self.drain(),
            KeyCode::Char('w') => match self.chosen_id() {
                Some(id) => self.mode = Mode::Weight(id, String::new()),
                None => self.wants_backend(),
            },
            _ => {}
        }
        Then::Nothing
    }

    fn go(&mut self, by: isize) {
        self.selected = self.selected.saturating_add_signed(by).min(self.rows().len().saturating_sub(1));
    }

    fn fold(&mut self) {
        let Some((service, _)) = self.chosen_name() else { return };
        match self.folded.iter().position(|folded| *folded == service) {
            Some(place) => drop(self.folded.remove(place)),
            None => self.folded.push(service.clone()),
        }
        let services = |row: &Row| matches!(row, Row::Service(i) if self.status.services[*i].name == service);
        if let Some(place) = self.rows().iter().position(services) {
            self.selected = place;
        }
    }

    fn chosen_id(&self) -> Option<BackendId> {
        let (service, backend) = self.chosen()?;
        Some(BackendId { service: service.name.clone(), backend: backend.name.clone() })
    }

    /// Drains what is chosen, or takes its drain back.
    fn drain(&mut self) {
        let Some((id, drained)) =
            self.chosen_id().zip(self.chosen().map(|(_, backend)| backend.state == BackendState::Draining))
        else {
            return self.wants_backend();
        };
        self.mode = Mode::Sure(if drained { Change::Undrain(id) } else { Change::Drain(id) });
    }

    fn wants_backend(&mut self) {
        self.said = Some(("choose a backend first, with the arrow keys".to_owned(), false));
    }
}
