//! Files that others write, hold back or break: the config and the state directory. Whatever they do, what is forwarded stays.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use balancer::control::api::Status;
use harness::client;
use harness::controller::Controller;
use harness::web::Web;
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(8);

/// A config text with this weight for the first backend.
fn weighing(text: &str, weight: u32) -> String {
    text.replace("weight = 100", &format!("weight = {weight}"))
}

fn has(weight: u32) -> impl Fn(&Status) -> bool {
    move |status| status.services.iter().any(|service| service.backends[0].weight == weight)
}

/// Puts a symbolic link in the place of another, as Kubernetes does.
fn swap(link: &Path, target: &str) -> Result<()> {
    let next = link.with_file_name("next");
    symlink(target, &next)?;
    Ok(fs::rename(next, link)?)
}

#[test]
fn whichever_way_the_config_changes_it_is_followed_and_never_half_of_it() -> Result<()> {
    let web = Web::new(2)?;
    let config = format!("watch_config = true\n{}", web.config(&[100, 300]));
    let mut controller = Controller::prepare(&web.lab.balancer, &config)?;
    let path = controller.config();
    let beside = path.parent().context("no directory")?.to_owned();
    let text = fs::read_to_string(&path)?;
    // balancer.toml -> ..data/balancer.toml, ..data -> ..v1
    for (version, weight) in [("..v1", 100), ("..v2", 101)] {
        fs::create_dir(beside.join(version))?;
        fs::write(beside.join(version).join("balancer.toml"), weighing(&text, weight))?;
    }
    fs::remove_file(&path)?;
    swap(&beside.join("..data"), "..v1")?;
    swap(&path, "..data/balancer.toml")?;
    controller.run()?;
    let began = controller.wait_all_up()?;

    swap(&beside.join("..data"), "..v2")?;
    controller.wait_for("the swap of ..data", SOON, has(101))?;
    let behind = beside.join("..v2/balancer.toml");
    fs::write(&behind, weighing(&text, 102))?;
    controller.wait_for("an edit behind the link", SOON, has(102))?;
    fs::hard_link(&behind, beside.join("other-name"))?;
    fs::write(beside.join("other-name"), weighing(&text, 103))?;
    controller.wait_for("an edit by another name", SOON, has(103))?;
    // The directory is exchanged, and then removed and made again.
    fs::create_dir(beside.join("new"))?;
    fs::write(beside.join("new/balancer.toml"), weighing(&text, 104))?;
    fs::rename(beside.join("..v2"), beside.join("old"))?;
    fs::rename(beside.join("new"), beside.join("..v2"))?;
    controller.wait_for("another directory", SOON, has(104))?;
    fs::remove_dir_all(beside.join("..v2"))?;
    fs::create_dir(beside.join("..v2"))?;
    fs::write(&behind, weighing(&text, 105))?;
    controller.wait_for("a directory made again", SOON, has(105))?;

    // Somebody writes the first half, which has no services and is valid, and pauses.
    let half = text.find("[[service]]").context("no service")?;
    let next = weighing(&text, 106);
    let mut file = File::create(&behind)?;
    file.write_all(&next.as_bytes()[..half])?;
    let requests = web.requests(300)?;
    std::thread::sleep(Duration::from_millis(500));
    let meanwhile = controller.status()?;
    ensure!(has(105)(&meanwhile) && meanwhile.config_refused.is_none(), "{meanwhile:?}\n{}", controller.log());
    file.write_all(&next.as_bytes()[half..])?;
    drop(file);
    controller.wait_for("the whole file", SOON, has(106))?;
    ensure!(requests.failed == 0 && began.services.len() == 1, "{requests:?}");
    Ok(())
}

#[test]
fn a_config_of_no_services_or_no_file_at_all_is_refused_by_name() -> Result<()> {
    let web = Web::new(1)?;
    let mut controller = Controller::start(&web.lab.balancer, &web.config(&[100]))?;
    controller.wait_all_up()?;
    let whole = fs::read_to_string(controller.config())?;
    let empty = whole.split("[[service]]").next().unwrap_or_default().to_owned();
    fs::write(controller.config(), &empty)?;
    controller.refused(&["reload"], &["no services, and 1 are in force", "--accept BAL031"])?;
    ensure!(web.requests(20)?.failed == 0);
    // Nor does a start take it.
    controller.end(Signal::SIGTERM)?;
    let error = format!("{:#}", controller.run().unwrap_err());
    ensure!(error.contains("no services, and 1 are in force"), "{error}");
    ensure!(web.requests(20)?.failed == 0);
    fs::write(controller.config(), &whole)?;
    controller.run()?;

    let pipe = controller.config().with_file_name("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
    let named = pipe.display().to_string();
    controller.refused(&["apply", &named], &["is a named pipe, not a regular file"])?;
    fs::write(pipe.with_file_name("latin"), b"[node]\nname = \"caf\xe9\"\n")?;
    let latin = pipe.with_file_name("latin").display().to_string();
    controller.refused(&["plan", &latin], &["latin:2:12: error: the file is not UTF-8 text"])?;

    // Where it is meant, it is said, by somebody whose terminal stays as it is.
    let file = pipe.with_file_name("empty.toml").display().to_string();
    fs::write(&file, &empty)?;
    let reason = "taken out\u{1b}[2J\n[2026-01-01T00:00:00Z INFO ] all is well";
    controller.done(&["apply", &file, "--accept", "BAL031", "--reason", reason])?;
    ensure!(controller.status()?.services.is_empty());
    let shown =
        controller.done(&["history"])? + &controller.done(&["show", "2"]).unwrap_or_default() + &controller.log();
    ensure!(shown.contains("taken out\\u001b[2J\\u000a") && !shown.contains('\u{1b}'), "{shown}");
    Ok(())
}

/// A file system of its own in the place of a directory, which goes with the value.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path)?;
        mount(&["-t", "tmpfs", "-o", "ro,size=256k,mode=0755", "none"], &path)?;
        Ok(Self(path))
    }
}

