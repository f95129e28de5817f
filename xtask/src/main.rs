//! `cargo xtask`: everything a developer or an evaluator does, one command each.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod ci;
mod dist;
mod fuzz;
mod gates;
mod kernels;
mod setup;
mod suite;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use xtask::ebpf;
use xtask::toolchain::{Toolchain, linker};

/// Set-up, demo, tests and benchmarks of balancer
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing; what is there is left alone
    Setup,
    /// Say which toolchain and linker would build the eBPF programs
    Doctor,
    /// Check format, spelling, licences, lints and documentation; needs neither root nor the eBPF toolchain
    Gates,
    /// Build the eBPF programs and say where they are
    BuildEbpf,
    /// Set up, build, and run the real balancer on a virtual network with real clients and servers
    Demo {
        /// Print one JSON document instead of tables
        #[arg(long)]
        json: bool,
        /// Leave everything running at the end, until Ctrl-C
        #[arg(long)]
        hold: bool,
    },
    /// Set up, then run every test; one that fails is run once more, alone, and named if it then passes
    Test {
        /// Arguments for `cargo nextest run`, such as a part of a test's path; nothing is then run twice
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Set up, build, and run the benchmarks (`-- --help` says which there are)
    Bench {
        /// Arguments for the benchmark, such as `path`, `--json` or `--docs`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzz the packet path in userspace, and keep what is new in the corpus
    Fuzz {
        /// How long to look for new inputs
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        seconds: u32,
    },
    /// Run the product on other kernels, in virtual machines, and say what works there
    Kernels {
        /// Kernels of Debian, such as 6.1; default: 5.10, which must be refused, 6.1 and 6.12
        #[arg(value_name = "SERIES")]
        series: Vec<kernels::Series>,
        /// Where qemu or a kernel can't be had, say so and go on
        #[arg(long)]
        if_possible: bool,
    },
    /// Everything that a change must pass: gates, every test, and Linux 6.1 where a virtual machine can be had
    Ci,
    /// Build the release, and make a Debian package, a package of its debug symbols, and a tarball of it
    Dist(dist::Dist),
}

/// Every program of the product and of its tests.
const PROGRAMS: [&str; 1] = ["--bins"];

/// The profile of what tests run.
const TESTED: &str = "tested";

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup => setup::everything().map(|()| ExitCode::SUCCESS),
        Task::Doctor => doctor(),
        Task::Gates => gates::run().map(|()| ExitCode::SUCCESS),
        Task::BuildEbpf => {
            for object in [ebpf::BALANCER, ebpf::TESTS] {
                println!("{}", ebpf::build(object)?.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Task::Demo { json, hold } => {
            let flags = [(json, "--json"), (hold, "--hold")];
            tool("demo", &flags.iter().filter(|(set, _)| *set).map(|(_, flag)| (*flag).to_owned()).collect::<Vec<_>>())
        }
        Task::Bench { args } => tool("bench", &args),
        Task::Test { args } => test(&args),
        Task::Fuzz { seconds } => {
            setup::tools(&[("c++", "g++")])?;
            fuzz::run(seconds)
        }
        Task::Kernels { series, if_possible } => kernels::run(&series, if_possible, || {
            setup::everything()?;
            build(TESTED, &suite::EVERYTHING)
        }),
        Task::Ci => ci::run(),
        Task::Dist(dist) => {
            let build = || {
                setup::everything()?;
                setup::tools(&[("strip", "binutils"), ("dpkg-deb", "dpkg"), ("lintian", "lintian")])?;
                build_release(&["--package", "balancer-userspace"])?;
                Ok(release().join("balancer"))
            };
            dist.run(build).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn doctor() -> Result<ExitCode> {
    let toolchain = Toolchain::find()?;
    println!("eBPF toolchain: {} ({})", toolchain.name, toolchain.cargo.join(" "));
    println!("eBPF linker:    {}", linker()?.display());
    Ok(ExitCode::SUCCESS)
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(ebpf::root());
    command
}

/// Runs a child that shares the terminal; Ctrl-C reaches both, and the child cleans up.
fn wait(mut command: Command) -> Result<ExitCode> {
    setup::ignore_interrupts();
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn release() -> PathBuf {
    ebpf::root().join("target/release")
}

fn build_release(what: &[&str]) -> Result<()> {
    build("release", what)
}

fn build(profile: &str, what: &[&str]) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--profile", profile, "--locked"]).args(what);
    let status = command.status().context("running cargo build")?;
    anyhow::ensure!(status.success(), "the build failed");
    Ok(())
}

/// Demo and benchmark are programs of the tests, which know how to make networks.
fn tool(name: &str, args: &[String]) -> Result<ExitCode> {
    setup::everything()?;
    build_release(&PROGRAMS)?;
    let mut command = Command::new(release().join(name));
    command.args(args);
    // In the place of this process, so that signals reach it.
    Err(command.exec()).with_context(|| format!("running {command:?}"))
}

fn test(args: &[String]) -> Result<ExitCode> {
    suite::prepare()?;
    if !args.is_empty() {
        return suite::some(args);
    }
    let (code, flaky) = suite::all()?;
    flaky.iter().for_each(|flaky| println!("{flaky}"));
    Ok(code)
}
