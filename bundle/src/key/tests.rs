//! Key files: minisign's own, and those that are refused.

use proptest::prelude::*;

use super::*;
use crate::fault::Fault as _;
use crate::minisig::Purpose;
use crate::minisig::Signature;

/// Written by minisign 0.11: `minisign -G -W`.
const MINISIGN_SECRET: &str = "untrusted comment: minisign encrypted secret key
RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAwL2kwf+IB+JU/WYdoF6BDSSp6QxFpj3IejjFS1YFCSPVZmH+KO+XvfaPfBgQwWr0NWew69c3hEdvsbkF68IwnGRxBLJXtfuzAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
";
const MINISIGN_PUBLIC: &str = "untrusted comment: minisign public key E20788FFC1A4BDC0
RWTAvaTB/4gH4vaPfBgQwWr0NWew69c3hEdvsbkF68IwnGRxBLJXtfuz
";

const PASSWORD: Option<&str> = Some("correct horse");

fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn open(text: &str, password: Option<&str>) -> Result<SecretKey, KeyError> {
    SecretKeyFile::parse(text.as_bytes())?.open(password)
}

fn code(result: Result<SecretKey, KeyError>) -> &'static str {
    result.map_or_else(|error| error.code(), |_key| "opened")
}

/// A key file with other bytes at a place.
fn patched(text: &str, at: usize, bytes: &[u8]) -> String {
    let line = text.lines().nth(1).unwrap();
    let mut raw = STANDARD.decode(line).unwrap();
    raw[at..at + bytes.len()].copy_from_slice(bytes);
    text.replace(line, &STANDARD.encode(raw))
}

#[test]
fn a_key_that_minisign_wrote_is_read_and_written_back() {
    let secret = open(MINISIGN_SECRET, None).unwrap();
    let public = PublicKey::parse(MINISIGN_PUBLIC.as_bytes()).unwrap();
    assert_eq!(secret.public(), public);
    assert_eq!(secret.public().id().to_string(), "E20788FFC1A4BDC0");
    assert_eq!(secret.to_file(None).unwrap().as_str(), MINISIGN_SECRET);
    assert_eq!(public.to_file(), MINISIGN_PUBLIC);
}

#[test]
fn a_locked_key_opens_with_its_password_only() {
    let text = key().to_file(PASSWORD).unwrap();
    assert!(SecretKeyFile::parse(text.as_bytes()).unwrap().is_locked());
    assert_eq!(open(&text, PASSWORD).unwrap().public(), key().public());
    assert_eq!(code(open(&text, Some("correct horse "))), "KEY_PASSWORD");
    assert_eq!(code(open(&text, None)), "KEY_PASSWORD_MISSING");
    let body = patched(&text, 100, &[1]);
    assert_eq!(code(open(&body, PASSWORD)), "KEY_PASSWORD");
}

#[test]
fn two_files_of_one_key_and_password_differ() {
    let first = key().to_file(PASSWORD).unwrap();
    assert_ne!(*first, *key().to_file(PASSWORD).unwrap());
}

#[test]
fn generated_keys_differ() {
    let first = SecretKey::generate().unwrap().public();
    assert_ne!(first.raw(), SecretKey::generate().unwrap().public().raw());
}

#[test]
fn a_file_that_asks_for_endless_work_is_refused_before_it_gets_any() {
    let text = key().to_file(None).unwrap();
    let locked = patched(&text, 2, b"Sc");
    for (ops, mem) in [
        (1_u64 << 26, 1 << 27),
        (1 << 22, 1 << 31),
        (u64::MAX, u64::MAX),
    ] {
        let ops_at = patched(&locked, 38, &ops.to_le_bytes());
        let greedy = patched(&ops_at, 46, &mem.to_le_bytes());
        assert_eq!(code(open(&greedy, PASSWORD)), "KEY_COST", "{ops} {mem}");
    }
}

#[test]
fn a_public_half_that_is_not_its_own_is_refused() {
    let text = key().to_file(None).unwrap();
    let foreign = SecretKey::from_seed(&[8; 32]);
    let mixed = patched(&text, 94, foreign.public().raw());
    assert_eq!(code(open(&mixed, None)), "KEY_MISMATCH");
}

#[test]
fn a_damaged_plain_key_with_checksum_is_refused() {
    let text = key().to_file(None).unwrap();
    assert_eq!(code(open(&patched(&text, 126, &[1]), None)), "KEY_PASSWORD");
}

