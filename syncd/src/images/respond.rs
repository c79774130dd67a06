//! From a request to an answer of the distribution protocol.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bundle::Digest;
use bundle::limits;
use bytes::Bytes;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use http_body_util::Empty;
use http_body_util::Full;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Conditions;
use super::Content;
use super::ImageSource;
use super::Repository;
use super::embedded::Access;
use super::embedded::Link;
use super::name::is_tag;
use super::range::Wanted;
use super::range::parse_range;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Connections at once: containerd opens a handful for each image; the rest waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// What the token endpoint hands out; the embedded registry guards nothing but a test's expectations.
const TOKEN: &str = "sealift-embedded";

/// The distribution endpoint over one source of images.
#[derive(Clone)]
pub struct Endpoint {
    source: Arc<dyn ImageSource>,
    latency: Duration,
    link: Option<Arc<Link>>,
    access: Access,
    realm: String,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Endpoint")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Serves a source to anybody who can reach the listener.
    pub fn new(source: Arc<dyn ImageSource>) -> Self {
        Self {
            source,
            latency: Duration::ZERO,
            link: None,
            access: Access::Open,
            realm: String::new(),
        }
    }

    /// Puts a link and a door in front.
    pub(super) fn under(self, conditions: Conditions, address: SocketAddr) -> Self {
        Self {
            latency: conditions.latency,
            link: conditions
                .bytes_per_second
                .map(|rate| Arc::new(Link::new(rate))),
            access: conditions.access,
            realm: format!("http://{address}/token"),
            ..self
        }
    }

    /// Answers one request.
    async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
        let mut response = match self.route(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
        response.headers_mut().insert(
            "docker-distribution-api-version",
            HeaderValue::from_static("registry/2.0"),
        );
        response
    }

