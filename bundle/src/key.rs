//! Keys in minisign's own text formats: public keys, and secret keys encrypted with a password or plain.
//!
//! Layouts (minisign `src/minisign.h`), base64 behind one comment line:
//!
//! | public key, 42 bytes | secret key, 158 bytes |
//! |---|---|
//! | `Ed` | `Ed`, `Sc` (scrypt) or two zero bytes (no password), `B2` |
//! | key id, 8 | salt 32, opslimit 8, memlimit 8 (little-endian) |
//! | key, 32 | under the password's key stream: key id 8, seed 32, public key 32, BLAKE2b-256 of `Ed` ‖ key id ‖ seed ‖ public key |
//!
//! Attacks it answers: a weak or non-canonical public key (identity, low order, mixed order) is no key; a secret key
//! whose public half is not its own is refused (signing with a foreign half gives the secret away, RUSTSEC-2022-0093);
//! a key file that asks for endless memory or time is refused before it gets any; secrets have no `Display`, a `Debug`
//! that tells the id only, and are wiped when dropped.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::Digest as _;
use ed25519_dalek::SigningKey;
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use zeroize::Zeroize as _;
use zeroize::Zeroizing;

use crate::fault::Blame;
use crate::fault::Fact;
use crate::fault::Fault;

/// The name of a key: eight bytes, written as minisign does (a little-endian number in 16 capital hex digits).
///
/// A hint for looking a key up, never a proof: two keys may carry one id. Ordered as its text is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

/// A public key that can verify signatures; never a weak one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey {
    id: KeyId,
    key: VerifyingKey,
}

/// A secret key. Wiped when dropped, never printed.
pub struct SecretKey {
    id: KeyId,
    signing: SigningKey,
}

/// A secret key file that was read and may still be locked by a password.
pub struct SecretKeyFile {
    lock: Option<Lock>,
    body: Zeroizing<[u8; BODY_BYTES]>,
}

/// How a password becomes a key stream.
#[derive(Clone, Copy)]
struct Lock {
    salt: [u8; 32],
    opslimit: u64,
    memlimit: u64,
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is not a minisign key.
    #[error("not a minisign {what}: {why}")]
    Form {
        /// `public key` or `secret key`.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// The public key has an order or an encoding that lets others forge signatures.
    #[error("public key {id} is weak: anyone could make signatures for it")]
    Weak {
        /// Its id.
        id: KeyId,
    },
    /// The file is locked and the password does not open it, or the file is damaged.
    #[error("the secret key can't be opened with this password")]
    Password,
    /// The file is locked and no password was given.
    #[error("the secret key is protected by a password and none was given")]
    PasswordMissing,
    /// The file asks for more work than any honest key does.
    #[error("the secret key file asks for {asked}, more than the {most} that are allowed")]
    Cost {
        /// What it asks for.
        asked: String,
        /// What is allowed.
        most: &'static str,
    },
    /// The seed and the public key do not belong together.
    #[error("the secret key's public half does not belong to it")]
    Mismatch,
    /// The machine gave no random bytes.
    #[error("this machine gives no random bytes: {0}")]
    Random(getrandom::Error),
}

const ALGORITHM: [u8; 2] = *b"Ed";
const KDF_SCRYPT: [u8; 2] = *b"Sc";
const KDF_NONE: [u8; 2] = [0, 0];
const CHECKSUM: [u8; 2] = *b"B2";
const PUBLIC_BYTES: usize = 42;
const SECRET_BYTES: usize = 158;
const BODY_BYTES: usize = 104;
const COMMENT_PREFIX: &str = "untrusted comment: ";

/// What we lock with: scrypt N = 2^17, r = 8, p = 1, about 128 MiB and 0.3 s (OWASP), a quarter of what a build may use.
const OPSLIMIT: u64 = 1 << 22;
const MEMLIMIT: u64 = 1 << 27;

/// The most that a file may ask for: what minisign itself writes (1 GiB, libsodium's `SENSITIVE`).
const OPSLIMIT_MAX: u64 = 1 << 25;
const MEMLIMIT_MAX: u64 = 1 << 30;

/// A key file is two lines of at most 1 KiB; more is not read.
pub const KEY_FILE_BYTES_MAX: usize = 4 << 10;

impl KeyId {
    /// Takes the eight bytes of a signature or key.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// The eight bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016X}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let canonical = text.len() == 16
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| canonical);
        number.map(Self).ok_or(KeyError::Form {
            what: "key id",
            why: "expected 16 capital hexadecimal digits",
        })
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PublicKey {
    /// Takes an id and 32 raw bytes; refuses weak keys and encodings that are not the one of their point.
    pub fn new(id: KeyId, raw: &[u8; 32]) -> Result<Self, KeyError> {
        let weak = || KeyError::Weak { id };
        let key = VerifyingKey::from_bytes(raw).map_err(|_not_a_point| weak())?;
        let point = key.to_edwards();
        if key.is_weak() || !point.is_torsion_free() || point.compress().as_bytes() != raw {
            return Err(weak());
        }
        Ok(Self { id, key })
    }

    /// Parses a public key file: a comment line and a base64 line.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let what = "public key";
        let line = second_line(what, text)?;
        Self::from_base64(line)
    }

