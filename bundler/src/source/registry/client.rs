//! One registry, as a client of the OCI distribution specification sees it: requests, redirects, tries.
//!
//! A request is tried again after failures of the network and after 408, 429 and 5xx, and waits as long as the registry
//! asks for. `Authorization` goes to the registry itself and to nobody that it redirects to.

use std::collections::BTreeSet;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::ACCEPT_ENCODING;
use reqwest::header::AUTHORIZATION;
use reqwest::header::DATE;
use reqwest::header::HeaderMap;
use reqwest::header::LOCATION;
use reqwest::header::RANGE;
use reqwest::header::RETRY_AFTER;
use reqwest::header::WWW_AUTHENTICATE;

use super::CredentialStore;
use super::RegistryOptions;
use super::auth::Asking;
use super::auth::Auth;
use super::challenge::Challenge;
use super::retry::parse_retry_after;
use super::retry::wait_before;
use super::target::Resolver;
use super::target::Rules;
use super::target::authority;
use crate::source::SourceError;

/// As curl's default for browsers; registries need one or two.
const REDIRECTS_MAX: usize = 5;

/// What an error's body may have before it is cut.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What of it is shown.
const MESSAGE_SHOWN_MAX: usize = 300;

/// The registry of Docker Hub is not at the name that its images have.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// A registry that can be asked.
#[derive(Debug)]
pub(crate) struct Client {
    /// The registry as images name it.
    pub(super) place: String,
    base: Url,
    http: reqwest::Client,
    rules: Rules,
    auth: Auth,
    pub(super) options: Arc<RegistryOptions>,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    /// The repository that it is about.
    pub(super) repository: &'a str,
    /// The rest of its path, as `blobs/sha256:…`.
    pub(super) path: &'a str,
    /// Media types to take.
    pub(super) accept: Option<&'a str>,
    /// The byte to begin at.
    pub(super) from: u64,
    /// What it fetches, as messages say it.
    pub(super) what: &'a str,
}

/// Why a try failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Another try may do better.
    Again(Again),
    /// No try will.
    For(SourceError),
}

/// A failure that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) reason: String,
    /// How long the registry asks us to wait.
    pub(super) wait: Option<Duration>,
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::For(error)
    }
}

impl Client {
    /// Prepares to ask the registry `place`, as images name it. Sends nothing yet.
    pub(crate) async fn new(
        place: &str,
        options: Arc<RegistryOptions>,
    ) -> Result<Self, SourceError> {
        let host = if place == HUB.0 { HUB.1 } else { place };
        let is_plain = options.insecure.contains(place);
        let scheme = if is_plain { "http" } else { "https" };
        let no_address = |_not| SourceError::NotFound {
            what: "a registry".to_owned(),
            place: place.to_owned(),
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/")).map_err(no_address)?;
        let with_port = |scheme: &str, hosts: &BTreeSet<String>| -> BTreeSet<String> {
            let urls = hosts
                .iter()
                .filter_map(|host| Url::parse(&format!("{scheme}://{host}/")).ok());
            urls.map(|url| authority(&url)).collect()
        };
        let plain = with_port("http", &options.insecure);
        let mut listed = with_port("https", &options.listed);
        listed.extend(plain.iter().cloned());
        let rules = Rules::of(&base, listed, plain).await;
        let credential = find_credential(options.credentials.clone(), place.to_owned()).await?;
        Ok(Self {
            place: place.to_owned(),
            base,
            http: http_client(&rules, &options)?,
            rules,
            auth: Auth::new(credential),
            options,
        })
    }

    /// The registry as images name it.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Runs `attempt` until it succeeds, fails for good, or has failed too often.
    pub(super) async fn with_tries<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, Failed>,
    ) -> Result<T, SourceError> {
        let mut tries = 1;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Again(again)) => self.wait(what, &mut tries, again).await?,
            }
        }
    }

    /// Waits before the next try; an error when there is none.
    pub(super) async fn wait(
        &self,
        what: &str,
        tries: &mut u32,
        again: Again,
    ) -> Result<(), SourceError> {
        let next = *tries + 1;
        let wait = wait_before(next, again.wait).filter(|_| next <= self.options.tries_max);
        let Some(wait) = wait else {
            return Err(SourceError::Network {
                what: what.to_owned(),
                place: self.place.clone(),
                reason: again.reason,
                tries: *tries,
            });
        };
        tracing::debug!(
            what,
            place = self.place,
            reason = again.reason,
            ?wait,
            "tries again"
        );
        *tries = next;
        self.options.pause.pause(wait).await;
        Ok(())
    }

    /// Sends one request, past one 401 and some redirects. The answer is 200, 206 or 416.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response, Failed> {
        let scope = format!("repository:{}:pull", call.repository);
        let url = format!("{}{}/{}", self.base, call.repository, call.path);
        let url = Url::parse(&url).map_err(|_not| self.not_found(call))?;
        let mut response = self.send_following(call, url.clone(), &scope).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && authority(response.url()) == authority(&self.base)
        {
            let asking = Asking {
                place: &self.place,
                what: call.what,
                scope: &scope,
            };
            let challenges = challenges(response.headers());
            self.auth
                .answer(&self.http, &self.rules, asking, &challenges)
                .await?;
            response = self.send_following(call, url, &scope).await?;
        }
        self.judge(call, response).await
    }

    /// Sends one request and follows redirects; `Authorization` only ever goes to the registry itself.
    async fn send_following(
        &self,
        call: &Call<'_>,
        mut url: Url,
        scope: &str,
    ) -> Result<Response, Failed> {
        for _hop in 0..=REDIRECTS_MAX {
            let mut request = self
                .http
                .get(url.clone())
                .header(ACCEPT_ENCODING, "identity");
            if let Some(accept) = call.accept {
                request = request.header(ACCEPT, accept);
            }
            if call.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", call.from));
            }
            let is_own =
                url.scheme() == self.base.scheme() && authority(&url) == authority(&self.base);
            if let Some(header) = self.auth.header(scope).filter(|_| is_own) {
                request = request.header(AUTHORIZATION, header);
            }
            let response = request
                .send()
                .await
                .map_err(|error| Failed::Again(Again::of(&error)))?;
            let redirects = [301, 302, 303, 307, 308].contains(&response.status().as_u16());
            let Some(location) = response.headers().get(LOCATION).filter(|_| redirects) else {
                return Ok(response);
            };
            let location = String::from_utf8_lossy(location.as_bytes());
            let refused = |reason| SourceError::Target {
                place: self.place.clone(),
                target: location.chars().take(200).collect(),
                reason,
            };
            url = url
                .join(&location)
                .map_err(|_not| refused("it is no address"))?;
            self.rules.check(&url).map_err(refused)?;
        }
        Err(Failed::For(SourceError::Target {
            place: self.place.clone(),
            target: url.to_string(),
            reason: "it is one redirect too many",
        }))
    }

    async fn judge(&self, call: &Call<'_>, response: Response) -> Result<Response, Failed> {
        let status = response.status();
        match status.as_u16() {
            200 | 206 | 416 => return Ok(response),
            408 | 429 | 500..=599 => return Err(Failed::Again(Again::of_answer(&response))),
            404 => return Err(Failed::For(self.not_found(call))),
            _other => {}
        }
        let message = message(response).await;
        Err(Failed::For(match status.as_u16() {
            401 | 403 => SourceError::Access {
                what: call.what.to_owned(),
                place: self.place.clone(),
                reason: if message.is_empty() {
                    status.to_string()
                } else {
                    message
                },
            },
            _other => SourceError::Answer {
                what: call.what.to_owned(),
                place: self.place.clone(),
                status: status.to_string(),
                message,
            },
        }))
    }

    fn not_found(&self, call: &Call<'_>) -> SourceError {
        SourceError::NotFound {
            what: call.what.to_owned(),
            place: self.place.clone(),
        }
    }
}

