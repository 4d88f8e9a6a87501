//! The operator's tool. See `qtls --help`.

fn main() -> std::process::ExitCode {
    qtls_cli::qtls::main()
}
