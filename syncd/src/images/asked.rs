//! Which object of the protocol a request's path and query name.

use bundle::Digest;
use http::StatusCode;

use super::Repository;
use super::name::is_tag;
use super::refusal::Refusal;

/// What a path of the distribution protocol asks for.
pub(super) struct Asked {
    pub(super) repository: Repository,
    pub(super) what: What,
}

pub(super) enum What {
    Tags { after: String, count: Option<usize> },
    Tag(String),
    Manifest(Digest),
    Blob(Digest),
}

impl Asked {
    /// Reads `/v2/<name>/{manifests,blobs,tags}/<reference>`; the name itself has slashes, so from the right.
    pub(super) fn parse(path: &str, query: &str) -> Result<Self, Refusal> {
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