    async fn route<B>(&self, request: &Request<B>) -> Result<Response<Body>, Refusal> {
        let head = match *request.method() {
            Method::GET => false,
            Method::HEAD => true,
            _ => {
                return Err(Refusal::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "UNSUPPORTED",
                    "this endpoint is read-only",
                ));
            }
        };
        let path = request.uri().path();
        let authorization = header_text(request, header::AUTHORIZATION);
        if path == "/token" {
            return self.token(authorization);
        }
        self.admit(authorization)?;
        if path == "/v2/" || path == "/v2" {
            return Ok(json(StatusCode::OK, "{}"));
        }
        let asked = Asked::parse(path, request.uri().query().unwrap_or_default())?;
        let range = header_text(request, header::RANGE).map(str::to_owned);
        let endpoint = self.clone();
        // Looking up and opening may touch the disk.
        tokio::task::spawn_blocking(move || endpoint.find(asked, head, range.as_deref()))
            .await
            .unwrap_or_else(|_panicked| Err(Refusal::broken()))
    }

    fn find(
        &self,
        asked: Asked,
        head: bool,
        range: Option<&str>,
    ) -> Result<Response<Body>, Refusal> {
        let Asked { repository, what } = asked;
        match what {
            What::Tags { after, count } => {
                let tags = self
                    .source
                    .tags(&repository)?
                    .ok_or_else(|| Refusal::unknown("NAME_UNKNOWN", &repository))?;
                Ok(tags_list(&repository, tags, &after, count))
            }
            What::Tag(tag) => {
                let digest = self.source.resolve(&repository, &tag)?.ok_or_else(|| {
                    Refusal::unknown("MANIFEST_UNKNOWN", &format!("{repository}:{tag}"))
                })?;
                self.manifest(&repository, &digest, head)
            }
            What::Manifest(digest) => self.manifest(&repository, &digest, head),
            What::Blob(digest) => {
                let content = self.open(&repository, &digest, "BLOB_UNKNOWN")?;
                Ok(self.blob(content, &digest, head, range))
            }
        }
    }

    fn open(
        &self,
        repository: &Repository,
        digest: &Digest,
        code: &'static str,
    ) -> Result<Content, Refusal> {
        self.source
            .open(repository, digest)?
            .ok_or_else(|| Refusal::unknown(code, &format!("{repository}@{digest}")))
    }

    fn manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        head: bool,
    ) -> Result<Response<Body>, Refusal> {
        let unknown = || Refusal::unknown("MANIFEST_UNKNOWN", &format!("{repository}@{digest}"));
        let bytes = self
            .open(repository, digest, "MANIFEST_UNKNOWN")?
            .read_small(limits::MANIFEST_BYTES_MAX)?
            .ok_or_else(unknown)?;
        let media_type = media_type_of(&bytes).ok_or_else(unknown)?;
        if let Some(link) = &self.link {
            link.pass(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        let response = described(digest)
            .header(header::CONTENT_TYPE, media_type)
            .header(header::CONTENT_LENGTH, bytes.len());
        Ok(finish(response, if head { empty() } else { full(bytes) }))
    }

    fn blob(
        &self,
        content: Content,
        digest: &Digest,
        head: bool,
        range: Option<&str>,
    ) -> Response<Body> {
        let size = content.size;
        let response = described(digest)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::ACCEPT_RANGES, "bytes");
        let (response, part) = match parse_range(range, size) {
            Wanted::Whole => (response, 0..size),
            Wanted::Part(part) => {
                let range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
                (
                    response
                        .status(StatusCode::PARTIAL_CONTENT)
                        .header(header::CONTENT_RANGE, range),
                    part,
                )
            }
            Wanted::Nothing => {
                let response = response
                    .status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .header(header::CONTENT_RANGE, format!("bytes */{size}"));
                return finish(response, empty());
            }
        };
        let response = response.header(header::CONTENT_LENGTH, part.end.saturating_sub(part.start));
        let body = if head {
            empty()
        } else {
            content.stream(part, self.link.clone()).boxed_unsync()
        };
        finish(response, body)
    }

    /// Lets a request in, or says how to ask for it.
    fn admit(&self, authorization: Option<&str>) -> Result<(), Refusal> {
        let (wanted, challenge) = match &self.access {
            Access::Open => return Ok(()),
            Access::Basic { user, password } => {
                (basic(user, password), "Basic realm=\"sealift\"".to_owned())
            }
            Access::Bearer { .. } => (
                format!("Bearer {TOKEN}"),
                format!("Bearer realm=\"{}\",service=\"sealift\"", self.realm),
            ),
        };
        if authorization == Some(wanted.as_str()) {
            return Ok(());
        }
        let refusal = Refusal::new(
            StatusCode::UNAUTHORIZED,
            "UNAUTHORIZED",
            "a name and a password are wanted",
        );
        Err(refusal.with_challenge(challenge))
    }

    fn token(&self, authorization: Option<&str>) -> Result<Response<Body>, Refusal> {
        match &self.access {
            Access::Bearer { user, password }
                if authorization == Some(basic(user, password).as_str()) =>
            {
                Ok(json(
                    StatusCode::OK,
                    format!("{{\"token\":\"{TOKEN}\",\"expires_in\":300}}"),
                ))
            }
            Access::Bearer { .. } => Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "name or password are wrong",
            )),
            Access::Open | Access::Basic { .. } => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "UNSUPPORTED",
                "there are no tokens here",
            )),
        }
    }
}

