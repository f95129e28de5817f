//! Alarms about what takes backends out, and what keeps them in.

use std::time::{Instant, SystemTime};

use crate::alarm::{Raised, Subject, catalogue};
use crate::controller::state::State;
use crate::model::Service;

impl State {
    pub(crate) fn of_checks(&self) -> Vec<Raised> {
        let unseen = self.unseen();
        let blind = |service: &Service| {
            let blind = service.backends.iter().filter_map(|backend| {
                let said = self.observed.checked.get(&service.id_of(backend)).and_then(|checked| checked.blind.clone());
                said.or_else(|| Some((unseen.get(&backend.address)?.clone(), SystemTime::now())))
            });
            let blind: Vec<(String, SystemTime)> = blind.collect();
            let summary = blinded(&blind, service.backends.len())?;
            Some(Raised::new(&catalogue::BLIND, Subject::service(&service.name), summary))
        };
        let mut raised: Vec<Raised> = self.desired.config.services.iter().filter_map(blind).collect();
        let now = Instant::now();
        for (name, removals) in &self.observed.removals {
            if let Some(why) = removals.refused() {
                let summary = format!("{why}; the table stays as it was");
                raised.push(Raised::new(&catalogue::KEPT, Subject::service(name), summary));
            }
            for (backend, why) in removals.flapping(now) {
                let summary =
                    format!("{name}/{backend}: {why}; it has to answer for longer each time before it gets new flows");
                let subject = Subject::backend(name, backend);
                raised.push(Raised::new(&catalogue::FLAPPING, subject, summary));
            }
        }
        raised
    }
}

/// Why and since when so many of `all` backends can't be judged.
fn blinded(blind: &[(String, SystemTime)], all: usize) -> Option<String> {
    let (why, since) = blind.iter().min_by_key(|(_, since)| *since)?;
    let since = humantime::format_rfc3339_seconds(*since);
    Some(format!(
        "nothing is known of {} of {all} backends since {since}: {why}; each stays as it was until it can be asked",
        blind.len()
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_said_how_many_why_and_since_when() {
        assert_eq!(blinded(&[], 3), None);
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let blind = [("no route".to_owned(), at(20)), ("eth0 is down".to_owned(), at(10))];
        let said = blinded(&blind, 3).unwrap();
        assert!(
            said.starts_with("nothing is known of 2 of 3 backends since 1970-01-01T00:00:10Z: eth0 is down;"),
            "{said}"
        );
    }
}
