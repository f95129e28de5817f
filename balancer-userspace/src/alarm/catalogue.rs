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
    /// Of all of them; where it has grades, the worst.
    pub severity: Severity,
    /// Each one that is raised says how severe it is.
    pub graded: bool,
    /// What is wrong, in a few words.
    pub title: &'static str,
}

const fn alarm(name: &'static str, severity: Severity, title: &'static str) -> Definition {
    Definition { name, severity, graded: false, title }
}

const fn graded(name: &'static str, severity: Severity, title: &'static str) -> Definition {
    Definition { graded: true, ..alarm(name, severity, title) }
}

macro_rules! alarms {
    ($($constant:ident = $kind:ident $name:literal, $severity:ident, $title:literal;)*) => {
        $(pub static $constant: Definition = $kind($name, $severity, $title);)*
        /// All of them.
        pub static CATALOGUE: &[&Definition] = &[$(&$constant),*];
    };
}

alarms! {
    TABLE = alarm "BalancerTableDiffers", Critical, "the kernel's table of a service is not the one that was planned";
    SERVICE = alarm "BalancerServiceEntryDiffers", Critical, "the kernel's entry of a service is not the one that was written";
    BACKEND = alarm "BalancerBackendEntryDiffers", Critical, "the kernel sends packets for a backend elsewhere than planned";
    SETTINGS = alarm "BalancerSettingsDiffer", Critical, "lists, rates, server ids, settings or counters in the kernel were changed";
    UNVERIFIED = alarm "BalancerVerifyFailed", Critical, "the kernel's maps could not be read back or put right";
    REPLACED = alarm "BalancerProgramReplaced", Critical, "another XDP program is in the place of the balancer's";
    DETACHED = alarm "BalancerProgramDetached", Critical, "the balancer's program is not on an interface that it should be on";
    SERVICE_DOWN = alarm "BalancerServiceDown", Critical, "no backend of a service is up";
    STATE_DIR = alarm "BalancerStateDirUnwritable", Critical, "the state directory can't be written";
    DAMAGED = alarm "BalancerStateDamaged", Critical, "a file of the state directory was damaged, and what it held is not in force";
    DISAGREES = alarm "BalancerExplainDisagrees", Critical, "the loaded program decided otherwise than the model of it";
    FINDING = graded "BalancerConfigFinding", Critical, "what lint finds in the weights and the config in force, and nobody accepted";
    KEPT = alarm "BalancerRemovalRefused", Critical, "too many backends of a service fail at once: they are kept in its table";
    BLIND = alarm "BalancerChecksBlind", Critical, "this host can't check backends by its own fault, and would not see one fail";
    NOT_WRITTEN = alarm "BalancerStateNotWritten", Critical, "what is in force is not all on disk: a restart brings back something else";
    BACKEND_DOWN = alarm "BalancerBackendDown", Warning, "a backend that should take flows takes none";
    ROUNDED = alarm "BalancerShareRounded", Warning, "a backend's part of the table is not what its weight asks for";
    SKEWED = alarm "BalancerTrafficSkewed", Warning, "a backend gets more or less new flows than planned";
    OVERLOADED = alarm "BalancerBackendOverloaded", Warning, "a backend gets more new flows than its capacity";
    REPEATED = alarm "BalancerSynRepeated", Warning, "clients send their SYN again: somebody does not answer";
    DROPPED = alarm "BalancerPacketsDropped", Warning, "packets for services are dropped";
    FLOW_TABLE = alarm "BalancerFlowTableFull", Warning, "flows could not be remembered: the flow table of a service is full";
    MAP = alarm "BalancerMapNearlyFull", Warning, "a map of the kernel is nearly full";
    DESCRIPTORS = alarm "BalancerDescriptorsLow", Warning, "the controller has nearly as many files open as it may";
    PATH_MTU = alarm "BalancerPathMtuLowered", Warning, "a router says that the way to a backend takes smaller packets only";
    FILE = alarm "BalancerConfigFileDiffers", Warning, "the config file is not what runs";
    REFUSED = alarm "BalancerConfigRefused", Warning, "the last reload was refused: what runs is older than the file";
    TAKEN_BACK = alarm "BalancerChangeTakenBack", Warning, "a guarded change did harm, or nobody confirmed it, and was taken back";
    WEBHOOK = alarm "BalancerWebhookFailing", Warning, "alarms do not reach a webhook";
    FLAPPING = alarm "BalancerBackendFlapping", Warning, "a backend goes down and comes back again and again";
    OVERRIDDEN = alarm "BalancerWeightByCommand", Info, "a command's weight or drain is in force instead of the file's";
    DRILL = alarm "BalancerDrill", Info, "a drill: nothing is wrong";
}

/// The alarm of this name.
pub fn definition(name: &str) -> Option<&'static Definition> {
    CATALOGUE.iter().find(|definition| definition.name == name).copied()
}
