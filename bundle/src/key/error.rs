//! Why a key can't be used.

use crate::fault::Blame;
use crate::fault::Fault;
use crate::key::KeyId;

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
