use std::process::ExitCode;

fn main() -> ExitCode {
    balancer::cli::main()
}