    /// Parses the base64 line alone, as `minisign -P` and `root.json` take it.
    pub fn from_base64(line: &str) -> Result<Self, KeyError> {
        let form = |why| KeyError::Form {
            what: "public key",
            why,
        };
        let bytes = STANDARD
            .decode(line)
            .map_err(|_not_base64| form("not base64"))?;
        let bytes: [u8; PUBLIC_BYTES] = bytes
            .try_into()
            .map_err(|_length| form("expected 42 bytes"))?;
        let [a0, a1, rest @ ..] = bytes;
        if [a0, a1] != ALGORITHM {
            return Err(form("unknown algorithm"));
        }
        let (id, raw) = rest.split_at(8);
        match (id.try_into(), raw.try_into()) {
            (Ok(id), Ok(raw)) => Self::new(KeyId::from_bytes(id), raw),
            _ => Err(form("expected 42 bytes")),
        }
    }

    /// The base64 line.
    pub fn to_base64(&self) -> String {
        let mut bytes = Vec::with_capacity(PUBLIC_BYTES);
        bytes.extend_from_slice(&ALGORITHM);
        bytes.extend_from_slice(&self.id.to_bytes());
        bytes.extend_from_slice(self.raw());
        STANDARD.encode(bytes)
    }

    /// The text of a public key file.
    pub fn to_file(&self) -> String {
        format!(
            "{COMMENT_PREFIX}minisign public key {}\n{}\n",
            self.id,
            self.to_base64()
        )
    }

    /// The key's name.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The 32 raw bytes: what a key *is*, whatever id it carries.
    pub fn raw(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Checks one plain Ed25519 signature, with every strictness there is.
    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({})", self.id)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(serde::de::Error::custom)
    }
}

impl SecretKey {
    /// Makes a new key from the machine's random bytes.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(KeyError::Random)?;
        Ok(Self::from_seed(&seed))
    }

    /// Makes the key of a seed; its id follows from its public half, so one seed is one key file.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let hash = blake2::Blake2b512::digest(signing.verifying_key().as_bytes());
        let mut id = [0; 8];
        for (byte, hashed) in id.iter_mut().zip(hash) {
            *byte = hashed;
        }
        Self {
            id: KeyId::from_bytes(id),
            signing,
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            id: self.id,
            key: self.signing.verifying_key(),
        }
    }

    /// The text of a secret key file, locked by `password`, or plain without one.
    pub fn to_file(&self, password: Option<&str>) -> Result<Zeroizing<String>, KeyError> {
        let mut body = self.body();
        let lock = match password {
            None => None,
            Some(password) => {
                let mut salt = [0; 32];
                getrandom::fill(&mut salt).map_err(KeyError::Random)?;
                let lock = Lock {
                    salt,
                    opslimit: OPSLIMIT,
                    memlimit: MEMLIMIT,
                };
                lock.apply(password, &mut body)?;
                Some(lock)
            }
        };
        if lock.is_none() {
            let (_key, checksum) = body.split_at_mut(72);
            checksum.zeroize(); // as minisign -W writes it
        }
        Ok(render_secret(lock, &body))
    }

    /// Signs a message with plain Ed25519; minisign's layers are in [`crate::minisig`].
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        use ed25519_dalek::Signer as _;
        self.signing.sign(message).to_bytes()
    }

    /// Key id, seed, public half and checksum: what a password locks.
    fn body(&self) -> Zeroizing<[u8; BODY_BYTES]> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
        bytes.extend_from_slice(&self.id.to_bytes());
        bytes.extend_from_slice(self.signing.as_bytes());
        bytes.extend_from_slice(self.signing.verifying_key().as_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let mut body = Zeroizing::new([0; BODY_BYTES]);
        for (to, from) in body.iter_mut().zip(bytes.iter()) {
            *to = *from;
        }
        body
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretKey({})", self.id)
    }
}

