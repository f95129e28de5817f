//! Every alarm: its name, which Prometheus' rules and the runbook share, how severe it is, and what it says.

use serde::{Deserialize, Serialize};

use Severity::{Critical, Info, Warning};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For whoever wants to know.
    Info,
    /// Somebody should look within the day.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Info => "info",
            Warning => "warning",
            Critical => "critical",
        }
    }
}

/// An alarm that the controller can raise.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    pub name: &'static str,
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: &'static str,
}

const fn alarm(name: &'static str, severity: Severity, title: &'static str) -> Definition {
    Definition { name, severity, title }
}

macro_rules! alarms {
    ($($constant:ident = $name:literal, $severity:ident, $title:literal;)*) => {
        $(pub static $constant: Definition = alarm($name, $severity, $title);)*
        /// All of them.
        pub static CATALOGUE: &[&Definition] = &[$(&$constant),*];
    };
}

alarms! {
    TABLE = "BalancerTableDiffers", Critical, "the kernel's table of a service is not the one that was planned";
    SERVICE = "BalancerServiceEntryDiffers", Critical, "the kernel's entry of a service is not the one that was written";
    BACKEND = "BalancerBackendEntryDiffers", Critical, "the kernel sends packets for a backend elsewhere than planned";
    SETTINGS = "BalancerSettingsDiffer", Critical, "lists, rates, server ids, settings or counters in the kernel were changed";
    UNVERIFIED = "BalancerVerifyFailed", Critical, "the kernel's maps could not be read back or put right";
    REPLACED = "BalancerProgramReplaced", Critical, "another XDP program is in the place of the balancer's";
    DETACHED = "BalancerProgramDetached", Critical, "the balancer's program is not on an interface that it should be on";
    SERVICE_DOWN = "BalancerServiceDown", Critical, "no backend of a service takes new flows";
    DISAGREES = "BalancerExplainDisagrees", Critical, "the loaded program decided otherwise than the model of it";
    BACKEND_DOWN = "BalancerBackendDown", Warning, "a backend that should take flows takes none";
    ROUNDED = "BalancerShareRounded", Warning, "a backend's part of the table is not what its weight asks for";
    SKEWED = "BalancerTrafficSkewed", Warning, "a backend gets more or less new flows than planned";
    OVERLOADED = "BalancerBackendOverloaded", Warning, "a backend gets more new flows than its capacity";
    REPEATED = "BalancerSynRepeated", Warning, "clients send their SYN again: somebody does not answer";
    DROPPED = "BalancerPacketsDropped", Warning, "packets for services are dropped";
    FLOW_TABLE = "BalancerFlowTableFull", Warning, "flows could not be remembered: the flow table of a service is full";
    MAP = "BalancerMapNearlyFull", Warning, "a map of the kernel is nearly full";
    FILE = "BalancerConfigFileDiffers", Warning, "the config file is not what runs";
    REFUSED = "BalancerConfigRefused", Warning, "the last reload was refused: what runs is older than the file";
    TAKEN_BACK = "BalancerChangeTakenBack", Warning, "a guarded change did harm, or nobody confirmed it, and was taken back";
    WEBHOOK = "BalancerWebhookFailing", Warning, "alarms do not reach a webhook";
    OVERRIDDEN = "BalancerWeightByCommand", Info, "a command's weight or drain is in force instead of the file's";
    DRILL = "BalancerDrill", Info, "a drill: nothing is wrong";
}

/// The alarm of this name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    CATALOGUE.iter().find(|definition| definition.name == name).copied()
}
