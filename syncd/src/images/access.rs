//! Who may pull from an embedded registry: the two ways of asking for a name and a password.

use std::net::SocketAddr;

use http::Response;
use http::StatusCode;

use super::refusal::Body;
use super::refusal::Refusal;
use super::refusal::json;

/// What the token endpoint hands out; an embedded registry guards nothing but a test's expectations.
const TOKEN: &str = "sealift-embedded";

/// Who may pull.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    #[default]
    Open,
    /// Whoever sends this name and password with every request (RFC 7617).
    Basic {
        /// The name.
        user: String,
        /// Its password.
        password: String,
    },
    /// Whoever fetches a token at `/token` with this name and password (distribution `spec/auth/token.md`).
    Bearer {
        /// The name.
        user: String,
        /// Its password.
        password: String,
    },
}

/// Checks every request of an endpoint.
#[derive(Clone, Debug, Default)]
pub(super) struct Door {
    access: Access,
    realm: String,
}

impl Door {
    /// Guards an endpoint that hands out its own tokens.
    pub(super) fn new(access: Access, address: SocketAddr) -> Self {
        Self {
            access,
            realm: format!("http://{address}/token"),
        }
    }

    /// Lets a request in, or says how to ask for it.
    pub(super) fn admit(&self, authorization: Option<&str>) -> Result<(), Refusal> {
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

    pub(super) fn token(&self, authorization: Option<&str>) -> Result<Response<Body>, Refusal> {
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

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    let both = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {both}")
}
