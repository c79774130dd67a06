//! An API server of our own for tests: a store of objects with versions, labels and conflicts, over plain HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use http::Method;
use http::StatusCode;
use http::Uri;
use serde_json::Value;
use serde_json::json;

use super::Kubernetes;

/// A running server; it ends with the test's runtime.
pub(crate) struct FakeApi {
    pub(crate) client: Kubernetes,
    state: Arc<Mutex<Objects>>,
}

#[derive(Default)]
struct Objects {
    by_path: BTreeMap<String, Value>,
    version: u64,
    is_failing: bool,
}

type Shared = Arc<Mutex<Objects>>;

impl FakeApi {
    pub(crate) async fn start() -> Self {
        let state = Shared::default();
        let router = Router::new().fallback(answer).with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let _already = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            client: Kubernetes::over(http, &format!("http://{address}")),
            state,
        }
    }

    /// Makes every call fail, or work again.
    pub(crate) fn fail(&self, is_failing: bool) {
        self.state.lock().unwrap().is_failing = is_failing;
    }

    /// Everything that is kept, as text, what is encoded in base64 decoded.
    pub(crate) fn dump(&self) -> String {
        use base64::Engine as _;
        let objects = self.state.lock().unwrap();
        let mut text = String::new();
        for object in objects.by_path.values() {
            text.push_str(&object.to_string());
            for encoded in object["data"].as_object().into_iter().flatten() {
                let encoded = encoded.1.as_str().unwrap_or_default();
                let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
                text.push_str(&String::from_utf8_lossy(&decoded.unwrap_or_default()));
            }
        }
        text
    }
}

impl Objects {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = json!(self.version.to_string());
        if meta["creationTimestamp"].is_null() {
            let second = self.version % 60;
            meta["creationTimestamp"] = json!(format!("2026-11-24T00:00:{second:02}Z"));
        }
        self.by_path.insert(path.to_owned(), object.clone());
        object
    }

    fn version_at(&self, path: &str) -> Value {
        self.by_path[path]["metadata"]["resourceVersion"].clone()
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let below = format!("{path}/");
        let wanted = query.strip_prefix("labelSelector=").unwrap_or("");
        let wanted = wanted.replace("%3D", "=").replace("%2F", "/");
        let fits = |object: &&Value| {
            wanted
                .split_once('=')
                .is_none_or(|(key, text)| object["metadata"]["labels"][key] == text)
        };
        let found = self.by_path.iter();
        let items: Vec<&Value> = found
            .filter(|(path, _)| path.starts_with(&below))
            .map(|(_, object)| object)
            .filter(fits)
            .collect();
        json!({ "items": items })
    }
}

async fn answer(State(state): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut objects = state.lock().unwrap();
    let date = [("date", "Tue, 24 Nov 2026 00:00:00 GMT")];
    if objects.is_failing {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let path = uri.path();
    let object: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_there = objects.by_path.contains_key(path);
    let given = &object["metadata"]["resourceVersion"];
    let done = match (method.as_str(), is_there) {
        ("GET", true) => Ok(objects.by_path[path].clone()),
        ("GET", false) if path == "/readyz" => Ok(json!("ok")),
        ("GET", false) if path.ends_with('s') => Ok(objects.list(path, uri.query().unwrap_or(""))),
        ("POST", false) => {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let path = format!("{path}/{name}");
            if objects.by_path.contains_key(&path) {
                Err(StatusCode::CONFLICT)
            } else {
                Ok(objects.store(&path, object))
            }
        }
        ("PUT", true) if !given.is_null() && *given != objects.version_at(path) => {
            Err(StatusCode::CONFLICT)
        }
        ("PUT", true) => Ok(objects.store(path, object)),
        ("DELETE", true) => {
            let wanted = &object["preconditions"]["resourceVersion"];
            if !wanted.is_null() && *wanted != objects.version_at(path) {
                Err(StatusCode::CONFLICT)
            } else {
                Ok(objects.by_path.remove(path).unwrap())
            }
        }
        _ => Err(StatusCode::NOT_FOUND),
    };
    match done {
        Ok(object) => (StatusCode::OK, date, axum::Json(object)).into_response(),
        Err(code) => (code, date).into_response(),
    }
}