impl Again {
    /// A failure below HTTP.
    pub(super) fn of(error: &reqwest::Error) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(below) = cause {
            reason = below.to_string();
            cause = below.source();
        }
        Self { reason, wait: None }
    }

    /// An answer that asks for patience.
    pub(super) fn of_answer(response: &Response) -> Self {
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        Self {
            reason: format!("it answered {}", response.status()),
            wait: text(RETRY_AFTER).and_then(|value| parse_retry_after(value, text(DATE))),
        }
    }

    /// A failure in our own words.
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            wait: None,
        }
    }
}

/// Reads a whole body of at most `bytes_max`.
pub(super) async fn read_capped(
    mut response: Response,
    bytes_max: usize,
    what: &str,
    place: &str,
) -> Result<Bytes, Failed> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Failed::Again(Again::of(&error)))?
    {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(Failed::For(SourceError::TooLarge {
                what: what.to_owned(),
                place: place.to_owned(),
                limit: format!("{bytes_max} bytes"),
            }));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let texts = headers
        .get_all(WWW_AUTHENTICATE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    texts.flat_map(Challenge::parse_all).collect()
}

/// What the registry says about its refusal, best as it can be had (distribution-spec "error codes").
async fn message(response: Response) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(body) = read_capped(response, MESSAGE_BYTES_MAX, "", "").await else {
        return String::new();
    };
    let text = match serde_json::from_slice::<Body>(&body) {
        Ok(Body { errors }) => {
            let lines = errors
                .iter()
                .map(|it| format!("{} {}", it.code, it.message).trim().to_owned());
            lines.collect::<Vec<_>>().join("; ")
        }
        Err(_no_errors) => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    text.chars().take(MESSAGE_SHOWN_MAX).collect()
}

async fn find_credential(
    store: CredentialStore,
    place: String,
) -> Result<Option<super::credentials::Credential>, SourceError> {
    let from = place.clone();
    // A helper may take its time.
    let found = tokio::task::spawn_blocking(move || store.find(&place)).await;
    found.unwrap_or_else(|error| {
        Err(SourceError::Credentials {
            place: from,
            from: "the credential store".to_owned(),
            reason: error.to_string(),
        })
    })
}

fn http_client(rules: &Rules, options: &RegistryOptions) -> Result<reqwest::Client, SourceError> {
    // The one provider that is compiled in; a second call finds it there already, which is as good.
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let build = || {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("sealift-bundler/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(options.stall_max)
            .read_timeout(options.stall_max)
            .dns_resolver(Resolver::of(rules));
        if !options.use_proxies {
            builder = builder.no_proxy();
        }
        builder
    };
    // A machine without any certificate can still speak to a registry without TLS.
    let client = build()
        .build()
        .or_else(|_no_roots| build().tls_certs_only([]).build());
    client.map_err(|error| SourceError::Network {
        what: "anything".to_owned(),
        place: "a registry".to_owned(),
        reason: Again::of(&error).reason,
        tries: 0,
    })
}