/// Accepts connections and answers them until it is dropped.
pub async fn serve(listener: TcpListener, endpoint: Endpoint) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(slot) = slots.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _client)) => {
                let endpoint = endpoint.clone();
                tokio::spawn(async move {
                    serve_connection(stream, endpoint).await;
                    drop(slot);
                });
            }
            Err(error) => {
                // Out of descriptors: let some connections end before the next try.
                tracing::warn!(%error, "can't accept a connection for images");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, endpoint: Endpoint) {
    // Answers are written whole; waiting for more only delays small ones. Failing to set it costs speed alone.
    let _slower = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let endpoint = endpoint.clone();
        async move { Ok::<_, Infallible>(endpoint.answer::<hyper::body::Incoming>(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for images ended early");
    }
}

/// What a path of the distribution protocol asks for.
struct Asked {
    repository: Repository,
    what: What,
}

enum What {
    Tags { after: String, count: Option<usize> },
    Tag(String),
    Manifest(Digest),
    Blob(Digest),
}

impl Asked {
    /// Reads `/v2/<name>/{manifests,blobs,tags}/<reference>`; the name itself has slashes, so from the right.
    fn parse(path: &str, query: &str) -> Result<Self, Refusal> {
        let no_such_path = || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "UNSUPPORTED",
                "there is nothing at this path",
            )
        };
        let (rest, reference) = path
            .strip_prefix("/v2/")
            .and_then(|rest| rest.rsplit_once('/'))
            .ok_or_else(no_such_path)?;
        let (name, kind) = rest.rsplit_once('/').ok_or_else(no_such_path)?;
        let repository = Repository::parse(name, query_value(query, "ns")).ok_or_else(|| {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "NAME_INVALID",
                "this is no repository name",
            )
        })?;
        let no_digest = || {
            Refusal::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                "this is no sha256 digest",
            )
        };
        let what = match kind {
            "blobs" => What::Blob(reference.parse().map_err(|_not_one| no_digest())?),
            "manifests" if reference.contains(':') => {
                What::Manifest(reference.parse().map_err(|_not_one| no_digest())?)
            }
            "manifests" if is_tag(reference) => What::Tag(reference.to_owned()),
            "manifests" => {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "TAG_INVALID",
                    "this is no tag",
                ));
            }
            "tags" if reference == "list" => What::Tags {
                after: query_value(query, "last").unwrap_or_default().to_owned(),
                count: query_value(query, "n").and_then(|text| text.parse().ok()),
            },
            _ => return Err(no_such_path()),
        };
        Ok(Self { repository, what })
    }
}

/// A value of a query whose values need no decoding: hosts, tags and numbers are all plain.
fn query_value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// An answer of the protocol's error form (distribution-spec, "Error Codes").
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    challenge: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            challenge: None,
        }
    }

    fn unknown(code: &'static str, what: &dyn std::fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            code,
            format!("{what} is not in this store"),
        )
    }

    fn broken() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "UNKNOWN",
            "the store can't be read",
        )
    }

    fn with_challenge(self, challenge: String) -> Self {
        Self {
            challenge: Some(challenge),
            ..self
        }
    }

    fn into_response(self) -> Response<Body> {
        let body = serde_json::json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = json(self.status, body.to_string());
        if let Some(challenge) = self
            .challenge
            .and_then(|text| HeaderValue::from_str(&text).ok())
        {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        tracing::warn!(%error, "an image can't be read");
        Self::broken()
    }
}

fn tags_list(
    repository: &Repository,
    tags: Vec<String>,
    after: &str,
    count: Option<usize>,
) -> Response<Body> {
    let mut left = tags.into_iter().filter(|tag| tag.as_str() > after);
    let listed: Vec<String> = left.by_ref().take(count.unwrap_or(usize::MAX)).collect();
    let more = listed.last().filter(|_| left.next().is_some()).cloned();
    let name = repository.to_string();
    let mut response = json(
        StatusCode::OK,
        serde_json::json!({"name": name, "tags": listed}).to_string(),
    );
    if let (Some(last), Some(count)) = (more, count) {
        let link = format!("</v2/{name}/tags/list?n={count}&last={last}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// The media type that a manifest or index says it has, or has by its shape (image-spec `manifest.md`, `image-index.md`).
fn media_type_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Shape {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        config: Option<serde::de::IgnoredAny>,
    }
    let shape: Shape = serde_json::from_slice(bytes).ok()?;
    match (shape.media_type, shape.manifests, shape.config) {
        (Some(media_type), Some(_), _) | (Some(media_type), _, Some(_)) => Some(media_type),
        (None, Some(_), _) => Some("application/vnd.oci.image.index.v1+json".to_owned()),
        (None, None, Some(_)) => Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
        (_, None, None) => None,
    }
}

fn described(digest: &Digest) -> http::response::Builder {
    Response::builder()
        .header("docker-content-digest", digest.to_string())
        .header(header::ETAG, format!("\"{digest}\""))
}

fn json(status: StatusCode, text: impl Into<Vec<u8>>) -> Response<Body> {
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json");
    finish(response, full(text.into()))
}

/// Ends a response; header values made of untrusted text that HTTP can't carry become a plain 500.
fn finish(response: http::response::Builder, body: Body) -> Response<Body> {
    response.body(body).unwrap_or_else(|_bad_header| {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn header_text<B>(request: &Request<B>, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {both}")
}
