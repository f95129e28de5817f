//! What a comparison of what runs with what was planned costs, and how soon it finds a skew of traffic.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::api::Explanation;
use balancer::controller::requests::{Compare, GetStatus};
use balancer_common::slot::Slot;
use harness::controller::Controller;
use harness::running::Program;
use harness::tamper::Pinned;
use harness::web::Web;

use crate::together::drift::{config, quiet, says, verified};

/// SYNs of as many flows as there are numbers, at a steady rate, into the program on the interface. Of flows that go to the
/// first backend, a part comes twice.
struct Clients {
    program: Program,
    number: u32,
    to: SocketAddrV4,
    first: [u8; 6],
}

impl Clients {
    /// Sends for so long; `more`: the part of the first backend's flows that comes twice.
    fn send(&mut self, rate: u32, time: Duration, more: f64) -> Result<()> {
        self.send_until(rate, time, more, || Ok(false))
    }

    fn send_until(&mut self, rate: u32, time: Duration, more: f64, over: impl Fn() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        let (mut sent, mut extra, mut looked) = (0.0, 0.0, start);
        while start.elapsed() < time {
            while sent < start.elapsed().as_secs_f64() * f64::from(rate) {
                self.number += 1;
                sent += 1.0;
                let source = SocketAddrV4::new(
                    Ipv4Addr::from(0x0b00_0000 + self.number / 50_000),
                    1024 + (self.number % 50_000) as u16,
                );
                let frame = syn(source, self.to);
                let (_, out) = self.program.run(&frame)?;
                if out[..6] == self.first {
                    extra += more;
                    if extra >= 1.0 {
                        extra -= 1.0;
                        sent += 1.0;
                        self.program.run(&frame)?;
                    }
                }
            }
            if looked.elapsed() > Duration::from_millis(100) {
                looked = Instant::now();
                if over()? {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn syn(source: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], [2, 0, 0, 0, 0, 9])
        .ipv4(source.ip().octets(), to.ip().octets(), 64)
        .tcp(source.port(), to.port(), 1, 1000)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).expect("a packet in memory");
    frame
}

#[test]
fn more_traffic_than_planned_on_a_backend_is_found_in_twice_the_time_it_takes_in_theory() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &config(&web, ""))?;
    controller.wait_all_up()?;
    let program = Program::on(&web.lab.balancer, "eth0")?;
    let SocketAddr::V4(to) = web.address() else { anyhow::bail!("IPv4") };
    let mut clients = Clients { program, number: 0, to, first: [0; 6] };
    // Which way the first backend is: a slot of it, and a flow that hashes there.
    clients.first = {
        let mut found = None;
        for port in 1024..2048 {
            let source = SocketAddrV4::new(Ipv4Addr::new(11, 200, 0, 1), port);
            let explained: Explanation = controller.json(&["explain", "tcp", &source.to_string(), &to.to_string()])?;
            if explained.route.is_some_and(|route| route.backend.as_str() == "b0") {
                found = Some(clients.program.run(&syn(source, to))?.1);
                break;
            }
        }
        found.context("no flow for b0")?[..6].try_into()?
    };
    for (more, rate) in [(0.5, 300u32), (0.2, 1_000)] {
        clients.send(rate, Duration::from_secs(12), 0.0)?;
        ensure!(controller.status()?.alarms.is_empty(), "{:#?}", controller.status()?.alarms);
        let theory = Duration::from_secs_f64(balancer::drift::flows_to_show(0.25, more) / f64::from(rate));
        let verification = verified(&controller)?;
        let said = verification.services[0].backends[0].shows_after_seconds.context("nothing is said of power")?;
        let usual = balancer::drift::flows_to_show(0.25, 0.2) / f64::from(rate);
        ensure!((0.5..2.0).contains(&(said / usual)), "+20 % would show in {said} s, in theory in {usual} s");
        let start = Instant::now();
        let skewed = || -> Result<bool> {
            Ok(controller.status()?.alarms.iter().any(|alarm| alarm.alarm == "BalancerTrafficSkewed"))
        };
        clients.send_until(rate, Duration::from_secs(60), more, skewed)?;
        let took = start.elapsed();
        println!("+{more} at {rate}/s: found after {took:?}, in theory {theory:?}");
        // Counts are looked at every second.
        ensure!(took < theory * 2 + Duration::from_millis(1_500), "found after {took:?}, in theory {theory:?}");
        let alarms = controller.status()?.alarms;
        let [found] = &alarms[..] else { anyhow::bail!("one alarm only: {alarms:#?}") };
        says(found, &["web/b0", "new flows", "25.00 %"])?;
        let output = controller.cli(&["verify"])?;
        ensure!(output.status.code() == Some(1), "{}", output.status);
        let over = || Ok(controller.status()?.alarms.is_empty());
        clients.send_until(rate, Duration::from_secs(60), 0.0, over)?;
        ensure!(over()?, "still: {:#?}", controller.status()?.alarms);
    }
    Ok(())
}

