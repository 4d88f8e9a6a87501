//! What `--help` says beyond the options themselves.

/// The end of `-h`.
pub(super) const SHORT: &str = "\
Environment: QTLS_SERVER_PORT, QTLS_HYBRID_MODE, QTLS_LOG_LEVEL, and any key as QTLS__SECTION__KEY.
Precedence: --set, environment, file, default.

Exit codes: 0 stopped by a signal, or replaced, or healthy; 1 internal error, or unhealthy; 2 wrong command line,
configuration or certificate";

/// The end of `--help`. Lines fit 80 columns: where a terminal is narrower, they are broken once more.
pub(super) const LONG: &str = "\
Environment:
  QTLS_SERVER_PORT     server.listen_port
  QTLS_HYBRID_MODE     tls.hybrid_mode: true or false
  QTLS_LOG_LEVEL       logging.level: error, warn, info, debug or trace
  QTLS__SECTION__KEY   any key, such as QTLS__SERVER__WORKER_THREADS=2
  LISTEN_FDS, LISTEN_FDNAMES, NOTIFY_SOCKET, WATCHDOG_USEC
                       as systemd sets them: its sockets are served, and it
                       hears when the server is ready, reloads, and leaves
  Precedence: --set, environment, file, default.

Files:
  /etc/qtls/config/server.json
                       the configuration, where there is no --config
  /etc/qtls/certs/server-cert.pem, /etc/qtls/certs/server-key.pem
                       the certificate and its key, where no configuration
                       names others

Signals:
  SIGTERM, SIGINT      stop, after server.drain_timeout at most; the second time
                       at once
  SIGHUP               read the configuration and its files again, and open
                       the log files anew

Exit codes:
  0   stopped by a signal, or replaced by another process; with --health and
      --ready: yes
  1   an internal error, or the system refused something that no configuration
      names; with --health and --ready: no, for whatever reason
  2   the command line, the configuration, or a certificate or key of the server

Examples:
  Check a configuration, then serve with it:
      qtls-server --test-config --config server.json
      qtls-server --config server.json
  In front of a web application, with certificates for a demonstration:
      qtls-server --demo --upstream 127.0.0.1:3000
  On another port, without touching the file:
      qtls-server --config server.json --set server.listen_port=9443";
