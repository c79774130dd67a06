//! Getting past a 401: Basic, or a Bearer token (distribution-spec "token authentication", OAuth 2 refresh).
//!
//! 1. The first request goes out bare.
//! 2. Its 401 names the ways in.
//! 3. Bearer: a token is asked for at `realm`, which has passed [`Rules`]. Basic: the credential itself.
//! 4. The request is sent once more; a second 401 ends it.
//!
//! A credential is shown to the registry that it was stored for and to the realm that this registry names, to nobody
//! else. Tokens are kept for a scope until the registry refuses them: no clock is needed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::challenge::Challenge;
use super::client::Again;
use super::client::Failed;
use super::client::read_capped;
use super::credentials::Credential;
use super::target::Rules;
use crate::source::SourceError;
use crate::source::document::parse_object;

/// What a token server may send (as Podman's own limit).
const TOKEN_BYTES_MAX: usize = 1 << 20;

/// What a header can carry of it.
const TOKEN_HEADER_BYTES_MAX: usize = 64 << 10;

/// What one registry was shown and has given so far.
#[derive(Debug, Default)]
pub(super) struct Auth {
    credential: Option<Credential>,
    given: Mutex<BTreeMap<String, HeaderValue>>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// For whom a way in is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    /// The registry, as messages say it.
    pub(super) place: &'a str,
    /// What is fetched.
    pub(super) what: &'a str,
    /// What the token has to allow, `repository:NAME:pull`.
    pub(super) scope: &'a str,
}

impl Auth {
    pub(super) fn new(credential: Option<Credential>) -> Self {
        Self {
            credential,
            given: Mutex::default(),
        }
    }

    /// The `Authorization` to send with requests of `scope`, as far as it is known.
    pub(super) fn header(&self, scope: &str) -> Option<HeaderValue> {
        self.given().get(scope).cloned()
    }

    /// Gets what the 401 wants, to be sent with the next try.
    pub(super) async fn answer(
        &self,
        http: &reqwest::Client,
        rules: &Rules,
        asking: Asking<'_>,
        challenges: &[Challenge],
    ) -> Result<(), Failed> {
        let refused = |reason: &str| {
            Failed::For(SourceError::Access {
                what: asking.what.to_owned(),
                place: asking.place.to_owned(),
                reason: reason.to_owned(),
            })
        };
        let is_bearer = |it: &&Challenge| matches!(it, Challenge::Bearer { .. });
        let header = match challenges.iter().find(is_bearer).or(challenges.first()) {
            Some(Challenge::Bearer {
                realm,
                service,
                scope,
            }) => {
                let scope = scope.as_deref().unwrap_or(asking.scope);
                let realm = self.realm(rules, asking, realm, service.as_deref(), scope)?;
                self.fetch_token(http, asking, realm).await?
            }
            Some(Challenge::Basic) => match &self.credential {
                Some(Credential::Password { name, password }) => basic(name, password),
                Some(Credential::Identity(_)) => {
                    return Err(refused("it wants a password, and a token is all there is"));
                }
                None => return Err(refused("it wants a login")),
            },
            None => return Err(refused("it names no way to log in that is known")),
        };
        let header = header.ok_or_else(|| refused("its token can't be sent"))?;
        self.given().insert(asking.scope.to_owned(), header);
        Ok(())
    }

    /// Judges the realm and adds what is asked of it.
    fn realm(
        &self,
        rules: &Rules,
        asking: Asking<'_>,
        realm: &str,
        service: Option<&str>,
        scope: &str,
    ) -> Result<Url, Failed> {
        let refused = |reason: &'static str| {
            Failed::For(SourceError::Target {
                place: asking.place.to_owned(),
                target: realm.chars().take(200).collect(),
                reason,
            })
        };
        let mut url = Url::parse(realm).map_err(|_not| refused("it is no address"))?;
        rules.check(&url).map_err(refused)?;
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope);
        if let Some(Credential::Password { name, .. }) = &self.credential {
            query.append_pair("account", name);
        }
        drop(query);
        Ok(url)
    }

    async fn fetch_token(
        &self,
        http: &reqwest::Client,
        asking: Asking<'_>,
        realm: Url,
    ) -> Result<Option<HeaderValue>, Failed> {
        let request = match &self.credential {
            Some(Credential::Identity(token)) => refresh(http, &realm, token),
            Some(Credential::Password { name, password }) => match basic(name, password) {
                Some(header) => http.get(realm.clone()).header(AUTHORIZATION, header),
                None => http.get(realm.clone()),
            },
            None => http.get(realm.clone()),
        };
        let place = super::target::authority(&realm);
        let response = request
            .send()
            .await
            .map_err(|error| Failed::Again(Again::of(&error)))?;
        let status = response.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(Failed::Again(Again::of_answer(&response)));
        }
        if !status.is_success() {
            return Err(Failed::For(SourceError::Access {
                what: asking.what.to_owned(),
                place: asking.place.to_owned(),
                reason: format!("{place} gives no token, it answered {status}"),
            }));
        }
        let body = read_capped(response, TOKEN_BYTES_MAX, "the token", &place).await?;
        let answer: Answer = parse_object(&body).map_err(|reason| {
            Failed::For(SourceError::Document {
                what: "the token".to_owned(),
                place: place.clone(),
                reason,
            })
        })?;
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty());
        Ok(token.and_then(|token| secret(&format!("Bearer {token}"))))
    }

    fn given(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, HeaderValue>> {
        // A panic elsewhere leaves a whole map behind.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An OAuth 2 request with a refresh token (RFC 6749 section 6): what the realm was to be asked goes into the body.
fn refresh(http: &reqwest::Client, realm: &Url, token: &str) -> reqwest::RequestBuilder {
    let mut form = realm.clone();
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", "sealift")
        .append_pair("refresh_token", token);
    let body = form.query().unwrap_or_default().to_owned();
    let mut bare = realm.clone();
    bare.set_query(None);
    http.post(bare)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body)
}

fn basic(name: &str, password: &str) -> Option<HeaderValue> {
    secret(&format!(
        "Basic {}",
        STANDARD.encode(format!("{name}:{password}"))
    ))
}

fn secret(text: &str) -> Option<HeaderValue> {
    if text.len() > TOKEN_HEADER_BYTES_MAX {
        return None;
    }
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
