//! The client. See `qtls-client --help`.

fn main() -> std::process::ExitCode {
    qtls_cli::client::main()
}
