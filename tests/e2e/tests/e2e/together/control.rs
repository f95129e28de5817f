//! The control socket refuses what it can't understand, in words, and goes on; `explain` tells where flows really go.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use balancer::control::api::Explanation;
use harness::client;
use harness::controller::Controller;
use harness::server::binary;
use harness::web::Web;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Sends bytes to the control socket and reads what comes back.
fn exchange(controller: &Controller<'_>, request: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(controller.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    // A server that closes in the middle of a request that is too large resets the connection.
    let _ = stream.read_to_end(&mut answer);
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[test]
fn requests_that_make_no_sense_are_answered_in_words() -> Result<()> {
    let web = Web::new(1)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1]))?;
    let generation = controller.wait_all_up()?.generation;
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(100_000));
    for (method, path, body, status, said) in [
        ("POST", "/v1/weight", "{", "400", "the request's JSON"),
        ("POST", "/v1/weight", "{\"id\":\"web\",\"weight\":1}", "400", "SERVICE/BACKEND"),
        ("POST", "/v1/weight", "{\"id\":\"web/b0\",\"wieght\":1}", "400", "unknown field `wieght`"),
        ("POST", "/v1/weight", "{\"id\":\"web/b0\",\"weight\":1000001}", "400", "0 to 1000000"),
        ("POST", "/v1/weight", "{\"id\":\"web/b0\",\"weight\":-1}", "400", "invalid value"),
        ("POST", "/v1/drain", "{\"id\":\"web/bx\"}", "404", "there is no backend bx"),
        ("GET", "/v1/weight", "", "405", "takes POST only"),
        ("POST", "/v1/nothing", "", "404", "there is no such path"),
        ("GET", "/v1/status?service=a%20b", "", "400", "a name holds letters"),
        ("GET", "/v1/status?sevrice=web", "", "400", "unknown field"),
        ("POST", "/v1/weight", &large, "413", "{\"error\":\"Failed to buffer the request body"),
    ] {
        let answer = exchange(&controller, &request(method, path, body))?;
        ensure!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(said),
            "{path} {body:.40}: {answer}"
        );
    }
    for garbage in [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n", &[0; 4096]] {
        exchange(&controller, garbage)?;
    }
    let mode = std::fs::metadata(controller.socket())?.permissions().mode() & 0o777;
    ensure!(mode == 0o660, "the socket's mode is {mode:o}");
    ensure!(controller.status()?.generation == generation, "nothing was changed");
    Ok(())
}

#[test]
fn flows_go_where_explain_says() -> Result<()> {
    let web = Web::new(3)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 2, 3]))?;
    controller.wait_all_up()?;
    let explain = |destination: SocketAddr, port: u16| -> Result<Explanation> {
        let source = format!("10.77.0.1:{port}");
        let text = controller.done(&["explain", "tcp", &source, &destination.to_string(), "--json"])?;
        Ok(serde_json::from_str(&text)?)
    };
    for port in 20_000..20_030 {
        let explanation = explain(web.address(), port)?;
        let route = explanation.route.context("no route")?;
        let answered = client::request_from(&web.lab.client, web.address(), port)?;
        ensure!(route.backend.as_str() == answered, "port {port}: {answered} answered, explained was {route:?}");
    }
    let elsewhere = explain(SocketAddr::new(web.address().ip(), 1), 20_000)?;
    ensure!(elsewhere.verdict == "pass" && elsewhere.route.is_none(), "{elsewhere:?}");
    Ok(())
}