fn mount(arguments: &[&str], path: &Path) -> Result<()> {
    let output = Command::new("mount").args(arguments).arg(path).output()?;
    ensure!(output.status.success(), "mount {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What `/readyz` answers.
fn ready(web: &Web) -> Result<String> {
    let address = ([127, 0, 0, 1], 9405).into();
    let ask = || async move { client::http(address, "GET", "/readyz", Vec::new()).await };
    Ok(String::from_utf8_lossy(&web.lab.balancer.block_on(ask)??).into_owned())
}

fn alarmed(name: &'static str) -> impl Fn(&Status) -> bool {
    move |status| status.alarms.iter().any(|alarm| alarm.alarm == name)
}

#[test]
fn a_disk_that_takes_nothing_stops_no_forwarding_and_no_start() -> Result<()> {
    const ALARM: &str = "BalancerStateDirUnwritable";
    let web = Web::new(2)?;
    let mut controller = Controller::prepare(&web.lab.balancer, &web.config(&[100, 100]))?;
    let mounted = Mounted::new(controller.state_dir())?;
    controller.run()?;
    controller.wait_all_up()?;
    ensure!(web.requests(100)?.failed == 0, "a start on a read-only disk");
    controller.wait_for("the alarm", SOON, alarmed(ALARM))?;
    let said = format!("{:#}", ready(&web).unwrap_err());
    ensure!(said.contains("503"), "{said}");
    controller.refused(&["weight", "web/b0", "300"], &["was not applied", "Read-only"])?;
    let why = controller.status()?.alarms.into_iter().find(|alarm| alarm.alarm == ALARM).context("no alarm")?;
    ensure!(why.summary.contains("Read-only"), "{}", why.summary);

    mount(&["-o", "remount,rw"], &mounted.0)?;
    controller.wait_for("the end of the alarm", SOON, |status| !alarmed(ALARM)(status))?;
    ensure!(mounted.0.join("kernel.json").exists(), "what was kept in memory is on disk");
    ensure!(ready(&web)? == "ok\n");
    // Full.
    let filler = mounted.0.join("filler.json");
    let mut file = File::create(&filler)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    // Or the room is not given back with the name.
    controller.refused(&["weight", "web/b0", "300"], &["was not applied", "No space left"])?;
    controller.wait_for("the alarm", SOON, alarmed(ALARM))?;
    ensure!(web.requests(100)?.failed == 0, "on a full disk");
    drop(file);
    fs::remove_file(&filler)?;
    controller.wait_for("the end of the alarm", SOON, |status| !alarmed(ALARM)(status))?;
    controller.done(&["weight", "web/b0", "300"])?;
    controller.end(Signal::SIGTERM)?;
    Ok(())
}

#[test]
fn damaged_files_stop_no_start_and_nobody_else_reads_the_state() -> Result<()> {
    let web = Web::new(2)?;
    let config = format!("seed = \"0x1f2e3d4c5b6a7988\"\n{}", web.config(&[100, 100]));
    let mut controller = Controller::start(&web.lab.balancer, &config)?;
    controller.wait_all_up()?;
    controller.done(&["drain", "web/b0"])?;
    let state = controller.state_dir();
    controller.end(Signal::SIGKILL)?;
    for (name, bytes) in
        [("overrides.json", &b"{"[..]), ("guard.json", b"\xff"), ("history.json", b"[{\"hash\": \"\xfe\"}]")]
    {
        fs::write(state.join(name), bytes)?;
    }
    // As an earlier version left it.
    for name in ["", "tables.jsonl", "overrides.json"] {
        let mode = if name.is_empty() { 0o755 } else { 0o644 };
        fs::set_permissions(state.join(name), fs::Permissions::from_mode(mode))?;
    }
    controller.run()?;
    let status = controller.wait_for("the alarm", SOON, alarmed("BalancerStateDamaged"))?;
    for name in ["overrides.json", "guard.json", "history.json"] {
        let damaged = status.alarms.iter().find(|alarm| alarm.subject.entry.as_deref() == Some(name));
        ensure!(damaged.is_some(), "{name}: {:?}", status.alarms);
    }
    ensure!(web.requests(100)?.failed == 0);
    let mode = |path: &Path| fs::metadata(path).map(|about| about.permissions().mode() & 0o777);
    ensure!(mode(&state)? == 0o700);
    for entry in fs::read_dir(&state)?.flatten() {
        let wanted = if entry.path().is_dir() { 0o700 } else { 0o600 };
        ensure!(mode(&entry.path())? == wanted, "{}: {:o}", entry.path().display(), mode(&entry.path())?);
    }
    let tables = fs::read_to_string(state.join("tables.jsonl"))?;
    let seed = 0x1f2e_3d4c_5b6a_7988u64;
    ensure!(!tables.is_empty() && !tables.contains(&seed.to_string()) && !tables.contains("keys"), "{tables}");
    // And yet it is known who put an owner there.
    let said = controller.done(&["explain", "tcp", "10.77.0.1:40000", "192.0.2.10:8000"])?;
    ensure!(said.contains("put there by generation"), "{said}");
    Ok(())
}
