//! Every command and flag, with the sentence a user reads; `values` reads what they take.

mod loadtest;
mod status;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

pub use self::loadtest::Loadtest;
pub use self::status::{Sort, StatusArgs, StatusFormat};
pub(super) use self::values::protocol;
use self::values::{duration, examined, guard};
use super::completion::{self, Shell};
use crate::control::api::Fault;
use crate::import::Origin;
use crate::model::{BackendId, BackendName, Protocol, ServiceName};
use crate::profile::Period;

/// Layer-4 load balancer in XDP: the traffic share you configured is the share you get.
///
/// Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 no controller reached.
#[derive(Debug, Parser)]
#[command(name = "balancer", version, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Control socket of the controller to talk to
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "BALANCER_SOCKET",
        hide_env_values = true,
        default_value = "/run/balancer/control.sock"
    )]
    pub socket: PathBuf,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller in the foreground; packets are still forwarded after it stops
    Run {
        /// Config file (TOML); read again on SIGHUP
        #[arg(long, value_name = "FILE", default_value = "/etc/balancer/balancer.toml")]
        config: PathBuf,
    },
    /// Write a first config, with a seed of its own; a file that is there stays as it is
    ///
    /// It names the interface of the default route, and an example of a service to be replaced.
    Init {
        /// File to write
        #[arg(value_name = "FILE", default_value = "/etc/balancer/balancer.toml")]
        file: PathBuf,
        /// Print it instead
        #[arg(long, conflicts_with = "file")]
        stdout: bool,
    },
    /// Check a config file; no controller is needed
    ///
    /// It finds what is invalid, predicts the load of each backend at the declared peaks, now and after each loss, and
    /// looks at weights, checks and addresses. The exit code is 1 where anything is an error, or a warning that the file
    /// does not silence. The file may be for another host: without --here, addresses and MTUs of this one are left out.
    #[command(arg_required_else_help = true)]
    Check {
        /// Config file (TOML)
        #[arg(value_name = "FILE", required_unless_present = "explain")]
        file: Option<PathBuf>,
        /// Print what a finding means and what to do about it
        #[arg(long, value_name = "ID", conflicts_with = "file", add = ArgValueCompleter::new(completion::every_finding))]
        explain: Option<String>,
        /// The file is for this host: hold it against its addresses and MTUs, too
        #[arg(long)]
        here: bool,
        /// How findings are printed
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
        format: Format,
        #[command(flatten)]
        output: Output,
    },
    /// Show what is wrong, then services and backends: states, weights, shares, drops
    ///
    /// Where there are many backends, a service is one line that names those that take no flows; `balancer status SERVICE`
    /// shows all of it, --down the backends that take none. Columns that the terminal has no room for are left out.
    Status(Box<StatusArgs>),
    /// Follow services and backends on the terminal, and change weights and drains by key
    ///
    /// Shares, flows and bits a second, and a minute's trend of each backend. `d` drains the backend that is chosen, `w` sets its
    /// weight; both show the shares before and after, and ask. `?` lists the keys.
    Top {
        /// Pause between two questions to the controller
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1s")]
        every: Duration,
    },
    /// Compare now what the balancer does with what it should do
    ///
    /// It compares weights, tables, the kernel's maps, the attached program, counted flows and the config file. Entries of
    /// maps that differ are repaired, unless the config says `verify.self_heal = false`. The exit code is 1 where anything
    /// differs. A weight or a drain that was set by command is shown and does not count: somebody asked for it.
    Verify {
        /// Only this service
        #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(completion::services))]
        service: Option<ServiceName>,
        #[command(flatten)]
        output: Output,
    },
    /// Prove that alarms reach people: make a harmless fault, and follow it to alarm, metric and webhook
    ///
    /// The fault is made in a second copy of the program, which gets no packets. The exit code is 1 where a step does not
    /// come in time.
    Drill {
        /// Which fault to make
        #[arg(value_enum, value_name = "FAULT")]
        fault: Fault,
        #[command(flatten)]
        output: Output,
    },
    /// Print the runbook's entry on an alarm, a finding or a reason for dropped packets
    Runbook {
        /// Such as BalancerTrafficSkewed, BAL012 or no_backend; default: the names of all entries
        #[arg(value_name = "NAME", add = ArgValueCompleter::new(completion::runbook))]
        name: Option<String>,
    },
    /// Set the weight of a backend now
    ///
    /// The weight stays in force across restarts and reloads, until `--reset`, or until the file itself gives this
    /// backend another weight than it has now: then the file is newer and wins, and the reload says so. `balancer status`
    /// shows both weights while they differ.
    #[command(override_usage = "balancer weight [OPTIONS] <SERVICE/BACKEND> <WEIGHT|--reset>")]
    #[command(group = clap::ArgGroup::new("to").required(true).args(["weight", "reset"]))]
    Weight {
        /// For example web/web-1
        #[arg(value_name = "SERVICE/BACKEND", add = ArgValueCompleter::new(completion::backends))]
        backend: BackendId,
        /// 0 to 1000000; 0 takes no new flows
        #[arg(value_name = "WEIGHT")]
        weight: Option<u32>,
        /// Go back to the weight in the file
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        output: Output,
    },
    /// Give a backend no new flows until `undrain`, also across restarts and reloads
    Drain {
        /// For example web/web-1
        #[arg(value_name = "SERVICE/BACKEND", add = ArgValueCompleter::new(completion::backends))]
        backend: BackendId,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        output: Output,
    },
    /// Give a drained backend new flows again
    Undrain {
        /// For example web/web-1
        #[arg(value_name = "SERVICE/BACKEND", add = ArgValueCompleter::new(completion::backends))]
        backend: BackendId,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        output: Output,
    },
    /// Show where a flow goes, and why
    ///
    /// The answer is computed from the kernel's maps, and checked by running a test packet through the loaded program; the
    /// packet is not sent. Where the two disagree, the exit code is 1 and an alarm is raised.
    Explain {
        /// tcp, udp or sctp
        #[arg(value_name = "PROTO", value_parser = protocol)]
        protocol: Protocol,
        /// Client, such as 198.51.100.7:40000 or `[2001:db8::7]:40000`
        #[arg(value_name = "SRC:PORT")]
        source: SocketAddr,
        /// Service, such as 203.0.113.10:443
        #[arg(value_name = "DST:PORT")]
        destination: SocketAddr,
        /// Also show where it would go under this config, with all backends up
        #[arg(long, value_name = "FILE", conflicts_with = "at")]
        with: Option<PathBuf>,
        /// Also show where new flows like it went at this time, such as 2026-11-21T03:00:00Z
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Write packets to a pcapng file, as they come in and as they leave, with what was decided about them
    ///
    /// Every packet is in the file twice: as it came in, and as it left. The comment of the second names verdict, reason,
    /// slot and backend. Give a service or a flow, or neither for packets of all services. `--out -` writes to the standard output, for example for
    /// `tshark -r -`.
    Capture {
        /// A service, such as web
        #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(completion::services))]
        service: Option<ServiceName>,
        /// One flow: tcp, udp or sctp, the client's address and port, and the service's
        #[arg(long, num_args = 3, value_names = ["PROTO", "SRC:PORT", "DST:PORT"], conflicts_with = "service")]
        flow: Option<Vec<String>>,
        /// File to write; `-` is the standard output
        #[arg(long, value_name = "FILE.pcapng", default_value = "-")]
        out: PathBuf,
        /// Packets to write at most
        #[arg(long, value_name = "N", default_value_t = 1000)]
        count: u32,
        /// Longest time to wait for them
        #[arg(long, value_name = "S", default_value_t = 60)]
        seconds: u32,
        /// Packets a second at most, on each processor
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rate: u32,
        /// Take one packet in N
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        one_in: u32,
    },
    /// Open real connections to a service at a steady rate; say how long they took and whom they reached
    ///
    /// Connections are opened by the clock, whether or not earlier ones are done, and latencies count from when a
    /// connection was due. Never more than --connections are open at once: what would exceed that is skipped and
    /// reported. Ctrl-C ends it early, with the report. The exit code is 1 where a connection failed or was skipped, or
    /// where none came through the balancer.
    ///
    /// Run it where packets to the service come to the balancer by an interface: on another host, with the control
    /// socket forwarded (`ssh -L`), not on the balancer itself. A source address has about 28,000 ports, each of which is
    /// used once a minute, so that more than about 470 connections a second for longer need several addresses (--from).
    Loadtest(Box<Loadtest>),
    /// Examine host, links and the way to each backend; name what is wrong and what to do
    ///
    /// Each backend is sent what opens a flow of its service, and a packet of full size, through the program that is
    /// loaded. The exit code is 1 where anything is wrong; notes do not count. With a service or a backend, the host itself is
    /// not examined.
    Doctor {
        /// Only this service, or this backend: web or web/web-1
        #[arg(value_name = "SERVICE[/BACKEND]", value_parser = examined, add = ArgValueCompleter::new(completion::subjects))]
        subject: Option<(ServiceName, Option<BackendName>)>,
        #[command(flatten)]
        output: Output,
    },
    /// Make a config of the rules of another balancer, and say line by line what could not be taken
    ///
    /// The config goes to the standard output, the report to the standard error. The report shows for each service the
    /// shares that IPVS really programs beside those of the new config. The exit code is 1 where anything was not taken, or
    /// where `balancer check` would find an error in the new config.
    Import {
        /// Whose rules they are
        #[arg(value_enum, value_name = "ORIGIN")]
        origin: Origin,
        /// File to read; `-` is the standard input, for example of `ipvsadm -Sn`
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Interface that packets for services come in on; default: those that the file names
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        interface: Vec<String>,
        /// File to write, with mode 0640; one that is there is left alone
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Show what applying a config file would change: shares, slots, loads, risk
    ///
    /// The exit code is 1 where `apply` would refuse the file. New warnings are shown; `apply` wants them accepted.
    Plan {
        /// Config file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Play recorded traffic back on a config file: the peak of each backend, now and after each loss
    ///
    /// The traffic is what the controller recorded (`[profile]`). Weights are those of the file; weights set by command are
    /// ignored, and every backend is taken to be up but the one that is lost. The exit code is 1 where a backend would get
    /// more than its declared capacity.
    Rehearse {
        /// Config file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// yesterday, today, all, a day such as 2026-11-21 (UTC), or how far back from now, such as 24h
        #[arg(long, value_name = "PROFILE", default_value = "24h")]
        profile: Period,
        /// Only this service, and losses that concern it
        #[arg(long, value_name = "SERVICE", add = ArgValueCompleter::new(completion::services))]
        service: Option<ServiceName>,
        #[command(flatten)]
        output: Output,
    },
    /// Bring a config file into force
    ///
    /// The file is checked first. Errors stop it, and so do new warnings that are neither accepted (--accept, --reason) nor
    /// silenced in the file. Then its content replaces that of the controller's own config file.
    Apply {
        /// Config file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Refuse where anything has changed since `balancer plan` printed this ID
        #[arg(long, value_name = "ID")]
        plan: Option<String>,
        #[command(flatten)]
        why: Why,
        /// Apply in steps, watch for harm, and roll back after this time, such as 2m, unless `balancer confirm` is run
        #[arg(long, value_name = "DURATION", value_parser = guard, conflicts_with = "dry_run")]
        guard: Option<u32>,
        /// Change nothing; print what would be done, or why it would be refused
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Keep a change that was applied with --guard
    Confirm {
        #[command(flatten)]
        output: Output,
    },
    /// Bring back an earlier generation; default: the one before what is in force, each time one further
    Rollback {
        /// Number of a generation in `balancer history`
        #[arg(value_name = "GENERATION", add = ArgValueCompleter::new(completion::generations))]
        generation: Option<u64>,
        /// Why; goes into the history
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List what was brought into force: when, by whom, how and why
    History {
        /// Check that no record and no stored config was changed
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show a generation: its record, and the config that was in force
    Show {
        /// Number of a generation in `balancer history`
        #[arg(value_name = "GENERATION", add = ArgValueCompleter::new(completion::generations))]
        generation: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Show how the configs of two generations differ
    Diff {
        /// Number of the older generation
        #[arg(value_name = "A", add = ArgValueCompleter::new(completion::generations))]
        from: u64,
        /// Number of the newer generation
        #[arg(value_name = "B", add = ArgValueCompleter::new(completion::generations))]
        to: u64,
        #[command(flatten)]
        output: Output,
    },
    /// Read the config file again, as SIGHUP does, and say what changed
    Reload {
        #[command(flatten)]
        output: Output,
    },
    /// Take the data plane down and remove everything that is pinned; also ends the controller
    Detach {
        /// Directory of the pinned maps and links, for where no controller answers
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/balancer")]
        pin_dir: PathBuf,
        /// Take the control socket and the directory of pins from this config file, where it names them
        #[arg(long, value_name = "FILE", conflicts_with = "pin_dir")]
        config: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Print a script that has a shell complete commands, and the names of services, backends, generations and findings
    Completions {
        /// Whose; for bash: balancer completions bash > /etc/bash_completion.d/balancer
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shell,
    },
    /// Write the manual's pages, as packages have them
    #[command(hide = true)]
    Manual {
        /// Directory to write to
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// As with --json
    Json,
    /// For code review (SARIF 2.1.0)
    Sarif,
}

#[derive(Debug, Clone, Args)]
pub struct Why {
    /// Accept a finding that this change causes, such as BAL016; needs --reason
    #[arg(long, value_name = "ID", value_delimiter = ',', add = ArgValueCompleter::new(completion::findings))]
    pub accept: Vec<String>,
    /// Why; goes into the history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_in_the_reference() {
        let reference = include_str!("../../../docs/cli.md");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let entry = format!("| `balancer {}", command.get_name());
            assert!(reference.contains(&entry), "{entry} is not in docs/cli.md");
        }
    }

    #[test]
    fn a_weight_is_a_number_or_a_reset() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["balancer", "weight"], args].concat());
        assert!(parse(&["web/a", "5"]).is_ok());
        assert!(parse(&["web/a", "--reset"]).is_ok());
        assert!(parse(&["web/a"]).is_err());
        assert!(parse(&["web/a", "5", "--reset"]).is_err());
        assert!(parse(&["web", "5"]).unwrap_err().to_string().contains("SERVICE/BACKEND"));
    }
}
