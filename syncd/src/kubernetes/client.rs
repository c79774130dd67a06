//! The calls.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use bundle::timestamp::Timestamp;
use reqwest::Client;
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::DATE;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::KubernetesError;
use super::objects::List;
use crate::https;
use crate::https::Credentials;

/// How long a call may take: the API server's own limit is a minute, a caller of ours waits for less.
const PATIENCE: Duration = Duration::from_secs(8);

/// Largest answer: a list of some thousand nodes.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// A way to the API server. Cheap to clone.
#[derive(Clone)]
pub struct Kubernetes {
    http: Client,
    server: Arc<str>,
    /// The API server's clock, and when it was read.
    clock: Arc<Mutex<Option<(Timestamp, Instant)>>>,
}

type Result<T> = std::result::Result<T, KubernetesError>;

/// Path of all leases of `kube-system`.
pub fn leases() -> String {
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases".to_owned()
}

/// Path of a lease of `kube-system`.
pub fn lease(name: &str) -> String {
    format!("{}/{name}", leases())
}

/// Path of all secrets of `kube-system`.
pub fn secrets() -> String {
    "/api/v1/namespaces/kube-system/secrets".to_owned()
}

/// Path of a secret of `kube-system`.
pub fn secret(name: &str) -> String {
    format!("{}/{name}", secrets())
}

/// Path of a configuration of `kube-system`.
pub fn config_map(name: &str) -> String {
    format!("/api/v1/namespaces/kube-system/configmaps/{name}")
}

/// Path of a node.
pub fn node(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

impl Kubernetes {
    /// Prepares to talk with the server of a kubeconfig, `https://host:port`.
    pub fn new(server: &str, credentials: &Credentials) -> Result<Self> {
        Ok(Self::over(https::client(credentials, PATIENCE)?, server))
    }

    pub(super) fn over(http: Client, server: &str) -> Self {
        Self {
            http,
            server: server.trim_end_matches('/').into(),
            clock: Arc::default(),
        }
    }

    /// Reads an object; `None` when it is not there.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let (call, status, body) = self.ask(Method::GET, path, None).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => parse(&call, &require_done(&call, status, body)?).map(Some),
        }
    }

    /// Lists the objects of a collection that have a label, `key=value`; all for an empty text.
    pub async fn list<T: DeserializeOwned>(&self, path: &str, label: &str) -> Result<Vec<T>> {
        let path = if label.is_empty() {
            path.to_owned()
        } else {
            let label = label.replace('=', "%3D").replace('/', "%2F");
            format!("{path}?labelSelector={label}")
        };
        let (call, status, body) = self.ask(Method::GET, &path, None).await?;
        let list: List<T> = parse(&call, &require_done(&call, status, body)?)?;
        Ok(list.items)
    }

    /// Makes an object in a collection; one of its name that is there already is a conflict.
    pub async fn create<T>(&self, collection: &str, object: &T) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.write(Method::POST, collection, object).await
    }

    /// Replaces an object, if it still has the version that `object` was read with.
    pub async fn replace<T>(&self, path: &str, object: &T) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.write(Method::PUT, path, object).await
    }

    /// Changes the named fields of an object (RFC 7386).
    pub async fn merge(&self, path: &str, change: &Value) -> Result<()> {
        let body = ("application/merge-patch+json", bytes(path, change)?);
        let (call, status, body) = self.ask(Method::PATCH, path, Some(body)).await?;
        require_done(&call, status, body).map(drop)
    }

    /// Removes an object, of this version if one is given; one that is not there is as good.
    pub async fn delete(&self, path: &str, version: Option<&str>) -> Result<()> {
        let only = version.map(|version| {
            serde_json::json!({
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "preconditions": { "resourceVersion": version },
            })
        });
        let body = match &only {
            Some(options) => Some(("application/json", bytes(path, options)?)),
            None => None,
        };
        let (call, status, body) = self.ask(Method::DELETE, path, body).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(()),
            _ => require_done(&call, status, body).map(drop),
        }
    }

    /// The API server's clock; asks for it when nothing was asked within the last minute.
    pub async fn now(&self) -> Result<Timestamp> {
        if let Some(now) = self.clock() {
            return Ok(now);
        }
        let (call, _status, _body) = self.ask(Method::GET, "/readyz", None).await?;
        self.clock().ok_or_else(|| KubernetesError::Answer {
            call,
            why: "it has no date".to_owned(),
        })
    }

    /// Whether the API server says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let asked = self.ask(Method::GET, "/readyz", None).await;
        asked.is_ok_and(|(_, status, _)| status == StatusCode::OK)
    }

    fn clock(&self) -> Option<Timestamp> {
        let (read, at) = (*self.clock.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = at.elapsed();
        if since > Duration::from_mins(1) {
            return None;
        }
        let passed = i64::try_from(since.as_secs()).ok()?;
        Timestamp::from_unix_seconds(read.unix_seconds().checked_add(passed)?).ok()
    }

    async fn write<T>(&self, method: Method, path: &str, object: &T) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
    {
        let body = ("application/json", bytes(path, object)?);
        let (call, status, body) = self.ask(method, path, Some(body)).await?;
        parse(&call, &require_done(&call, status, body)?)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<(String, StatusCode, Vec<u8>)> {
        let call = format!("{method} {path}");
        let silent = |source| KubernetesError::Silent {
            call: call.clone(),
            source,
        };
        let mut request = self.http.request(method, format!("{}{path}", self.server));
        if let Some((kind, bytes)) = body {
            request = request.header(CONTENT_TYPE, kind).body(bytes);
        }
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        let date = response.headers().get(DATE);
        if let Some(now) = date.and_then(|date| parse_date(date.to_str().ok()?)) {
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            *clock = Some((now, Instant::now()));
        }
        let body = https::read_capped(response, ANSWER_BYTES_MAX);
        match body.await.map_err(silent)? {
            Some(body) => Ok((call, status, body)),
            None => Err(KubernetesError::Answer {
                call,
                why: format!("it is larger than {ANSWER_BYTES_MAX} bytes"),
            }),
        }
    }
}

/// RFC 9110 §5.6.7, the preferred form, which every Go server sends.
fn parse_date(text: &str) -> Option<Timestamp> {
    let moment = jiff::fmt::rfc2822::parse(text).ok()?;
    Timestamp::from_unix_seconds(moment.timestamp().as_second()).ok()
}

fn bytes(path: &str, object: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(object).map_err(|error| KubernetesError::Answer {
        call: path.to_owned(),
        why: error.to_string(),
    })
}

fn parse<T: DeserializeOwned>(call: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| KubernetesError::Answer {
        call: call.to_owned(),
        why: error.to_string(),
    })
}

fn require_done(call: &str, status: StatusCode, body: Vec<u8>) -> Result<Vec<u8>> {
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        message: String,
    }
    let call = call.to_owned();
    match status {
        status if status.is_success() => Ok(body),
        StatusCode::CONFLICT => Err(KubernetesError::Conflict { call }),
        _ => Err(KubernetesError::Refused {
            call,
            status: status.as_u16(),
            message: serde_json::from_slice::<Said>(&body)
                .map(|said| said.message)
                .unwrap_or_default(),
        }),
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kubernetes")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_the_servers() {
        let date = parse_date("Tue, 24 Nov 2026 23:46:08 GMT").unwrap();
        assert_eq!(date.to_string(), "2026-11-24T23:46:08Z");
        assert_eq!(parse_date("yesterday"), None);
    }
}
