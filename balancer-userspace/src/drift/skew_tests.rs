use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::drift::testing::{Clients, Fleet};

const HEALTHY: [(Clients, usize); 3] =
    [(Clients::Independent, 20_000), (Clients::Clustered(10), 20_000), (Clients::HeavyTailed(1.3), 20_000)];

#[test]
fn a_thousand_healthy_windows_of_each_kind_of_client_raise_one_false_alarm_at_most() {
    let mut random = StdRng::seed_from_u64(1);
    let fleets =
        [Fleet::of(&[100; 10]), Fleet::of(&[10, 20, 40, 80, 200, 100]), Fleet::of(&[1, 99]), Fleet::of(&[7; 60])];
    let mut alarms = Vec::new();
    for (clients, flows) in HEALTHY {
        for number in 0..1_000 {
            let fleet = &fleets[number % fleets.len()];
            let flows = flows >> (number / fleets.len() % 4 * 2);
            let samples = fleet.window(clients, flows, &mut random);
            let findings = judge(&samples, Duration::from_secs(10));
            alarms.extend(findings.iter().filter(|f| f.skewed).map(|f| (clients, number, *f)));
        }
    }
    assert!(alarms.len() <= 1, "{} false alarms: {alarms:#?}", alarms.len());
}
