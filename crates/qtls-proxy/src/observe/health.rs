//! `/health` and `/ready`, beside the metrics: what an orchestrator asks before it restarts a process, and what a load
//! balancer asks before it sends clients.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::heartbeats::{HUNG, Heartbeats};
use crate::shutdown::{Phase, Shutdown};

/// The path that tells whether the process works.
pub const HEALTH: &str = "/health";

/// The path that tells whether the process wants new clients.
pub const READY: &str = "/ready";

/// What the two answers rest on.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    pub(crate) heartbeats: Arc<Heartbeats>,
    pub(crate) shutdown: Shutdown,
}

impl Health {
    /// The answer, where the request is for one of the two paths.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let (good, text, facts) = match request.uri().path() {
            HEALTH => self.health(),
            READY => self.ready(),
            _ => return None,
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response =
                response(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "GET or HEAD.\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Some(if wants_json(request) {
            response(status, "application/json", format!("{facts}\n"))
        } else {
            response(status, "text/plain; charset=utf-8", format!("{text}\n"))
        })
    }

    fn health(&self) -> (bool, String, Value) {
        let hung = self.heartbeats.silent(HUNG);
        let good = hung.is_empty();
        let text = if good {
            "healthy".to_owned()
        } else {
            let names: Vec<_> = hung.iter().map(ToString::to_string).collect();
            format!("unhealthy: no sign of life for {} s from worker {}", HUNG.as_secs(), names.join(", "))
        };
        (good, text, json!({ "healthy": good, "hung_workers": hung }))
    }

    fn ready(&self) -> (bool, String, Value) {
        let phase = self.shutdown.phase();
        let text = match phase {
            Phase::Starting => "not ready: starting",
            Phase::Running => "ready",
            Phase::Leaving => "not ready: stopping, and still accepting for server.drain_delay",
            Phase::Draining => "not ready: stopping, and no longer accepting",
            Phase::Closing => "not ready: stopping, and closing what is open",
        };
        let good = phase == Phase::Running;
        (good, text.to_owned(), json!({ "ready": good, "phase": phase.name() }))
    }
}

fn wants_json<B>(request: &Request<B>) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept
        .split(',')
        .any(|range| range.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json")))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Of this moment, and of no other.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::shutdown::Conductor;

    struct Bed {
        health: Health,
        conductor: Conductor,
        runtime: tokio::runtime::Runtime,
    }

    impl Bed {
        fn new() -> Self {
            let conductor = Conductor::starting();
            let health = Health { heartbeats: Heartbeats::new(2, None), shutdown: conductor.watch() };
            Self { health, conductor, runtime: tokio::runtime::Builder::new_current_thread().build().unwrap() }
        }

        fn ask(&self, path: &str, accept: &str) -> (u16, String, String) {
            let request = Request::get(path).header(ACCEPT, accept).body(()).unwrap();
            let response = self.health.answer(&request).unwrap();
            let content_type = response.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            let status = response.status().as_u16();
            let body = self.runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
            (status, content_type, String::from_utf8(body.to_vec()).unwrap())
        }
    }

    #[test]
    fn ready_is_the_one_phase_that_wants_clients() {
        let bed = Bed::new();
        let ready = || bed.ask(READY, "*/*");
        let text = |status, text: &str| (status, "text/plain; charset=utf-8".to_owned(), format!("{text}\n"));
        assert_eq!(ready(), text(503, "not ready: starting"));
        bed.conductor.advance(Phase::Running);
        assert_eq!(ready(), text(200, "ready"));
        bed.conductor.advance(Phase::Leaving);
        assert_eq!(ready(), text(503, "not ready: stopping, and still accepting for server.drain_delay"));
        assert_eq!(
            bed.ask(READY, "text/html;q=0.1, application/json"),
            (503, "application/json".to_owned(), "{\"phase\":\"leaving\",\"ready\":false}\n".to_owned())
        );
        bed.conductor.advance(Phase::Draining);
        assert_eq!(ready(), text(503, "not ready: stopping, and no longer accepting"));
        assert_eq!(bed.ask(HEALTH, ""), text(200, "healthy"), "draining is no illness");
    }

    #[test]
    fn a_hung_worker_is_named() {
        let bed = Bed::new();
        let _well = bed.health.heartbeats.begin(0);
        let hung = bed.health.heartbeats.begin(1);
        hung.age(HUNG + std::time::Duration::from_secs(1));
        let (status, _, body) = bed.ask(HEALTH, "");
        assert_eq!((status, body.as_str()), (503, "unhealthy: no sign of life for 10 s from worker 1\n"));
        let (status, content_type, body) = bed.ask(HEALTH, "application/json");
        assert_eq!((status, content_type.as_str()), (503, "application/json"));
        assert_eq!(body, "{\"healthy\":false,\"hung_workers\":[1]}\n");
        drop(hung);
        assert_eq!(bed.ask(HEALTH, "").0, 200);
    }

    #[test]
    fn other_paths_and_methods_are_not_answered_for() {
        let bed = Bed::new();
        assert!(bed.health.answer(&Request::get("/metrics").body(()).unwrap()).is_none());
        assert!(bed.health.answer(&Request::get("/health/x").body(()).unwrap()).is_none());
        let response = bed.health.answer(&Request::post(READY).body(()).unwrap()).unwrap();
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }
}