impl SecretKeyFile {
    /// Reads the text of a secret key file; opens nothing yet.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        let what = "secret key";
        let form = |why| KeyError::Form { what, why };
        let line = second_line(what, text)?;
        let bytes = STANDARD
            .decode(line)
            .map(Zeroizing::new)
            .map_err(|_not_base64| form("not base64"))?;
        let (head, rest) = bytes
            .split_at_checked(6)
            .filter(|_| bytes.len() == SECRET_BYTES)
            .ok_or(form("expected 158 bytes"))?;
        let (salt, rest) = rest.split_at(32);
        let (limits, rest) = rest.split_at(16);
        let (ops, mem) = limits.split_at(8);
        let mut body = Zeroizing::new([0; BODY_BYTES]);
        for (to, from) in body.iter_mut().zip(rest) {
            *to = *from;
        }
        let &[a0, a1, k0, k1, c0, c1] = head else {
            return Err(form("expected 158 bytes"));
        };
        if [a0, a1] != ALGORITHM || [c0, c1] != CHECKSUM {
            return Err(form("unknown algorithm"));
        }
        let lock = match [k0, k1] {
            KDF_NONE => None,
            KDF_SCRYPT => Some(Lock {
                salt: salt.try_into().map_err(|_length| form("salt"))?,
                opslimit: u64::from_le_bytes(ops.try_into().map_err(|_length| form("opslimit"))?),
                memlimit: u64::from_le_bytes(mem.try_into().map_err(|_length| form("memlimit"))?),
            }),
            _other => return Err(form("unknown way of protecting it")),
        };
        Ok(Self { lock, body })
    }

    /// Whether a password is needed.
    pub const fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Opens the key; costs what the file asks for, up to 1 GiB and some seconds.
    pub fn open(self, password: Option<&str>) -> Result<SecretKey, KeyError> {
        let mut body = self.body;
        if let Some(lock) = self.lock {
            lock.apply(password.ok_or(KeyError::PasswordMissing)?, &mut body)?;
        }
        let (key, check) = body.split_at(72);
        let right = checksum(key);
        let plain_without_check = self.lock.is_none() && check.iter().all(|byte| *byte == 0);
        if check != right && !plain_without_check {
            return Err(KeyError::Password);
        }
        let (id, keypair) = key.split_at(8);
        let (seed, public) = keypair.split_at(32);
        let (Ok(id), Ok(seed)) = (id.try_into(), seed.try_into()) else {
            return Err(KeyError::Mismatch);
        };
        let signing = SigningKey::from_bytes(seed);
        if signing.verifying_key().as_bytes() != public {
            return Err(KeyError::Mismatch);
        }
        Ok(SecretKey {
            id: KeyId::from_bytes(id),
            signing,
        })
    }
}

impl fmt::Debug for SecretKeyFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.is_locked() {
            "SecretKeyFile(locked)"
        } else {
            "SecretKeyFile(plain)"
        })
    }
}

impl Lock {
    /// Adds the password's key stream to the body: locks what is open, opens what is locked.
    fn apply(&self, password: &str, body: &mut [u8; BODY_BYTES]) -> Result<(), KeyError> {
        let cost = |asked: String, most| KeyError::Cost { asked, most };
        if self.memlimit > MEMLIMIT_MAX {
            return Err(cost(format!("{} bytes of memory", self.memlimit), "1 GiB"));
        }
        if self.opslimit > OPSLIMIT_MAX {
            return Err(cost(format!("{} operations", self.opslimit), "2^25"));
        }
        let (log_n, r, p) = scrypt_cost(self.opslimit, self.memlimit);
        let params = scrypt::Params::new(log_n, r, p)
            .map_err(|_invalid| cost(format!("scrypt 2^{log_n}, {r}, {p}"), "scrypt takes"))?;
        let mut stream = Zeroizing::new([0; BODY_BYTES]);
        scrypt::scrypt(password.as_bytes(), &self.salt, &params, &mut *stream)
            .map_err(|_length| KeyError::Password)?;
        for (byte, key) in body.iter_mut().zip(stream.iter()) {
            *byte ^= key;
        }
        Ok(())
    }
}

