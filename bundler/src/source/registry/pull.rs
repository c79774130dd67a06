//! Pulling: documents whole, blobs as a stream into the cache.
//!
//! A blob goes on where it stopped, and only on a true answer:
//!
//! | answer to `Range: bytes=N-` | what is done |
//! |---|---|
//! | 206, `Content-Range` begins at N and ends at the blob's end | appended |
//! | 206 with any other range | not a byte is taken; the blob is fetched from 0 without `Range` |
//! | 200 | what was there is thrown away, the body is the blob |
//! | 416 | what was there is thrown away, fetched from 0 |
//!
//! More bytes than the descriptor says, at any time, end it. A wrong digest ends it as well, unless some of the bytes
//! came from another run or by resuming: then all of it is fetched once more.

use bundle::Digest;
use bundle::limits;
use bytes::Bytes;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;
use reqwest::header::CONTENT_LENGTH;
use reqwest::header::CONTENT_RANGE;
use reqwest::header::CONTENT_TYPE;

use super::client::Again;
use super::client::Call;
use super::client::Client;
use super::client::Failed;
use super::client::read_capped;
use crate::cache::CachedBlob;
use crate::cache::Intake;
use crate::cache::Partial;
use crate::cache::Published;
use crate::source::SourceError;
use crate::source::document::DOCUMENT_TYPES;

/// So much more makes a try count as a success, however it ended: a slow line with cuts still gets there.
const PROGRESS_BYTES: u64 = 1 << 20;

/// A document as a registry gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pulled {
    /// The bytes, whose digest is right when one was asked for.
    pub(crate) bytes: Bytes,
    /// What the registry calls them.
    pub(crate) content_type: Option<String>,
}

/// What happens to a blob under way, for whoever shows progress.
pub(crate) trait Progress: Sync {
    /// So many bytes came.
    fn received(&self, bytes: u64);
    /// So many bytes that had come count no longer.
    fn lost(&self, bytes: u64);
}

/// How one try at a blob ended.
enum End {
    /// All bytes are there.
    Whole,
    /// Some are; ask for the rest.
    Cut(Again),
    /// The answer can't be used with what is there; ask for all, without a range.
    NoRange(Again),
}

