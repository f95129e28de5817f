//! `balancer init`: a first config, for this host and with a seed that nobody else has.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::Group;

use super::{new_file, print};

/// The service's group, which the package makes.
const GROUP: &str = "balancer";
const ROUTES: &str = "/proc/net/route";

pub(super) fn run(file: &Path, stdout: bool) -> Result<()> {
    let routes = fs::read_to_string(ROUTES).unwrap_or_default();
    let group = Group::from_name(GROUP).ok().flatten().is_some();
    let text = config(rand::random(), default_interface(&routes), group);
    if stdout {
        return print(&text);
    }
    write(file, &text)?;
    let file = file.display();
    print(&format!(
        "{file} is written. Put your services in the place of its example, then:\n  balancer check --here {file}\n  \
         systemctl enable --now balancer\n"
    ))
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    new_file::write(file, text, "`--stdout` prints a first config")
}

/// Of the kernel's routes, the one to everywhere with the least metric.
fn default_interface(routes: &str) -> Option<&str> {
    let everywhere = |line: &'_ str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else { return None };
        metric.parse::<u32>().ok()
    };
    let least = routes.lines().filter_map(|line| Some((everywhere(line)?, line))).min_by_key(|(metric, _)| *metric);
    least?.1.split_whitespace().next()
}

fn config(seed: u64, interface: Option<&str>, group: bool) -> String {
    let (interface, remark) = match interface {
        Some(interface) => (interface, "the one of this host's default route"),
        None => ("eth0", "this host has no default route that would tell"),
    };
    let control =
        if group { "\n[control]\ngroup = \"balancer\"   # who is in it may use the control socket\n" } else { "" };
    format!(
        r#"# balancer.toml(5) describes every key. `balancer check --here` finds what is wrong with this file.

[node]
# Drawn for this host. Give it to all balancers that share services, and keep it secret: who knows it can aim at a backend.
seed = "{seed:#018x}"
{control}
[[interface]]
name = "{interface}"   # packets to the services come in here; {remark}

# An example; put your services in its place.
[[service]]
name = "web"
protocol = "tcp"
address = "203.0.113.10"   # what clients connect to; it is routed to this host
port = 443
forward = "ipip"   # or l2, gue, nat: docs/deploy.md says what each needs of the backends

[service.health]
kind = "tcp"

[[service.backend]]
name = "web-1"
address = "10.0.0.11"

[[service.backend]]
name = "web-2"
address = "10.0.0.12"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;
    use crate::spec::lint::Host;

    #[test]
    fn the_first_config_is_valid_has_no_findings_and_a_seed_of_its_own() {
        for group in [false, true] {
            let text = config(0x0123_4567_89ab_cdef, Some("ens3"), group);
            let loaded = spec::read("f.toml", text, Path::new("")).unwrap_or_else(|found| panic!("{found}"));
            assert_eq!(loaded.config.node.seed, 0x0123_4567_89ab_cdef);
            assert_eq!(loaded.config.interfaces[0].name, "ens3");
            let found = loaded.findings(&Host::default());
            let counted: Vec<_> = found.findings.iter().filter(|finding| finding.counts()).collect();
            assert!(counted.is_empty(), "{counted:?}");
        }
        let seed = |text: String| text.lines().find(|line| line.starts_with("seed")).map(str::to_owned);
        assert_ne!(seed(config(1, None, false)), seed(config(2, None, false)));
    }

    #[test]
    fn a_file_that_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/balancer.toml");
        write(&file, "first").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777 & !0o640, 0, "{mode:o}");
        let error = write(&file, "second").unwrap_err().to_string();
        assert!(error.contains("is there already and stays"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "first");
    }

    #[test]
    fn the_interface_is_that_of_the_default_route_with_the_least_metric() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                      wlan0\t00000000\t0100000A\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                      eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                      ens3\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        assert_eq!(default_interface(routes), Some("ens3"));
        assert_eq!(default_interface("Iface\tDestination\n"), None);
    }
}