/// scrypt's log2 N, r and p from two limits, as libsodium's `pickparams` chooses them.
fn scrypt_cost(opslimit: u64, memlimit: u64) -> (u8, u32, u32) {
    const R: u64 = 8;
    let opslimit = opslimit.max(1 << 15);
    let log_n = |n_max: u64| {
        (1_u8..63)
            .find(|log_n| 1_u64 << log_n > n_max / 2)
            .unwrap_or(63)
    };
    if opslimit < memlimit / 32 {
        return (log_n(opslimit / (R * 4)), 8, 1);
    }
    let log_n = log_n(memlimit / (R * 128));
    let rp_max = ((opslimit / 4) >> log_n).min(0x3fff_ffff);
    (log_n, 8, u32::try_from(rp_max / R).unwrap_or(0))
}

/// minisign's checksum over algorithm, key id, seed and public half.
fn checksum(key: &[u8]) -> [u8; 32] {
    let mut hash = blake2::Blake2b256::new();
    hash.update(ALGORITHM);
    hash.update(key);
    hash.finalize().into()
}

fn render_secret(lock: Option<Lock>, body: &[u8; BODY_BYTES]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES));
    bytes.extend_from_slice(&ALGORITHM);
    bytes.extend_from_slice(if lock.is_some() {
        &KDF_SCRYPT
    } else {
        &KDF_NONE
    });
    bytes.extend_from_slice(&CHECKSUM);
    let lock = lock.unwrap_or(Lock {
        salt: [0; 32],
        opslimit: 0,
        memlimit: 0,
    });
    bytes.extend_from_slice(&lock.salt);
    bytes.extend_from_slice(&lock.opslimit.to_le_bytes());
    bytes.extend_from_slice(&lock.memlimit.to_le_bytes());
    bytes.extend_from_slice(body);
    let base64 = Zeroizing::new(STANDARD.encode(&*bytes));
    Zeroizing::new(format!(
        "{COMMENT_PREFIX}minisign encrypted secret key\n{}\n",
        *base64
    ))
}

/// The base64 line of a key file: a comment line, then it, each ended by one LF, then nothing.
fn second_line<'a>(what: &'static str, text: &'a [u8]) -> Result<&'a str, KeyError> {
    let form = |why| KeyError::Form { what, why };
    if text.len() > KEY_FILE_BYTES_MAX {
        return Err(form("the file is larger than 4 KiB"));
    }
    let text = std::str::from_utf8(text).map_err(|_not_utf8| form("the file is not text"))?;
    let (comment, rest) = text
        .split_once('\n')
        .ok_or(form("expected a comment line and a base64 line"))?;
    if !comment.starts_with(COMMENT_PREFIX) {
        return Err(form("the first line is no untrusted comment"));
    }
    let line = rest.strip_suffix('\n').unwrap_or(rest);
    if line.contains('\n') {
        return Err(form("there is more after the base64 line"));
    }
    Ok(line)
}

impl Fault for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "KEY_FORM",
            Self::Weak { .. } => "KEY_WEAK",
            Self::Password => "KEY_PASSWORD",
            Self::PasswordMissing => "KEY_PASSWORD_MISSING",
            Self::Cost { .. } => "KEY_COST",
            Self::Mismatch => "KEY_MISMATCH",
            Self::Random(_) => "KEY_RANDOM",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Form { .. } | Self::Weak { .. } | Self::Cost { .. } | Self::Mismatch => {
                Blame::Input
            }
            Self::Password | Self::PasswordMissing => Blame::Usage,
            Self::Random(_) => Blame::Machine,
        }
    }

    fn facts(&self) -> Vec<Fact> {
        Vec::new()
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Form { .. } => "give a key file that `bundler key new` or `minisign -G` wrote",
            Self::Weak { .. } | Self::Mismatch => "make a new key: bundler key new",
            Self::Password => "try again with the right password",
            Self::PasswordMissing => "set SEALIFT_KEY_PASSWORD or give --password-file",
            Self::Cost { .. } => {
                "do not use this file; a key that minisign wrote asks for at most 1 GiB"
            }
            Self::Random(_) => return None,
        };
        Some(hint.to_owned())
    }
}