impl Client {
    /// Pulls a manifest or an index by tag or by digest.
    pub(crate) async fn pull_document(
        &self,
        repository: &str,
        reference: &str,
        what: &str,
    ) -> Result<Pulled, SourceError> {
        let accept = DOCUMENT_TYPES.join(", ");
        let path = format!("manifests/{reference}");
        let call = Call {
            repository,
            path: &path,
            accept: Some(&accept),
            from: 0,
            what,
        };
        let pulled = self
            .with_tries(what, async || self.document_once(&call).await)
            .await?;
        let expected = match reference.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(_a_tag) => pulled.said_digest,
        };
        let actual = Digest::of(&pulled.document.bytes);
        match expected {
            Some(expected) if expected != actual => Err(SourceError::Digest {
                what: what.to_owned(),
                place: self.place.clone(),
                expected,
                actual,
            }),
            Some(_) | None => Ok(pulled.document),
        }
    }

    async fn document_once(&self, call: &Call<'_>) -> Result<Answer, Failed> {
        let response = self.send(call).await?;
        if response.status().as_u16() != 200 {
            return Err(Failed::For(
                self.odd(call, &format!("status {}", response.status())),
            ));
        }
        let text = |name: &str| {
            let value = response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let content_type = text(CONTENT_TYPE.as_str());
        let said_digest = text("docker-content-digest").and_then(|digest| digest.parse().ok());
        let bytes =
            read_capped(response, limits::MANIFEST_BYTES_MAX, call.what, &self.place).await?;
        Ok(Answer {
            document: Pulled {
                bytes,
                content_type: content_type
                    .map(|it| it.split(';').next().unwrap_or_default().trim().to_owned()),
            },
            said_digest,
        })
    }

    /// Pulls a blob into the cache, on from where `partial` is.
    pub(crate) async fn pull_blob(
        &self,
        repository: &str,
        digest: &Digest,
        mut partial: Partial,
        progress: &dyn Progress,
    ) -> Result<CachedBlob, SourceError> {
        let what = format!("blob {digest}");
        let path = format!("blobs/{digest}");
        let mut tries = 1;
        let mut may_be_ours = partial.is_of_another_run();
        let mut use_range = true;
        loop {
            let before = partial.length();
            let call = Call {
                repository,
                path: &path,
                accept: None,
                from: if use_range { before } else { 0 },
                what: &what,
            };
            let (back, end) = self.blob_once(&call, partial, progress).await?;
            partial = back;
            let again = match end {
                End::Whole => match self
                    .publish(partial, &what, digest, may_be_ours, progress)
                    .await?
                {
                    Ok(blob) => return Ok(blob),
                    Err(empty) => {
                        (partial, may_be_ours) = (empty, false);
                        Again::because("what was resumed has another digest")
                    }
                },
                End::Cut(again) => {
                    may_be_ours |= partial.length() > 0;
                    if partial.length() >= before.saturating_add(PROGRESS_BYTES) {
                        tries = 0;
                    }
                    again
                }
                End::NoRange(again) => {
                    use_range = false;
                    partial = restart(partial, progress).await?;
                    may_be_ours = false;
                    again
                }
            };
            self.wait(&what, &mut tries, again).await?;
        }
    }

    /// One request for the rest of a blob.
    async fn blob_once(
        &self,
        call: &Call<'_>,
        mut partial: Partial,
        progress: &dyn Progress,
    ) -> Result<(Partial, End), SourceError> {
        if partial.length() == partial.size() {
            return Ok((partial, End::Whole));
        }
        if call.from == 0 && partial.length() > 0 {
            partial = restart(partial, progress).await?;
        }
        let response = match self.send(call).await {
            Ok(response) => response,
            Err(Failed::Again(again)) => return Ok((partial, End::Cut(again))),
            Err(Failed::For(error)) => return Err(error),
        };
        match response.status().as_u16() {
            206 if call.from > 0 => {
                if let Err(reason) = check_range(&response, call.from, partial.size()) {
                    return Ok((partial, End::NoRange(Again::because(reason))));
                }
            }
            200 if partial.length() > 0 => partial = restart(partial, progress).await?,
            200 => {}
            416 if call.from > 0 => {
                return Ok((
                    partial,
                    End::NoRange(Again::because("it does not know the range")),
                ));
            }
            odd => return Err(self.odd(call, &format!("status {odd}"))),
        }
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(self.odd(call, &format!("content encoding {encoding:?}")));
        }
        self.stream(call, response, partial, progress).await
    }

    async fn stream(
        &self,
        call: &Call<'_>,
        mut response: Response,
        partial: Partial,
        progress: &dyn Progress,
    ) -> Result<(Partial, End), SourceError> {
        let size = partial.size();
        let mut rest = size - partial.length();
        if let Some(actual) = length(&response).filter(|length| *length != rest) {
            let actual = (size - rest).saturating_add(actual);
            return Err(self.wrong_size(call, partial, actual).await);
        }
        let intake = Intake::start(partial);
        let end = loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if rest == 0 => break End::Whole,
                Ok(None) => break End::Cut(Again::because("the answer ended early")),
                Err(_after_all) if rest == 0 => break End::Whole,
                Err(error) => break End::Cut(Again::of(&error)),
            };
            let count = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            if count > rest {
                let actual = (size - rest).saturating_add(count);
                let partial = intake.finish().await?;
                return Err(self.wrong_size(call, partial, actual).await);
            }
            rest -= count;
            if !intake.send(chunk).await {
                break End::Cut(Again::because("the cache can't be written"));
            }
            progress.received(count);
        };
        Ok((intake.finish().await?, end))
    }

    /// Publishes; gives the emptied partial back when its bytes were wrong and may have been so without a lie.
    async fn publish(
        &self,
        partial: Partial,
        what: &str,
        expected: &Digest,
        may_be_ours: bool,
        progress: &dyn Progress,
    ) -> Result<Result<CachedBlob, Partial>, SourceError> {
        let size = partial.size();
        let published = crate::cache::blocking(move || partial.publish()).await?;
        match published {
            Published::Right(blob) => Ok(Ok(blob)),
            Published::Wrong { partial, .. } if may_be_ours => {
                progress.lost(size);
                Ok(Err(partial))
            }
            Published::Wrong { actual, partial } => {
                crate::cache::blocking(move || partial.discard()).await?;
                Err(SourceError::Digest {
                    what: what.to_owned(),
                    place: self.place.clone(),
                    expected: *expected,
                    actual,
                })
            }
        }
    }

    async fn wrong_size(&self, call: &Call<'_>, partial: Partial, actual: u64) -> SourceError {
        let expected = partial.size();
        if let Err(error) = crate::cache::blocking(move || partial.discard()).await {
            return error.into();
        }
        SourceError::Size {
            what: call.what.to_owned(),
            place: self.place.clone(),
            expected,
            actual,
        }
    }

    fn odd(&self, call: &Call<'_>, status: &str) -> SourceError {
        SourceError::Answer {
            what: call.what.to_owned(),
            place: self.place.clone(),
            status: status.to_owned(),
            message: String::new(),
        }
    }
}

struct Answer {
    document: Pulled,
    said_digest: Option<Digest>,
}

async fn restart(mut partial: Partial, progress: &dyn Progress) -> Result<Partial, SourceError> {
    progress.lost(partial.length());
    let restarted = crate::cache::blocking(move || partial.restart().map(|()| partial)).await?;
    Ok(restarted)
}

fn length(response: &Response) -> Option<u64> {
    response
        .headers()
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Holds `Content-Range` (RFC 9110 section 14.4) against what was asked for.
fn check_range(response: &Response, from: u64, size: u64) -> Result<(), String> {
    let value = response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok());
    let value = value.ok_or("its answer names no range")?;
    let wanted = format!("bytes {from}-{}/", size - 1);
    match value.strip_prefix(&wanted) {
        Some(total) if total == "*" || total.parse() == Ok(size) => Ok(()),
        _other => Err(format!(
            "its answer has the range {value:?}, asked was {wanted}{size}"
        )),
    }
}
