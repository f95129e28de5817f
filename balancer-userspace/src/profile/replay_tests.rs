use proptest::prelude::*;

use super::*;
use crate::profile::MIXED;
use crate::spec;

/// Services with backends `b0` and so on of these weights; a backend of the same place has the same address everywhere.
fn services(weights: &[Vec<u32>], domains: &[&str]) -> Vec<Service> {
    let mut text = String::from("[[interface]]\nname = \"eth0\"\n");
    for (number, weights) in weights.iter().enumerate() {
        text += &format!(
            "[[service]]\nname = \"s{number}\"\nprotocol = \"tcp\"\naddress = \"192.0.2.1\"\nport = {}\n\
             forward = \"l2\"\ntable_size = 1021\n",
            1000 + number
        );
        for (at, weight) in weights.iter().enumerate() {
            let address = format!("10.0.0.{}", 1 + at);
            text += &format!("[[service.backend]]\nname = \"b{at}\"\naddress = \"{address}\"\nweight = {weight}\n");
            if let Some(domain) = domains.get(at) {
                text += &format!("failure_domain = \"{domain}\"\n");
            }
        }
    }
    spec::parse("f.toml", &text).unwrap_or_else(|problems| panic!("{problems}")).services.to_vec()
}

fn record(start: u64, flows: &[(&Service, [u32; GROUPS])]) -> Record {
    let flows = flows.iter().map(|(service, groups)| Flows {
        service: service.name.clone(),
        mapping: mapping(service, 0),
        groups: *groups,
    });
    Record { start, millis: 10_000, services: flows.collect() }
}

/// Slots of a backend in each group, counted another way.
fn owned(service: &Service, weights: &[u32], backend: usize) -> Vec<(u32, u32)> {
    let named = weights.iter().zip(&service.backends);
    let named: Vec<_> = named.map(|(weight, b)| (b.name.clone(), Weight::new(*weight).unwrap())).collect();
    let table = maglev::build(service.table_size, 0, &named);
    let of_group = |number: usize| {
        let slots: Vec<&u16> = table.iter().skip(number).step_by(GROUPS).collect();
        (slots.iter().filter(|owner| usize::from(***owner) == backend).count() as u32, slots.len() as u32)
    };
    (0..GROUPS).map(of_group).collect()
}

#[test]
fn a_backend_gets_its_part_of_each_group_now_and_after_a_loss() {
    let services = services(&[vec![100, 300, 0, 50]], &[]);
    let busy: [u32; GROUPS] = std::array::from_fn(|group| group as u32 * 100);
    let quiet = busy.map(|count| count / 2);
    let records = [record(0, &[(&services[0], quiet)]), record(10, &[(&services[0], busy)])];
    let replay = Replay::new(&services, 0, &records);
    let wanted = |weights: &[u32], backend| -> f64 {
        let slots = owned(&services[0], weights, backend).into_iter().zip(&busy);
        slots.map(|((own, all), count)| f64::from(*count) * f64::from(own) / f64::from(all)).sum::<f64>() / 10.0
    };
    for backend in 0..4 {
        let now = replay.now(backend);
        assert!((now.whole.rate - wanted(&[100, 300, 0, 50], backend)).abs() < 1e-9, "{now:?}");
        assert_eq!((now.members[0], now.members[0].interval), (now.whole, usize::from(backend != 2)));
    }
    let losses = replay.losses();
    assert_eq!(losses.len(), 3, "who gets nothing is not missed: {losses:?}");
    let after: HashMap<usize, Peaks> = replay.without(&losses[1]).into_iter().collect();
    assert!(losses[1].servers == [1] && !after.contains_key(&1));
    for backend in [0, 3] {
        assert!((after[&backend].whole.rate - wanted(&[100, 0, 0, 50], backend)).abs() < 1e-9, "{after:?}");
    }
    assert_eq!((replay.peak(0).rate, replay.peak(0).interval), (4960.0, 1));
}

#[test]
fn a_server_of_two_services_peaks_when_their_sum_does_and_is_lost_in_both() {
    let services = services(&[vec![1, 1], vec![1, 1]], &["rack", "rack"]);
    let even = |count: u32| -> [u32; GROUPS] { [count; GROUPS] };
    let records = [
        record(0, &[(&services[0], even(100)), (&services[1], even(10))]),
        record(10, &[(&services[0], even(80)), (&services[1], even(80))]),
        record(20, &[(&services[1], even(100))]),
    ];
    let replay = Replay::new(&services, 0, &records);
    let now = replay.now(0);
    assert_eq!([now.members[0].interval, now.members[1].interval, now.whole.interval], [0, 2, 1]);
    let losses = replay.losses();
    assert_eq!(losses.iter().map(|loss| loss.servers.len()).collect::<Vec<_>>(), [1, 1, 2]);
    assert_eq!(losses[2].domain.as_deref(), Some("rack"));
    let after = replay.without(&losses[1]);
    assert_eq!((after.len(), after[0].0), (1, 0));
    assert!((after[0].1.whole.rate - 160.0 * 3.2).abs() < 1e-9, "{after:?}");
    assert!(replay.without(&losses[2]).is_empty());
}

#[test]
fn what_had_other_slots_is_spread_evenly_and_strangers_are_named() {
    let services = services(&[vec![1, 1]], &[]);
    let mut skewed = [0; GROUPS];
    skewed[3] = 10_210;
    let mut records = [record(0, &[(&services[0], skewed)])];
    records[0].services[0].mapping = MIXED;
    let stranger = Flows { service: "old".parse().unwrap(), ..records[0].services[0].clone() };
    records[0].services.push(stranger);
    let replay = Replay::new(&services, 0, &records);
    assert_eq!((replay.spread[0], replay.strangers.clone()), (1, [("old".parse().unwrap(), 10_210)].into()));
    let slots: u32 = owned(&services[0], &[1, 1], 0).iter().map(|(own, _)| own).sum();
    assert!((replay.now(0).whole.rate - f64::from(slots)).abs() < 1e-9, "{:?}", replay.now(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Nothing is lost and nothing is made: the backends together get what came, also after a loss of some of them.
    #[test]
    fn loads_add_up_to_the_traffic(
        weights in prop::collection::vec(1u32..1000, 2..8),
        counts in prop::collection::vec(0u32..10_000, GROUPS),
        lost in any::<prop::sample::Index>(),
    ) {
        let services = services(std::slice::from_ref(&weights), &[]);
        let counts: [u32; GROUPS] = counts.try_into().unwrap();
        let replay = Replay::new(&services, 0, &[record(0, &[(&services[0], counts)])]);
        let came = f64::from(counts.iter().sum::<u32>()) / 10.0;
        let now: f64 = (0..weights.len()).map(|server| replay.now(server).whole.rate).sum();
        prop_assert!((now - came).abs() < 1e-6, "{now} of {came}");
        let loss = Loss { domain: None, servers: vec![lost.index(weights.len())] };
        let after: f64 = replay.without(&loss).iter().map(|(_, peaks)| peaks.whole.rate).sum();
        prop_assert!((after - came).abs() < 1e-6, "{after} of {came}");
    }
}