#[test]
fn a_thousand_half_open_connections_hold_nobody_up() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 1]))?;
    controller.wait_all_up()?;
    let pid = controller.pid().context("not running")?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    controller.limit_files(1000)?;
    let metrics: SocketAddr = "127.0.0.1:9405".parse()?;
    let connect = || TcpStream::connect_timeout(&metrics, Duration::from_secs(5));
    let held: Vec<TcpStream> =
        web.lab.balancer.enter(|| (0..1000).map(|_| connect()).collect::<std::io::Result<_>>())??;

    let asked = Instant::now();
    let mut stream = web.lab.balancer.enter(connect)??;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains("balancer_backend_up"), "{answer}");
    controller.status()?;
    ensure!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    web.set_failing(0, true)?;
    controller.wait_for("checks go on", Duration::from_secs(5), |status| {
        status.services[0].backends[0].state == balancer::control::api::BackendState::Down
    })?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    ensure!(open < 300, "{open} files are open for {} connections", held.len());

    // Nearly as many as there may be: that is an alarm.
    controller.limit_files(open as u64 + 2)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !controller.log().contains("alarm BalancerDescriptorsLow") {
        ensure!(Instant::now() < deadline, "no alarm:\n{}", controller.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    controller.limit_files(1000)
}

/// What a command answers where it is run by another user; exit code, then both outputs.
fn by_uid(controller: &Controller<'_>, (uid, groups): (u32, &str), args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new("setpriv");
    let first = groups.split(',').next().unwrap_or_default();
    command.args(["--reuid", &uid.to_string(), "--regid", first, "--groups", groups]).arg(binary("balancer")?);
    let output = command.arg("--socket").arg(controller.socket()).args(args).output().context("running setpriv")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn the_config_says_who_may_ask_and_who_may_change() -> Result<()> {
    let web = Web::new(1)?;
    let listed = "[control]\ngroup = \"61000\"\nread = [\"@61001\"]\nchange = [\"61004\"]\n\n[[interface]]";
    let config = web.config(&[1]).replacen("[[interface]]", listed, 1);
    let controller = Controller::start(&web.lab.balancer, &config)?;
    controller.wait_all_up()?;
    // Others may go as far as the socket.
    let socket = controller.socket();
    for directory in socket.ancestors().skip(1).take_while(|path| *path != Path::new("/tmp")) {
        std::fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    }
    let [reader, changer, stranger, outsider] =
        [(61003, "61000,61001"), (61004, "61000"), (61005, "61000"), (61006, "61002")];
    let (status, weight) = (["status"], ["weight", "web/b0", "7"]);
    for (who, args, code, said) in [
        (reader, &status[..], 0, "web"),
        (reader, &weight[..], 3, "uid 61003 may not change anything; `control.change` of the config: 61004"),
        (changer, &status[..], 0, "web"),
        (changer, &weight[..], 0, "web"),
        (stranger, &status[..], 3, "uid 61005 may not ask the controller"),
        (outsider, &status[..], 3, "permission denied on"),
    ] {
        let (found, text) = by_uid(&controller, who, args)?;
        ensure!(found == Some(code) && text.contains(said), "{who:?} {args:?}: {found:?} {text}");
    }
    let history = controller.done(&["history", "--json"])?;
    ensure!(history.contains("\"uid\":61004"), "{history}");

    // A list is read with the rights of who names it: a secret of root's is neither read nor quoted.
    let secret = controller.config().with_file_name("secret");
    std::fs::write(&secret, "hunter2 hunter3\n")?;
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600))?;
    let asked = Path::new("/tmp").join(format!("asked-{}.toml", std::process::id()));
    let text = std::fs::read_to_string(controller.config())?;
    std::fs::write(&asked, text.replacen("port = ", "deny_file = \"secret\"\nport = ", 1))?;
    std::fs::set_permissions(&asked, Permissions::from_mode(0o644))?;
    let (code, text) = by_uid(&controller, reader, &["plan", &asked.display().to_string()])?;
    let by_root = controller.cli(&["plan", &asked.display().to_string()])?;
    // Nor does a config have the controller run programs for whoever may change it.
    let program = std::fs::read_to_string(controller.config())? + "[[webhook]]\nexec = [\"/bin/true\"]\n";
    std::fs::write(&asked, program)?;
    let (refused, said) = by_uid(&controller, changer, &["apply", &asked.display().to_string()])?;
    ensure!(refused == Some(1) && said.contains("only root may bring in a program"), "{refused:?} {said}");
    std::fs::remove_file(&asked)?;
    ensure!(code == Some(1) && text.contains("with the rights of uid 61003") && !text.contains("hunter"), "{text}");
    let by_root = String::from_utf8_lossy(&by_root.stderr).into_owned();
    ensure!(by_root.contains("hunter2"), "root may read it: {by_root}");
    Ok(())
}

#[test]
fn a_shell_completes_the_names_of_what_runs() -> Result<()> {
    let web = Web::new(2)?;
    let controller = Controller::start(&web.lab.balancer, &web.config(&[1, 2]))?;
    controller.wait_all_up()?;
    let completed = |socket: &Path, words: &[&str]| -> Result<(String, String)> {
        let mut command = Command::new(binary("balancer")?);
        command.env("BALANCER_COMPLETE", "bash").env("_CLAP_IFS", ",").env("BALANCER_SOCKET", socket);
        command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string()).arg("--").args(words);
        let output = command.output()?;
        Ok((String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    for (words, expected) in [
        (&["balancer", "drain", "w"][..], "web/b0,web/b1"),
        (&["balancer", "status", ""][..], "web"),
        (&["balancer", "show", ""][..], "1"),
    ] {
        let (names, noise) = completed(&controller.socket(), words)?;
        ensure!(
            names.split(',').any(|name| expected.contains(name) && !name.is_empty()) && noise.is_empty(),
            "{words:?}: {names} {noise}"
        );
        ensure!(!words.contains(&"w") || names == expected, "{names}");
    }
    let (names, noise) = completed(Path::new("/nonexistent"), &["balancer", "drain", "w"])?;
    ensure!(names.is_empty() && noise.is_empty(), "without a controller: {names} {noise}");
    Ok(())
}
