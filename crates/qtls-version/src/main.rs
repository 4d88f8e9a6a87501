//! What is installed. See `qtls-version --help`.

fn main() -> std::process::ExitCode {
    qtls_cli::version::main(option_env!("QTLS_BUILT_FROM"))
}