#[test]
fn secret_key_files_in_other_forms_are_refused() {
    let text = key().to_file(None).unwrap();
    let line = text.lines().nth(1).unwrap();
    for wrong in [
        String::new(),
        line.to_owned(),
        text.replace("untrusted comment: ", ""),
        format!("{}x", *text),
        format!("{}\n", *text),
        text.replace('\n', "\r\n"),
        text.replace(line, line.trim_end_matches('=')),
        text.replace(line, &line[4..]),
        patched(&text, 0, b"ED"),
        patched(&text, 2, b"XX"),
        patched(&text, 4, b"XX"),
        format!("untrusted comment: {}\n{line}\n", "x".repeat(5000)),
        MINISIGN_PUBLIC.to_owned(),
    ] {
        assert_eq!(code(open(&wrong, None)), "KEY_FORM", "{wrong}");
    }
}

#[test]
fn public_key_files_in_other_forms_are_refused() {
    let line = MINISIGN_PUBLIC.lines().nth(1).unwrap();
    for wrong in [
        String::new(),
        line.to_owned(),
        format!("{MINISIGN_PUBLIC}{line}\n"),
        MINISIGN_PUBLIC.replace('\n', "\r\n"),
        MINISIGN_PUBLIC.replace("RWT", "RVT"),
        MINISIGN_PUBLIC.replace(line, &line[..52]),
        MINISIGN_SECRET.to_owned(),
    ] {
        assert!(PublicKey::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert!(PublicKey::parse(MINISIGN_PUBLIC.trim_end().as_bytes()).is_ok());
    assert!(PublicKey::from_base64(line).is_ok());
}

#[test]
fn a_secret_is_never_printed() {
    let shown = format!(
        "{:?} {:?}",
        key(),
        SecretKeyFile::parse(MINISIGN_SECRET.as_bytes())
    );
    let seed = hex::encode([7; 32]);
    assert!(!shown.contains(&seed) && !shown.contains("7, 7"), "{shown}");
}

#[test]
fn key_ids_are_ordered_as_their_text_is() {
    let (low, high) = (
        KeyId::from_bytes([9, 0, 0, 0, 0, 0, 0, 1]),
        KeyId::from_bytes([1, 0, 0, 0, 0, 0, 0, 2]),
    );
    assert!(low < high && low.to_string() < high.to_string());
    assert_eq!("0100000000000009".parse::<KeyId>().unwrap(), low);
    for wrong in [
        "",
        "010000000000000a",
        "+100000000000009",
        "01000000000000090",
        "100000000000009",
    ] {
        assert!(wrong.parse::<KeyId>().is_err(), "{wrong}");
    }
}

/// libsodium's own choices for its named limits.
#[test]
fn limits_become_the_costs_that_libsodium_chooses() {
    assert_eq!(secret::scrypt_cost(33_554_432, 1_073_741_824), (20, 8, 1)); // sensitive, minisign's
    assert_eq!(secret::scrypt_cost(524_288, 16_777_216), (14, 8, 1)); // interactive
    assert_eq!(secret::scrypt_cost(1 << 22, 1 << 27), (17, 8, 1)); // ours
    assert_eq!(secret::scrypt_cost(32_768, 1 << 30), (10, 8, 1));
    assert_eq!(secret::scrypt_cost(1 << 25, 1 << 20), (10, 8, 1024));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn another_implementation_accepts_what_we_sign(
        seed in any::<[u8; 32]>(),
        document in proptest::collection::vec(any::<u8>(), 0..2000),
        sequence in any::<u64>(),
    ) {
        let key = SecretKey::from_seed(&seed);
        let purpose = Purpose::Revocations { vendor: "acme", sequence };
        let text = Signature::sign(&key, &document, &purpose).to_file();
        let theirs = minisign_verify::PublicKey::decode(&key.public().to_file()).unwrap();
        let signature = minisign_verify::Signature::decode(&text).unwrap();
        prop_assert!(theirs.verify(&document, &signature, false).is_ok());
        let parsed = Signature::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(parsed.to_file(), text);
        prop_assert_eq!(signature.trusted_comment(), parsed.trusted_comment());
        prop_assert_eq!(PublicKey::parse(key.public().to_file().as_bytes()).unwrap(), key.public());
        prop_assert_eq!(open(&key.to_file(None).unwrap(), None).unwrap().public(), key.public());
    }
}
