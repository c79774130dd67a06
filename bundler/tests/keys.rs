//! Keys, trust roots and licenses, through the program.

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::Desk;

#[test]
fn a_key_pair_is_written_once_and_kept_from_others() {
    let desk = Desk::new();
    desk.ok(&["key", "new", "keys/shop"]);
    let secret = desk.path("keys/shop.key");
    assert_eq!(
        secret.metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let public = desk.ok(&["key", "show", "keys/shop.pub"]);
    assert_eq!(public, desk.ok(&["key", "show", "keys/shop.key"]));
    let before = std::fs::read(&secret).unwrap();
    insta::assert_snapshot!(desk.refused(&["key", "new", "keys/shop"]), @"
    exit 2
    error[FILE_EXISTS]: can't write keys/shop.key
      cause   entity already exists
    Nothing was changed.
    help: choose another name, or move the file away: nothing is overwritten
    ");
    assert_eq!(std::fs::read(&secret).unwrap(), before);
}

#[test]
fn without_a_terminal_a_missing_or_wrong_password_is_a_refusal_and_no_question() {
    let desk = Desk::new();
    desk.ok(&["key", "new", "shop"]);
    let mut nobody = desk.command(&["key", "show", "shop.key"]);
    let output = nobody.env_remove("SEALIFT_KEY_PASSWORD").output().unwrap();
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @"
    error[KEY_PASSWORD_MISSING]: a password is needed for shop.key, and there is no terminal to ask for it
    Nothing was changed.
    help: set SEALIFT_KEY_PASSWORD or give --password-file FILE
    ");
    std::fs::write(desk.path("wrong"), "hunter3\n").unwrap();
    insta::assert_snapshot!(desk.refused(&["key", "show", "shop.key", "--password-file", "wrong"]), @"
    exit 2
    error[KEY_PASSWORD]: shop.key: the secret key can't be opened with this password
    Nothing was changed.
    help: try again with the right password
    ");
    std::fs::write(desk.path("right"), "hunter2\n").unwrap();
    desk.ok(&["key", "show", "shop.key", "--password-file", "right"]);
}

#[test]
fn a_root_that_its_own_keys_would_not_carry_is_not_written() {
    let desk = Desk::new();
    for name in ["root1", "root2", "shop"] {
        desk.ok(&["key", "new", name]);
    }
    let init = |signers: &[&'static str]| {
        let mut words = vec![
            "root",
            "init",
            "--vendor",
            "acme",
            "--key",
            "root1.pub",
            "--key",
            "root2.pub",
            "--bundle",
            "shop=shop.pub",
        ];
        for signer in signers {
            words.extend(["--sign-with", signer]);
        }
        words
    };
    insta::assert_snapshot!(desk.refused(&init(&["root1.key"])), @"
    exit 2
    error[ROOT_THRESHOLD]: the root is signed by 1 of its keys, its threshold is 2
    Nothing was changed.
    help: repeat --sign-with for more of the root keys
    ");
    let stranger = desk.refused(&init(&["root1.key", "shop.key"]));
    assert!(stranger.contains("error[ROOT_UNTRUSTED_KEY]"), "{stranger}");
    assert!(!desk.path("root.json").exists());
    desk.ok(&init(&["root1.key", "root2.key"]));
    let shown = desk.ok(&["root", "show"]);
    assert!(shown.contains("bundle:shop: 1 of "), "{shown}");
    assert_eq!(shown.matches("signed: root.json.").count(), 2, "{shown}");
}

#[test]
fn a_license_is_made_signed_and_shown_as_verified_or_claimed() {
    let desk = Desk::with_trust();
    desk.ok(&[
        "license",
        "new",
        "--id",
        "H-0193",
        "--vendor",
        "acme",
        "--product",
        "shop",
        "--customer-id",
        "harbor",
        "--customer",
        "Harbor City Hospital",
        "--issued-at",
        "2026-01-01T00:00:00Z",
        "--updates-until",
        "2027-06-30T00:00:00Z",
    ]);
    let wrong = desk.refused(&["license", "sign", "H-0193.json", "--key", "keys/shop.key"]);
    assert!(wrong.contains("error[LICENSE_UNTRUSTED_KEY]"), "{wrong}");
    assert!(!desk.path("H-0193.lic").exists());
    desk.ok(&[
        "license",
        "sign",
        "H-0193.json",
        "--key",
        "keys/license.key",
    ]);
    insta::assert_snapshot!(desk.ok(&["license", "show", "H-0193.lic"]), @"
    NOT VERIFIED: no --root was given, so this is only what the file claims
    license H-0193, sequence 1, for acme/shop
      for      Harbor City Hospital (harbor)
      kind     production
      channels stable
      updates  until 2027-06-30T00:00:00Z
      ends     never
      size     any number of masters, any number of nodes
    ");
    let verified = desk.ok(&["license", "show", "H-0193.lic", "--root", "root.json"]);
    assert!(
        verified.contains("(license:shop)") && !verified.contains("NOT VERIFIED"),
        "{verified}"
    );
    let file = std::fs::read_to_string(desk.path("H-0193.lic")).unwrap();
    std::fs::write(
        desk.path("forged.lic"),
        file.replace("2027-06-30", "2099-06-30"),
    )
    .unwrap();
    let forged = desk.refused(&["license", "show", "forged.lic", "--root", "root.json"]);
    assert!(forged.contains("error[LICENSE_SIGNATURE]"), "{forged}");
}

#[test]
fn init_writes_a_release_file_that_parses_and_never_overwrites_one() {
    let desk = Desk::new();
    desk.ok(&["init", "--vendor", "harbor", "--product", "lighthouse"]);
    let text = std::fs::read_to_string(desk.path("sealift.yaml")).unwrap();
    assert!(
        text.contains("vendor: harbor\nproduct: lighthouse\n"),
        "{text}"
    );
    bundler::release::Release::load(&desk.path("sealift.yaml")).unwrap();
    assert!(desk.path(".gitignore").exists());
    let again = desk.refused(&["init"]);
    assert!(again.contains("error[FILE_EXISTS]"), "{again}");
    assert_eq!(
        std::fs::read_to_string(desk.path("sealift.yaml")).unwrap(),
        text
    );
}

#[test]
fn json_gives_one_object_for_results_and_for_errors() {
    let desk = Desk::with_trust();
    let shown: serde_json::Value =
        serde_json::from_str(&desk.ok(&["root", "show", "--json"])).unwrap();
    assert_eq!(shown["vendor"], "acme");
    let output = desk.run(&["--json", "root", "show", "none.json"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["code"], "FILE_NOT_FOUND");
    assert!(output.stderr.is_empty());
}

#[test]
fn help_is_the_manual() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.ok(&["--help"]));
    insta::assert_snapshot!(desk.ok(&["build", "--help"]));
    insta::assert_snapshot!(desk.ok(&["root", "init", "--help"]));
}
