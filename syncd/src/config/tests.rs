//! Configurations as people write them, and the answers as they read them.

use std::fs;

use api::Effect;
use api::Report;

use super::*;

/// Loads a file with this text; the directory's name is taken out of errors.
fn load(text: &str, typed: Written) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("syncd.toml");
    fs::write(&file, text).unwrap();
    Config::load(Some(&file), typed).map_err(|error| {
        let report = Report::of(&error, Effect::None).to_string();
        report.replace(directory.path().to_str().unwrap(), "/etc/sealift")
    })
}

#[test]
fn a_file_with_the_node_alone_has_defaults_for_the_rest() {
    let config = load("node = 'm1'", Written::default()).unwrap();
    assert_eq!(config.store, Path::new("/var/lib/sealift"));
    assert_eq!(config.images, Some(([127, 0, 0, 1], 7402).into()));
    assert_eq!(config.timing, Timing::default());
}

#[test]
fn what_is_typed_wins_over_the_file() {
    let typed = Written {
        send_rate: Some("25MB".parse().unwrap()),
        peers: Some(vec!["m3=10.0.0.13:7401".parse().unwrap()]),
        ..Written::default()
    };
    let text = "node = 'm1'\nsend-rate = '1MB'\nfull-pass = '30m'\nimages = 'off'\n[[peers]]\nname = 'm2'\naddress = 'a:1'";
    let config = load(text, typed).unwrap();
    assert_eq!(config.bandwidth.send.unwrap().get(), 25_000_000);
    assert_eq!(config.peers[0].name.as_str(), "m3");
    assert_eq!(config.timing.full_pass, Duration::from_mins(30));
    assert_eq!(config.images, None);
}

#[test]
fn an_unknown_key_is_shown_with_its_place() {
    let error = load("node = 'm1'\n  fullpass = '1h'\n", Written::default()).unwrap_err();
    insta::assert_snapshot!(error, @r"
    error[CONFIG_SYNTAX]: the configuration /etc/sealift/syncd.toml can't be understood
      at        line 2, column 3
      problem   unknown field `fullpass`, expected one of `node`, `role`, `store`, `listen`, `listen-public`, `peers`, `members`, `site`, `targets`, `ca`, `certificate`, `key`, `control`, `images`, `send-rate`, `receive-rate`, `send-rate-per-peer`, `receive-rate-per-peer`, `summary`, `full-pass`, `idle`, `inbox-poll`
    Nothing was changed.
    help: syncd run --help lists every key: a flag --full-pass is the key full-pass
    ");
}

#[test]
fn a_value_of_the_wrong_kind_says_what_is_expected() {
    let error = load("node = 'm1'\nsend-rate = 'fast'", Written::default()).unwrap_err();
    insta::assert_snapshot!(error, @r#"
    error[CONFIG_SYNTAX]: the configuration /etc/sealift/syncd.toml can't be understood
      at        line 2, column 13
      problem   "fast" is no rate: expected a number and B, kB, MB, GB, KiB, MiB, GiB, kbit, Mbit or Gbit, such as 200Mbit
    Nothing was changed.
    help: syncd run --help lists every key: a flag --full-pass is the key full-pass
    "#);
}

#[test]
fn all_contradictions_are_told_at_once() {
    let text = "images = '10.0.0.1:80'\nsummary = '1ms'\npeers = [{name='m2',address='a:1'},{name='m2',address='b:1'}]";
    insta::assert_snapshot!(load(text, Written::default()).unwrap_err(), @r"
    error[CONFIG_VALUE]: the configuration has 4 problems
      problem   node: is missing; it is the name in this node's certificate
      problem   peers: m2 is listed twice
      problem   images: 10.0.0.1:80 is not on loopback; images are for this node only
      problem   summary: 1 ms is too short, the least is 100ms
    Nothing was changed.
    help: set it in the file, as a flag, or as SEALIFT_<KEY> in the environment
    ");
    let itself = "node = 'm1'\npeers = [{name='m1',address='a:1'}]";
    insta::assert_snapshot!(load(itself, Written::default()).unwrap_err(), @r"
    error[CONFIG_VALUE]: the configuration has a problem
      problem   peers: m1 is this node itself; list the others only
    Nothing was changed.
    help: set it in the file, as a flag, or as SEALIFT_<KEY> in the environment
    ");
}

#[test]
fn a_named_file_must_exist() {
    let error = Config::load(Some(Path::new("/nowhere/x.toml")), Written::default()).unwrap_err();
    insta::assert_snapshot!(Report::of(&error, Effect::None), @r"
    error[CONFIG_UNREADABLE]: the configuration /nowhere/x.toml can't be read
      cause   No such file or directory (os error 2)
    Nothing was changed.
    help: name the file with --config; without it /etc/sealift/syncd.toml is used
    ");
}
