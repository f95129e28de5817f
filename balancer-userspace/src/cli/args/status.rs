//! What `balancer status` takes.

use std::time::Duration;

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::Output;
use super::values::duration;
use crate::cli::completion;
use crate::model::ServiceName;

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Only this service, with all its backends
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(completion::services))]
    pub service: Option<ServiceName>,
    /// Only services and backends that take no flows
    #[arg(long)]
    pub down: bool,
    /// The shares at all five layers, counters, and every backend; needs 130 columns
    #[arg(long, conflicts_with_all = ["down", "sort", "watch"])]
    pub wide: bool,
    /// Order of the backends of a service
    #[arg(long, value_enum, value_name = "BY", default_value_t = Sort::Config)]
    pub sort: Sort,
    /// Show it again after each pause, with rates, until Ctrl-C
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    pub watch: Option<Duration>,
    /// How it is printed
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = StatusFormat::Text)]
    pub format: StatusFormat,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// As in the config file
    Config,
    Name,
    /// Those that take no flows first
    State,
    /// The largest weight in force first
    Weight,
    /// The largest part of the kernel's table first
    Share,
    /// The most new flows first
    Flows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// For people
    Text,
    /// As with --json
    Json,
    /// A row a backend, for tables
    Csv,
}