#[test]
fn reading_back_a_thousand_services_costs_less_than_a_fiftieth_of_a_processor() -> Result<()> {
    const SERVICES: usize = 1_000;
    let web = Web::new(2)?;
    let mut text = "{node}\n[[interface]]\nname = \"eth0\"\n".to_owned();
    for number in 0..SERVICES {
        let (high, low) = (number / 250, number % 250 + 1);
        text += &format!(
            "[[service]]\nname = \"s{number}\"\nprotocol = \"tcp\"\naddress = \"192.0.{}.{low}\"\nport = 80\nforward = \"l2\"\n\
             [service.health]\nkind = \"none\"\n[[service.backend]]\nname = \"b0\"\naddress = \"{}\"\n\
             [[service.backend]]\nname = \"b1\"\naddress = \"{}\"\n",
            10 + high,
            harness::lab::Lab::backend4(0),
            harness::lab::Lab::backend4(1),
        );
    }
    let controller = Controller::start(&web.lab.balancer, &text)?;
    let pid = controller.pid().context("no process")?;
    std::thread::sleep(Duration::from_secs(12));
    let before = cpu_time(pid)?;
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(20));
    let part = (cpu_time(pid)? - before).as_secs_f64() / start.elapsed().as_secs_f64();
    let scrape = controller.status()?;
    ensure!(scrape.services.len() == SERVICES);
    let took = verified(&controller)?.seconds;
    let program = Program::on(&web.lab.balancer, "eth0")?;
    let frame =
        syn(SocketAddrV4::new(Ipv4Addr::new(11, 0, 0, 1), 1024), SocketAddrV4::new(Ipv4Addr::new(192, 0, 10, 1), 80));
    // Its TTL lasts so long.
    let packet = || -> Result<u32> {
        let (mut times, start) = (Vec::new(), Instant::now());
        while start.elapsed() < Duration::from_secs(4) {
            times.push(program.time(&frame, 50)?);
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    };
    let quiet = packet()?;
    let over = AtomicBool::new(false);
    let meanwhile = std::thread::scope(|scope| {
        let comparing = scope.spawn(|| -> Result<u32> {
            let mut comparisons = 0;
            while !over.load(Ordering::Relaxed) {
                verified(&controller)?;
                comparisons += 1;
            }
            Ok(comparisons)
        });
        let measured = packet();
        over.store(true, Ordering::Relaxed);
        let comparisons = comparing.join().expect("the comparisons")?;
        ensure!(comparisons > 2, "{comparisons} comparisons meanwhile");
        measured
    })?;
    println!("a packet takes {quiet} ns, and {meanwhile} ns while everything is compared without a pause");
    ensure!(f64::from(meanwhile) < f64::from(quiet) * 1.5, "{quiet} ns, while everything is compared {meanwhile} ns");
    println!("{:.2} % of a processor; one comparison takes {:.0} ms", part * 100.0, took * 1000.0);
    ensure!(part < 0.02, "{:.2} % of a processor", part * 100.0);
    // And it does look: any slot of any of them.
    Pinned::of(controller.pin_dir()).set_slots(2 * 777, [(65_536, Slot::closed(31_000))])?;
    let status = controller.wait_for("a gap", Duration::from_secs(12), |status| {
        status.alarms.iter().any(|alarm| alarm.alarm == "BalancerTableDiffers")
    })?;
    let found = status.alarms.iter().find(|alarm| alarm.alarm == "BalancerTableDiffers").context("it was there")?;
    says(found, &["slot 65536 of 65537"])
}

/// User and system time of a process so far.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    // proc(5): utime and stime are fields 14 and 15, in hundredths of a second.
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

#[test]
fn ten_thousand_idle_cycles_raise_nothing() -> Result<()> {
    let web = Web::new(3)?;
    // Small maps are read more often in the same time.
    let small = config(&web, "[limits]\nservices = 16\nbackends = 64\n");
    let controller = Controller::start(&web.lab.balancer, &small)?;
    controller.wait_all_up()?;
    quiet(&controller)?;
    let client = balancer::control::client::Client::new(&controller.socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = Instant::now();
    runtime.block_on(async {
        for cycle in 0..10_000 {
            let verification = client.ask(&Compare::default()).await?;
            ensure!(verification.gaps.is_empty(), "cycle {cycle}: {:#?}", verification.gaps);
            if cycle % 500 == 0 {
                let alarms = client.ask(&GetStatus::default()).await?.alarms;
                ensure!(alarms.is_empty(), "cycle {cycle}: {alarms:#?}");
            }
        }
        Ok(())
    })?;
    println!("10,000 cycles took {:?}", start.elapsed());
    Ok(())
}
