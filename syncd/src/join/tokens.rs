//! Join tokens: made for a script, kept as nothing but their SHA-256, checked for every request.
//!
//! `<id>.<secret>`: 8 letters that name it, 64 hexadecimal digits that prove it. Kubernetes keeps, in the Secret
//! `sealift-join-token-<id>`, the SHA-256 of the secret, the role and the end; what leaks there opens nothing.
//!
//! Attacks it answers: guessing (256 bits, and the door counts failures); comparing by time (digests are compared, in
//! constant time); a token that has ended or was revoked (the end is held against the API server's clock, and nothing is
//! believed from memory for longer than [`REMEMBERED`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use api::join::Role;
use api::join::TokenLine;
use bundle::Digest;
use bundle::timestamp::Timestamp;

use super::credentials::letters;
use super::fault::JoinError;
use super::plane::Plane;
use crate::kubernetes::Kubernetes;
use crate::kubernetes::Secret;
use crate::kubernetes::secret;
use crate::kubernetes::secrets;

const PREFIX: &str = "sealift-join-token-";
const LABEL: &str = "sealift.io/join-token";
const TYPE: &str = "sealift.io/join-token";
const ID_LETTERS: usize = 8;

/// The longest that a token may last, seconds: a month.
const TTL_S_MAX: u64 = 31 * 24 * 60 * 60;

/// The shortest: a minute, to paste it.
const TTL_S_MIN: u64 = 60;

/// How long a token is believed without asking again: a machine fetches thousands of blobs.
const REMEMBERED: Duration = Duration::from_secs(15);

/// How long it is believed while the API gives no answer: a lost master is no reason to stop a transfer.
const REMEMBERED_IN_SILENCE: Duration = Duration::from_mins(5);

/// Tokens that are remembered; more only means more questions.
const REMEMBERED_MAX: usize = 1024;

/// The tokens of the site.
#[derive(Debug)]
pub struct Tokens {
    plane: Arc<Plane>,
    known: Mutex<BTreeMap<Digest, Known>>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    role: Role,
    asked: Instant,
}

/// A new token; its text is shown once.
pub(super) struct Minted {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) expires_at: Timestamp,
}

impl Tokens {
    /// Keeps them in the cluster of this control plane.
    pub fn new(plane: Arc<Plane>) -> Self {
        Self {
            plane,
            known: Mutex::default(),
        }
    }

    /// Makes a token.
    pub(super) async fn mint(&self, role: Role, ttl_s: u64) -> Result<Minted, JoinError> {
        if !(TTL_S_MIN..=TTL_S_MAX).contains(&ttl_s) {
            return Err(JoinError::Request(
                "a token lasts from one minute to 31 days".to_owned(),
            ));
        }
        let kubernetes = self.plane.kubernetes()?;
        self.remove_ended(&kubernetes).await?;
        let now = kubernetes.now().await?;
        let ttl_s = i64::try_from(ttl_s).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_unix_seconds(now.unix_seconds().saturating_add(ttl_s))
            .unwrap_or(Timestamp::LATEST);
        let id = letters::<ID_LETTERS>();
        let proof = hex::encode(rand::random::<[u8; 32]>());
        let mut kept = Secret::named(
            &format!("{PREFIX}{id}"),
            TYPE,
            [
                ("sha256", Digest::of(proof.as_bytes()).to_hex()),
                ("role", word(role).to_owned()),
                ("made-at", now.to_string()),
                ("expires-at", expires_at.to_string()),
            ],
        );
        let labels = &mut kept.metadata.labels;
        labels.insert(LABEL.to_owned(), word(role).to_owned());
        let _made: Secret = kubernetes.create(&secrets(), &kept).await?;
        Ok(Minted {
            text: format!("{id}.{proof}"),
            id,
            expires_at,
        })
    }

    /// Which role a token makes, if it is one.
    pub(super) async fn check(&self, text: &str) -> Result<Role, JoinError> {
        let name = Digest::of(text.as_bytes());
        let known = self.lock().get(&name).copied();
        if let Some(known) = known
            && known.asked.elapsed() < REMEMBERED
        {
            return Ok(known.role);
        }
        match self.ask(text).await {
            Ok(fresh) => {
                let mut remembered = self.lock();
                if remembered.len() >= REMEMBERED_MAX {
                    remembered.clear();
                }
                remembered.insert(name, fresh);
                Ok(fresh.role)
            }
            Err(JoinError::Kubernetes(error)) => match known {
                Some(known) if known.asked.elapsed() < REMEMBERED_IN_SILENCE => Ok(known.role),
                Some(_) | None => Err(error.into()),
            },
            Err(error) => {
                self.lock().remove(&name);
                Err(error)
            }
        }
    }

    /// All tokens that have not ended, the next to end first.
    pub(super) async fn list(&self) -> Result<Vec<TokenLine>, JoinError> {
        let kubernetes = self.plane.kubernetes()?;
        let now = kubernetes.now().await?;
        let kept = all(&kubernetes).await?;
        let mut lines: Vec<TokenLine> = kept.iter().filter_map(line).collect();
        lines.retain(|line| line.expires_at > now);
        lines.sort_by(|one, other| (one.expires_at, &one.id).cmp(&(other.expires_at, &other.id)));
        Ok(lines)
    }

