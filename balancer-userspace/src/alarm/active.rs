//! Which alarms are active, since when, and which have just come or gone. Values in, values out.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::catalogue::{Definition, Severity};
use crate::model::{BackendName, ServiceName};

/// What an alarm is about; together with its name it tells alarms apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<ServiceName>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub backend: Option<BackendName>,
    /// An interface, a map, a webhook.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entry: Option<String>,
}

impl Subject {
    pub fn service(service: &ServiceName) -> Self {
        Self { service: Some(service.clone()), ..Self::default() }
    }

    pub fn backend(service: &ServiceName, backend: &BackendName) -> Self {
        Self { service: Some(service.clone()), backend: Some(backend.clone()), entry: None }
    }

    pub fn entry(entry: impl Into<String>) -> Self {
        Self { entry: Some(entry.into()), ..Self::default() }
    }
}

/// Something that is wrong now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    pub definition: &'static Definition,
    /// That of the definition, or where that has grades, this one's.
    pub severity: Severity,
    pub subject: Subject,
    /// What exactly, with numbers.
    pub summary: String,
}

impl Raised {
    pub fn new(definition: &'static Definition, subject: Subject, summary: String) -> Self {
        Self { definition, severity: definition.severity, subject, summary }
    }
}

/// An alarm that is active, or just went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    pub alarm: String,
    pub severity: Severity,
    #[serde(flatten)]
    pub subject: Subject,
    pub summary: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// Set once it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<String>,
}

/// Alarms by what they are about.
#[derive(Debug, Default)]
pub struct Alarms {
    active: BTreeMap<(&'static str, Subject), Alarm>,
}

impl Alarms {
    /// Takes in everything that is wrong now. Answers what came, and what went with its end set.
    pub fn update(&mut self, raised: Vec<Raised>, now: SystemTime) -> Vec<Alarm> {
        let now = humantime::format_rfc3339_millis(now).to_string();
        let mut changed = Vec::new();
        let mut still = BTreeMap::new();
        for Raised { definition, severity, subject, summary } in raised {
            let key = (definition.name, subject.clone());
            let known = self.active.remove(&key).or_else(|| still.remove(&key));
            let is_new = known.is_none();
            let since = known.map_or_else(|| now.clone(), |known: Alarm| known.since);
            let alarm = Alarm { alarm: definition.name.to_owned(), severity, subject, summary, since, until: None };
            if is_new {
                changed.push(alarm.clone());
            }
            still.insert(key, alarm);
        }
        let gone = std::mem::replace(&mut self.active, still);
        changed.extend(gone.into_values().map(|alarm| Alarm { until: Some(now.clone()), ..alarm }));
        changed
    }

    /// The worst first.
    pub fn active(&self) -> Vec<Alarm> {
        let mut active: Vec<Alarm> = self.active.values().cloned().collect();
        active.sort_by_key(|alarm| std::cmp::Reverse(alarm.severity));
        active
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alarm::catalogue::{BACKEND_DOWN, FILE};

    #[test]
    fn alarms_come_stay_and_go() {
        let down = |backend: &str, summary: &str| {
            let subject = Subject::backend(&"web".parse().unwrap(), &backend.parse().unwrap());
            Raised::new(&BACKEND_DOWN, subject, summary.to_owned())
        };
        let file = Raised::new(&FILE, Subject::default(), "other".to_owned());
        let start = SystemTime::UNIX_EPOCH;
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut alarms = Alarms::default();
        assert_eq!(alarms.update(vec![down("a", "1"), file.clone()], at(0)).len(), 2);
        assert!(alarms.update(vec![down("a", "2"), file.clone()], at(1)).is_empty());
        assert_eq!(alarms.active()[0].summary, "2");
        assert_eq!(alarms.active()[0].since, "1970-01-01T00:00:00.000Z");
        let changed = alarms.update(vec![down("b", "3"), down("b", "4")], at(2));
        let said: Vec<_> = changed.iter().map(|alarm| (alarm.alarm.as_str(), alarm.until.is_some())).collect();
        assert_eq!(
            said,
            [("BalancerBackendDown", false), ("BalancerBackendDown", true), ("BalancerConfigFileDiffers", true)]
        );
        assert_eq!(alarms.active().len(), 1);
    }
}
