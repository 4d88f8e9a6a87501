//! The load generator. See `qtls-bench --help`.

fn main() -> std::process::ExitCode {
    qtls_cli::bench::main()
}
