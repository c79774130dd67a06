//! From a request to an answer of the distribution protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bundle::Digest;
use bundle::limits;
use http::HeaderValue;
use http::Method;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header;
use http_body_util::BodyExt;
use serde::Deserialize;

use super::Conditions;
use super::Content;
use super::ImageSource;
use super::Repository;
use super::access::Door;
use super::asked::Asked;
use super::asked::What;
use super::embedded::Link;
use super::range::Wanted;
use super::range::parse_range;
use super::refusal::Body;
use super::refusal::Refusal;
use super::refusal::empty;
use super::refusal::finish;
use super::refusal::full;
use super::refusal::json;

/// The distribution endpoint over one source of images.
#[derive(Clone)]
pub struct Endpoint {
    source: Arc<dyn ImageSource>,
    latency: Duration,
    link: Option<Arc<Link>>,
    door: Door,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Endpoint")
            .field("door", &self.door)
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
            door: Door::default(),
        }
    }

    /// Puts a link and a door in front.
    pub(super) fn under(self, conditions: Conditions, address: SocketAddr) -> Self {
        Self {
            latency: conditions.latency,
            link: conditions
                .bytes_per_second
                .map(|rate| Arc::new(Link::new(rate))),
            door: Door::new(conditions.access, address),
            ..self
        }
    }

    /// Answers one request.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
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
                return Err(Refusal::read_only());
            }
        };
        let path = request.uri().path();
        let authorization = header_text(request, header::AUTHORIZATION);
        if path == "/token" {
            return self.door.token(authorization);
        }
        self.door.admit(authorization)?;
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

fn header_text<B>(request: &Request<B>, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}
