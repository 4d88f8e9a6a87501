//! The server. See `qtls-server --help`.

fn main() -> std::process::ExitCode {
    qtls_cli::server::main()
}
