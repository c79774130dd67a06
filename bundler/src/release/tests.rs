//! Refusals of release files, as people read them.

use bundle::Digest;

use super::*;

const HEAD: &str = "apiVersion: sealift/v1\nvendor: acme\nproduct: shop\nversion: 1.4.0\n";

fn load(rest: &str) -> Result<Release, ReleaseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sealift.yaml");
    std::fs::write(&path, format!("{HEAD}{rest}")).unwrap();
    Release::load(&path)
}

fn refusal(rest: &str) -> String {
    let error = load(rest).unwrap_err();
    let mut text = format!("{}: {}", error.code(), error);
    if let Some(start) = text.find('/') {
        let end = text.find("sealift.yaml").unwrap();
        text.replace_range(start..end, "");
    }
    for fact in error.facts() {
        let line = format!("\n  {} {}", fact.label, fact.value);
        text.push_str(&line);
    }
    text
}

#[test]
fn a_short_file_has_sound_defaults() {
    let release = load("").unwrap();
    assert_eq!(release.channel.as_str(), "stable");
    assert_eq!(release.platforms, [entry::constant("linux/amd64")]);
    assert_eq!((release.epoch, release.sequence), (1, None));
}

#[test]
fn an_image_is_a_text_or_a_mapping() {
    let digest = Digest::of(b"x");
    let release = load(&format!(
        "images:\n  - registry.acme.example/shop/web:1.4.0\n  - docker.io/library/redis:7.4@{digest}\n  \
         - {{image: registry.k8s.io/pause:3.10.2, from: \"oci-layout:./images/pause\", stage: cluster}}\n"
    ))
    .unwrap();
    let [web, redis, pause] = &release.images[..] else {
        panic!("{:?}", release.images)
    };
    assert_eq!((web.digest, web.stage), (None, Stage::Application));
    assert_eq!(redis.digest, Some(digest));
    assert_eq!(redis.name.as_str(), "docker.io/library/redis:7.4");
    assert_eq!(pause.from, ImageFrom::OciLayout("./images/pause".into()));
    assert_eq!(pause.stage, Stage::Cluster);
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    let cases = [
        "imagse: []\n",
        "channel: stable\nchannel: beta\n",
        "images: [{image: docker.io/library/redis:7, form: x}]\n",
        "images: [redis]\n",
        "images: [{image: docker.io/library/redis:7, from: docker}]\n",
        "platforms: linux/amd64\n",
        "platforms: [linux]\n",
        "sequence: -1\n",
        "sequence: 1.5\n",
        "files: [{path: a, role: kubelet, sha256: abc}]\n",
        "required: maybe\n",
        "a: [\n",
        "---\nx: 1\n",
    ];
    let texts: Vec<String> = cases.iter().map(|case| refusal(case)).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn all_impossible_entries_are_told_at_once() {
    let text = refusal(
        "platforms: []\nimages: [docker.io/a/b:1, docker.io/a/b:1]\ncharts: [{name: x, namespace: y}]\n\
         files: [{url: \"https://dl.example/x\", role: cni-plugin}, {role: kubelet}]\n",
    );
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_not_done_yet_is_refused_and_not_ignored() {
    let digest = Digest::of(b"x").to_hex();
    for rest in [
        format!("files: [{{url: \"https://dl.example/x\", role: cni-plugin, sha256: {digest}}}]\n"),
        "charts: [{name: ingress, oci: registry.acme.example/charts/ingress, namespace: ingress}]\n".to_owned(),
        "allow_missing: [{image: x, reason: y}]\n".to_owned(),
    ] {
        assert_eq!(load(&rest).unwrap_err().code(), "NOT_IN_THIS_VERSION", "{rest}");
    }
}
