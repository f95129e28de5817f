//! Whether new flows fall on backends as the table says, judged by the spread between groups of slots.
//!
//! Clients open several flows each, and a few open very many: what falls on one backend then varies far more than counts
//! of independent flows do, and a chi-square test cries out on healthy traffic. Each backend's slots are therefore cut
//! into groups that should see the same rate. How much those differ says how much chance moves; a backend is skewed where
//! its rate differs from that of the others by much more than that, and by enough to matter. The test is Welch's
//! (B. L. Welch, "The generalization of Student's problem when several different population variances are involved",
//! Biometrika 34, 1947): a single client in one group raises the spread together with the mean and proves nothing.

use std::time::Duration;

use balancer_common::slot::GROUPS;

/// One backend in a window: what its groups of slots should and did see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Slots that the backend owns, by group.
    pub slots: [u32; GROUPS],
    /// New flows of the window, by group.
    pub flows: [u32; GROUPS],
}

/// What is said of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Finding {
    /// Fraction of the service's slots.
    pub planned: f64,
    /// Fraction of its new flows.
    pub observed: f64,
    /// How far the rate of its slots is from that of the others', as a fraction of theirs.
    pub effect: f64,
    /// The difference in units of its own uncertainty.
    pub score: f64,
    /// Both large enough.
    pub skewed: bool,
}

/// The smallest difference that is reported.
pub const LEAST_EFFECT: f64 = 0.05;
/// The score beyond which chance is ruled out, for a window of a second and one backend: about one in a thousand million
/// of the normal distribution. Per decade of chance it changes by [`DECADE`].
const SCORE: f64 = 6.1;
const DECADE: f64 = 0.37;
/// How many times the common variance is more than chance gives 32 groups: F of about one in 100,000.
const OUTLIER: f64 = 2.5;
/// Of independent flows (z at one in a million, two-sided), and so that 99 of 100 differences of the size are found.
const Z_ALPHA: f64 = 4.89;
const Z_POWER: f64 = 2.33;
/// Flows in all groups of a backend below which nothing is judged.
const LEAST_FLOWS: u64 = 200;

/// Judges a service's backends against each other. Backends without slots are left out of it: they should get nothing, and
/// the exact layers see to that.
pub fn judge(samples: &[Sample], window: Duration) -> Vec<Finding> {
    let mut moments: Vec<Moments> = samples.iter().map(Moments::of).collect();
    let mut rest = moments.iter().fold(Moments::default(), |sum, own| sum.and(own));
    settle_variances(&mut moments, rest.slots);
    let all = Moments { ..rest };
    rest.variance = moments.iter().map(|own| own.variance).sum();
    let score = threshold(moments.iter().filter(|own| own.slots > 0.0).count(), window);
    let mut findings: Vec<Finding> = moments.iter().map(|own| own.compared(&rest.without(own), &all)).collect();
    if all.flows < LEAST_FLOWS as f64 {
        return findings;
    }
    // The worst is taken out of what the others are held against, which it would make look wrong too.
    for _ in 0..moments.len() {
        let is_beyond = |finding: &Finding| finding.score.abs() >= score && finding.effect.abs() >= LEAST_EFFECT;
        let open = findings.iter().enumerate().filter(|(_, finding)| !finding.skewed && is_beyond(finding));
        let Some((worst, _)) = open.max_by(|(_, a), (_, b)| a.score.abs().total_cmp(&b.score.abs())) else { break };
        findings[worst].skewed = true;
        rest = rest.without(&moments[worst]);
        for (own, finding) in moments.iter().zip(&mut findings).filter(|(_, finding)| !finding.skewed) {
            *finding = own.compared(&rest.without(own), &all);
        }
    }
    findings
}

/// All slots see the same clients. A backend's own variance counts where it has clients that the others don't have, and is a
/// poor estimate of the common one elsewhere: too small where its groups happen to look alike.
fn settle_variances(moments: &mut [Moments], slots: f64) {
    let pooled = moments.iter().map(|own| own.variance).sum::<f64>() / slots.max(1.0);
    for own in moments.iter_mut().filter(|own| own.variance < OUTLIER * pooled * own.slots) {
        own.variance = pooled * own.slots;
    }
}

/// With more backends more are looked at in a day, with longer windows fewer: each length has the same part of a false alarm a
/// year, about.
fn threshold(backends: usize, window: Duration) -> f64 {
    let seconds = window.as_secs_f64().max(1.0);
    SCORE + DECADE * ((backends.max(1) as f64).log10() - seconds.log10())
}

/// How many new flows of a service it takes to find that a backend with this planned share gets `effect` more, or less,
/// where flows are independent: normal approximation, two-sided error of one in a million, power 99 %.
pub fn flows_to_show(share: f64, effect: f64) -> f64 {
    let other = (share * (1.0 + effect)).min(1.0);
    let spread = |share: f64| (share * (1.0 - share)).sqrt();
    let distance = (other - share).abs();
    if distance <= 0.0 {
        f64::INFINITY
    } else {
        ((Z_ALPHA * spread(share) + Z_POWER * spread(other)) / distance).powi(2)
    }
}

/// Of one backend, or of several together: slots, flows, and the variance of the flows, estimated from what each group has
/// beyond or below its part.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    slots: f64,
    flows: f64,
    variance: f64,
}

impl Moments {
    fn of(sample: &Sample) -> Self {
        let slots: f64 = sample.slots.iter().map(|n| f64::from(*n)).sum();
        let flows: f64 = sample.flows.iter().map(|n| f64::from(*n)).sum();
        let rate = if slots > 0.0 { flows / slots } else { 0.0 };
        let groups = sample.slots.iter().filter(|n| **n > 0).count() as f64;
        let residual = |(slots, flows): (&u32, &u32)| (f64::from(*flows) - rate * f64::from(*slots)).powi(2);
        let residuals: f64 = sample.slots.iter().zip(&sample.flows).map(residual).sum();
        // One degree of freedom goes to the rate. A backend of one group takes the common variance.
        let variance = if groups > 1.0 { residuals * groups / (groups - 1.0) } else { 0.0 };
        Self { slots, flows, variance }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            slots: self.slots + other.slots,
            flows: self.flows + other.flows,
            variance: self.variance + other.variance,
        }
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            slots: self.slots - other.slots,
            flows: self.flows - other.flows,
            variance: (self.variance - other.variance).max(0.0),
        }
    }

    /// The rate of these slots against that of `others`; shares are of `all`.
    fn compared(&self, others: &Self, all: &Self) -> Finding {
        let part = |own: f64, all: f64| if all > 0.0 { own / all } else { 0.0 };
        let shares = Finding {
            planned: part(self.slots, all.slots),
            observed: part(self.flows, all.flows),
            ..Finding::default()
        };
        if self.slots <= 0.0 || others.slots <= 0.0 || others.flows <= 0.0 {
            return shares;
        }
        let (own_rate, rate) = (self.flows / self.slots, others.flows / others.slots);
        let spread = (self.variance / self.slots.powi(2) + others.variance / others.slots.powi(2)).sqrt();
        let score = if spread > 0.0 { (own_rate - rate) / spread } else { 0.0 };
        Finding { effect: own_rate / rate - 1.0, score, ..shares }
    }
}

#[cfg(test)]
#[path = "skew_tests.rs"]
mod tests;