    /// Ends a token now. Other masters follow within the time that they remember it.
    pub(super) async fn revoke(&self, id: &str) -> Result<(), JoinError> {
        let unknown = || JoinError::Unknown(format!("a join token {id:?}"));
        if !is_id(id) {
            return Err(unknown());
        }
        let kubernetes = self.plane.kubernetes()?;
        let path = secret(&format!("{PREFIX}{id}"));
        let found: Option<Secret> = kubernetes.read(&path).await?;
        found.ok_or_else(unknown)?;
        kubernetes.delete(&path, None).await?;
        self.lock().clear();
        Ok(())
    }

    async fn ask(&self, text: &str) -> Result<Known, JoinError> {
        let (id, proof) = text.split_once('.').ok_or(JoinError::Token)?;
        if !is_id(id) {
            return Err(JoinError::Token);
        }
        let kubernetes = self.plane.kubernetes()?;
        let path = secret(&format!("{PREFIX}{id}"));
        let kept: Secret = kubernetes.read(&path).await?.ok_or(JoinError::Token)?;
        let now = kubernetes.now().await?;
        let line = line(&kept).ok_or(JoinError::Token)?;
        let wanted = kept.text("sha256").unwrap_or_default();
        let given = Digest::of(proof.as_bytes()).to_hex();
        if !equal(given.as_bytes(), wanted.as_bytes()) || line.expires_at <= now {
            return Err(JoinError::Token);
        }
        Ok(Known {
            role: line.role,
            asked: Instant::now(),
        })
    }

    async fn remove_ended(&self, kubernetes: &Kubernetes) -> Result<(), JoinError> {
        let now = kubernetes.now().await?;
        for kept in all(kubernetes).await? {
            if line(&kept).is_none_or(|line| line.expires_at <= now) {
                kubernetes
                    .delete(&secret(&kept.metadata.name), None)
                    .await?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn all(kubernetes: &Kubernetes) -> Result<Vec<Secret>, JoinError> {
    let mut kept = Vec::new();
    for role in [Role::Master, Role::Worker] {
        let label = format!("{LABEL}={}", word(role));
        kept.extend(kubernetes.list::<Secret>(&secrets(), &label).await?);
    }
    Ok(kept)
}

fn line(kept: &Secret) -> Option<TokenLine> {
    let text = |key: &str| kept.text(key);
    Some(TokenLine {
        id: kept.metadata.name.strip_prefix(PREFIX)?.to_owned(),
        role: match text("role")?.as_str() {
            "master" => Role::Master,
            "worker" => Role::Worker,
            _ => return None,
        },
        made_at: text("made-at")?.parse().ok()?,
        expires_at: text("expires-at")?.parse().ok()?,
    })
}

const fn word(role: Role) -> &'static str {
    match role {
        Role::Master => "master",
        Role::Worker => "worker",
    }
}

fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() == ID_LETTERS && text.bytes().all(plain)
}

/// Takes as long wherever the first difference is.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::plane::tests::plane;
    use crate::kubernetes::fake::FakeApi;

    #[tokio::test]
    async fn a_token_opens_until_it_is_revoked_and_its_secret_is_kept_nowhere() {
        let api = FakeApi::start().await;
        let tokens = Tokens::new(plane(&api));
        let minted = tokens.mint(Role::Master, 3600).await.unwrap();
        assert_eq!(tokens.check(&minted.text).await.unwrap(), Role::Master);
        let proof = minted.text.split_once('.').unwrap().1;
        assert!(!api.dump().contains(proof));
        assert_eq!(tokens.list().await.unwrap().len(), 1);
        tokens.revoke(&minted.id).await.unwrap();
        assert!(matches!(
            tokens.check(&minted.text).await,
            Err(JoinError::Token)
        ));
        assert!(tokens.revoke(&minted.id).await.is_err());
    }

    #[tokio::test]
    async fn what_only_looks_like_a_token_opens_nothing() {
        let api = FakeApi::start().await;
        let tokens = Tokens::new(plane(&api));
        let minted = tokens.mint(Role::Worker, 3600).await.unwrap();
        let other = format!("{}.{}", minted.id, "0".repeat(64));
        let short = minted.text.get(..40).unwrap();
        for wrong in ["", ".", "../../x.y", &other, short, &minted.id] {
            let checked = tokens.check(wrong).await;
            assert!(matches!(checked, Err(JoinError::Token)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_known_token_outlives_a_silent_api_and_an_unknown_one_does_not() {
        let api = FakeApi::start().await;
        let tokens = Tokens::new(plane(&api));
        let [one, other] = [
            tokens.mint(Role::Worker, 3600).await.unwrap(),
            tokens.mint(Role::Worker, 3600).await.unwrap(),
        ];
        tokens.check(&one.text).await.unwrap();
        api.fail(true);
        assert!(tokens.check(&one.text).await.is_ok());
        assert!(matches!(
            tokens.check(&other.text).await,
            Err(JoinError::Kubernetes(_))
        ));
    }
}
