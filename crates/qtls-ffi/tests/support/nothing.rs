//! Every function with nothing to work on.

use std::ffi::c_int;
use std::ptr::{null, null_mut};

use qtls::abi::*;

/// A setter that is given no text.
pub fn names(config: *mut qtls_config, error: *mut *mut qtls_error) -> c_int {
    unsafe { qtls_config_set_groups(config, null(), 3, error) }
}

/// Each must answer with QTLS_E_MISUSE, or with 0 or NULL where it answers with a value.
pub fn every_function_with_null() {
    const MISUSE: c_int = qtls_status::QTLS_E_MISUSE as c_int;
    let (c, e, n) = (null_mut::<qtls_config>(), null_mut(), null());
    let conn = null_mut::<qtls_conn>();
    unsafe {
        qtls_config_free(c);
        qtls_conn_free(conn);
        qtls_error_free(null_mut());
        assert!(qtls_config_ref(c).is_null());
        assert!(qtls_config_new(0, e).is_null());
        assert!(qtls_conn_new_client(c, n, 0, e).is_null() && qtls_conn_new_server(c, e).is_null());
        assert!(qtls_config_note(c, 0).is_null() && qtls_conn_peer_identity(conn).is_null());
        assert!(qtls_conn_user(conn).is_null());
        assert!(qtls_error_message(null()).is_null() && qtls_error_hint(null()).is_null());
        assert_eq!((qtls_error_code(null()), qtls_error_fault(null())), (0, 0));
        assert_eq!((qtls_error_alert_sent(null()), qtls_error_alert_received(null())), (-1, -1));
        assert_eq!((qtls_config_note_count(c), qtls_conn_want(conn), qtls_conn_pending(conn)), (0, 0, 0));
        assert_eq!((qtls_has_feature(n, 0), qtls_group_code(n, 4)), (0, 0));
        let all = [
            qtls_config_freeze(c, e),
            qtls_config_add_key_pair_pem(c, null(), 0, null(), 0, n, 0, e),
            qtls_config_add_key_pair_files(c, n, 0, n, 0, n, 0, e),
            qtls_config_add_alpn(c, null(), 0, e),
            qtls_config_set_profile(c, n, 0, e),
            qtls_config_set_groups(c, n, 0, e),
            qtls_config_set_signatures(c, n, 0, e),
            qtls_config_set_chain_signatures(c, n, 0, e),
            qtls_config_set_suites(c, n, 0, e),
            qtls_config_set_hybrid_mode(c, 1, e),
            qtls_config_set_pqc_only(c, 1, e),
            qtls_config_set_group_preference(c, 0, e),
            qtls_config_add_ca_pem(c, null(), 0, e),
            qtls_config_add_ca_file(c, n, 0, e),
            qtls_config_use_system_roots(c, e),
            qtls_config_set_client_auth(c, 0, e),
            qtls_config_set_verify_depth(c, 0, e),
            qtls_config_add_crl_pem(c, null(), 0, e),
            qtls_config_add_crl_file(c, n, 0, e),
            qtls_config_set_crl_mode(c, 0, e),
            qtls_config_add_pin(c, n, 0, e),
            qtls_config_add_allowed(c, n, 0, n, 0, e),
            qtls_config_set_server_name_indication(c, 0, e),
            qtls_config_set_session_cache(c, 0, e),
            qtls_config_set_session_timeout(c, 0, e),
            qtls_config_set_ticket_keys(c, n, 0, e),
            qtls_config_set_verify_callback(c, None, null_mut(), e),
            qtls_config_danger_set_trust_callback(c, None, null_mut(), e),
            qtls_config_danger_set_key_log_callback(c, None, null_mut(), e),
            qtls_conn_set_user(conn, null_mut(), e),
            qtls_conn_set_fd(conn, 0, e),
            qtls_conn_feed(conn, null(), 0, null_mut(), e),
            qtls_conn_feed_eof(conn, e),
            qtls_conn_drain(conn, null_mut(), 0, null_mut(), e),
            qtls_conn_handshake(conn, e),
            qtls_conn_read(conn, null_mut(), 0, null_mut(), e),
            qtls_conn_write(conn, null(), 0, null_mut(), e),
            qtls_conn_flush(conn, e),
            qtls_conn_shutdown(conn, e),
            qtls_conn_info(conn, null_mut(), e),
            qtls_conn_peer_certificate(conn, 0, null_mut(), null_mut(), e),
            qtls_conn_export(conn, n, 0, null(), 0, null_mut(), 0, e),
        ];
        assert!(all.iter().all(|status| *status == MISUSE), "{all:?}");
    }
}
