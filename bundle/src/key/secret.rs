//! Secret keys, and the files that they rest in.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::Digest as _;
use ed25519_dalek::SigningKey;
use zeroize::Zeroize as _;
use zeroize::Zeroizing;

use crate::key::ALGORITHM;
use crate::key::COMMENT_PREFIX;
use crate::key::KeyError;
use crate::key::KeyId;
use crate::key::PublicKey;
use crate::key::second_line;

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

const KDF_SCRYPT: [u8; 2] = *b"Sc";
const KDF_NONE: [u8; 2] = [0, 0];
const CHECKSUM: [u8; 2] = *b"B2";
const SECRET_BYTES: usize = 158;
const BODY_BYTES: usize = 104;

/// What we lock with: scrypt N = 2^17, r = 8, p = 1, about 128 MiB and 0.3 s (OWASP), a quarter of what a build may use.
const OPSLIMIT: u64 = 1 << 22;
const MEMLIMIT: u64 = 1 << 27;

/// The most that a file may ask for: what minisign itself writes (1 GiB, libsodium's `SENSITIVE`).
const OPSLIMIT_MAX: u64 = 1 << 25;
const MEMLIMIT_MAX: u64 = 1 << 30;

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
pub(crate) fn scrypt_cost(opslimit: u64, memlimit: u64) -> (u8, u32, u32) {
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
