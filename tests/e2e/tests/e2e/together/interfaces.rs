//! Where the program sits: natively or generically, said and refused; also after an interface went.

use std::time::Duration;

use anyhow::{Result, ensure};
use balancer::model::XdpMode;
use harness::client;
use harness::controller::Controller;
use harness::programs;
use harness::web::Web;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn generic_mode_forwards_too_and_the_status_says_so() -> Result<()> {
    let web = Web::new(2)?;
    let config = web.config(&[1, 1]).replace("name = \"eth0\"\n", "name = \"eth0\"\nmode = \"generic\"\n");
    let controller = Controller::start(&web.lab.balancer, &config)?;
    let status = controller.wait_all_up()?;
    ensure!(status.interfaces[0].attached == Some(XdpMode::Generic), "{:?}", status.interfaces);
    ensure!(web.requests(100)?.failed == 0);
    // Native from the next config on.
    controller.configure(&config.replace("generic", "native"))?;
    controller.done(&["reload"])?;
    ensure!(controller.status()?.interfaces[0].attached == Some(XdpMode::Native));
    ensure!(web.requests(100)?.failed == 0);
    Ok(())
}

#[test]
fn native_is_refused_where_the_driver_has_none() -> Result<()> {
    let web = Web::new(1)?;
    let config = web.config(&[1]).replace("name = \"eth0\"\n", "name = \"lo\"\nmode = \"native\"\n");
    let mut controller = Controller::prepare(&web.lab.balancer, &config)?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("the driver of lo has no native XDP"), "{error}");
    controller.configure(&config.replace("native", "auto"))?;
    controller.run()?;
    ensure!(controller.status()?.interfaces[0].attached == Some(XdpMode::Generic));
    Ok(())
}

#[test]
fn a_missing_interface_and_a_foreign_program_are_named() -> Result<()> {
    let web = Web::new(1)?;
    let config = web.config(&[1]);
    let mut controller = Controller::prepare(&web.lab.balancer, &config.replace("\"eth0\"", "\"eth7\""))?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("there is no interface eth7"), "{error}");
    let foreign = programs::attach(&web.lab.balancer, "eth0", "pass")?;
    controller.configure(&config)?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("another XDP program is attached to eth0"), "{error}");
    drop(foreign);
    controller.run()
}

#[test]
fn an_interface_that_goes_is_reported_and_taken_back() -> Result<()> {
    let web = Web::new(1)?;
    let balancer = &web.lab.balancer;
    balancer.ip("link add eth9 type veth peer name eth9p")?;
    let config = format!("{}\n[[interface]]\nname = \"eth9\"\n", web.config(&[1]));
    let controller = Controller::start(balancer, &config)?;
    controller.wait_all_up()?;
    balancer.ip("link del eth9")?;
    let gone = controller.wait_for("eth9 gone", SOON, |status| status.interfaces[1].attached.is_none())?;
    ensure!(gone.interfaces[1].problem.as_ref().is_some_and(|problem| problem.contains("is gone")), "{gone:?}");
    ensure!(web.requests(50)?.failed == 0, "the other interface goes on");
    balancer.ip("link add eth9 type veth peer name eth9p")?;
    controller.wait_for("eth9 back", SOON, |status| status.interfaces[1].attached.is_some())?;
    Ok(())
}

#[test]
fn jumbo_frames_are_forwarded() -> Result<()> {
    let web = Web::new(1)?;
    for (namespace, interface) in [(&web.lab.switch, "p-cl"), (&web.lab.client, "eth0"), (&web.lab.balancer, "eth0")] {
        namespace.ip(&format!("link set {interface} mtu 9000"))?;
    }
    for interface in ["p-lb", "p-b0"] {
        web.lab.switch.ip(&format!("link set {interface} mtu 9000"))?;
    }
    web.lab.backends[0].ip("link set eth0 mtu 9000")?;
    let config = web.config(&[1]);
    let echo = config.replace("8000", "8001").replace("\"web\"", "\"echo\"");
    let echo = &echo[echo.find("[[service]]").unwrap_or(0)..]
        .replace("kind = \"http\"\npath = \"/healthz\"", "kind = \"tcp\"");
    let udp = echo.replace("\"tcp\"\naddress", "\"udp\"\naddress").replace("\"echo\"", "\"udp\"");
    let controller = Controller::start(&web.lab.balancer, &format!("{config}{echo}{udp}"))?;
    controller.wait_all_up()?;
    let vip = (harness::lab::VIP4, 8001).into();
    client::echo_tcp(&web.lab.client, vip, 2 << 20)?;
    client::echo_udp(&web.lab.client, vip, 50, 8000)?;
    ensure!(controller.status()?.dropped.is_empty());
    Ok(())
}

#[test]
fn messages_of_the_program_and_metrics_are_there() -> Result<()> {
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &format!("datapath_log = \"debug\"\n{}", web.config(&[1])))?;
    controller.wait_all_up()?;
    web.requests(10)?;
    controller.done(&["drain", "web/b0", "--accept", "BAL021", "--reason", "nobody is to be left"])?;
    web.requests(1)?;
    ensure!(controller.log().contains("dropped, reason 0"), "{}", controller.log());

    let get = |path: &'static str| {
        let address = ([127, 0, 0, 1], 9405).into();
        let body = web.lab.balancer.block_on(|| async move { client::http(address, "GET", path, Vec::new()).await })?;
        Ok::<String, anyhow::Error>(String::from_utf8_lossy(&body?).into_owned())
    };
    let metrics = get("/metrics")?;
    for line in [
        "balancer_backend_up{service=\"web\",backend=\"b0\"} 1",
        "balancer_backend_weight{service=\"web\",backend=\"b0\"} 1",
        "balancer_backend_weight_effective{service=\"web\",backend=\"b0\"} 0",
        "balancer_backend_new_flows_total{service=\"web\",backend=\"b0\"} 10",
        // All of them: flows of the drained backend may be anywhere.
        "balancer_open_slots{service=\"web\"} 65537",
        "balancer_interface_attached{interface=\"eth0\",mode=\"native\"} 1",
    ] {
        ensure!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    for page in ["/metrics/service/web", "/metrics?service=web"] {
        let page = get(page)?;
        ensure!(page.contains("balancer_backend_new_flows_total{service=\"web\",backend=\"b0\"} 10\n"), "{page}");
    }
    ensure!(get("/metrics/service/other").is_err(), "there is no such service");
    ensure!(get("/healthz")? == "ok\n" && get("/readyz")? == "ok\n");
    Ok(())
}
