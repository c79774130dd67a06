//! A whole release, from an OCI layout and local files to a signed bundle and back.
#![expect(clippy::unwrap_used, reason = "a test's own set-up may end the test")]

mod common;

use std::io::BufRead as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use common::Desk;
use common::all;
use common::layout;

const WEB: &str = "registry.acme.example/shop/web:1.4.0";
const BUNDLE: &str = "dist/shop-1.4.0-linux-amd64.airgap";

/// A vendor's desk with everything a release can carry.
fn release() -> Desk {
    let desk = Desk::with_trust();
    let layers = [b"small layer ".repeat(500), layout::noise(1, 9 << 20)];
    layout::write(&desk.path("images/web"), WEB, &layers);
    desk.write("manifests/b.yaml", "kind: Service\n");
    desk.write("manifests/a.yaml", "kind: Namespace\n");
    desk.write("cni/flannel.yaml", "kind: DaemonSet\n");
    desk.write("charts/shop/Chart.yaml", "name: shop\nversion: 1.4.0\n");
    desk.write("charts/shop/templates/web.yaml", "kind: Deployment\n");
    desk.write("values.yaml", "replicas: 3\n");
    desk.write("EULA.md", "# Be kind\n");
    desk.write("bin/kubelet", "\x7fELF not really\n");
    let kubelet = desk.path("bin/kubelet");
    std::fs::set_permissions(&kubelet, std::fs::Permissions::from_mode(0o755)).unwrap();
    desk.write("sealift.yaml", &release_file());
    desk
}

fn release_file() -> String {
    format!(
        "apiVersion: sealift/v1\nvendor: acme\nproduct: shop\nversion: 1.4.0\nsequence: 42\n\
         released_at: 2026-11-01T00:00:00Z\n\
         signing: {{root: root.json, keys: [keys/shop.key]}}\n\
         images: [{{image: \"{WEB}\", from: \"oci-layout:./images/web\"}}]\n\
         cluster: {{manifests: [./cni/*.yaml]}}\n\
         charts: [{{name: shop, path: ./charts/shop, namespace: shop, values: ./values.yaml}}]\n\
         manifests: [./manifests/*.yaml]\n\
         files: [{{path: ./bin/kubelet, role: kubelet}}]\n\
         documents: [{{path: ./EULA.md, accept: true}}]\n"
    )
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_release_is_built_verified_and_inspected() {
    let desk = release();
    let built = json(&desk.ok(&["build", "--fast", "--json"]));
    assert_eq!(built["file"], BUNDLE);
    assert_eq!(built["images"], 1);
    let verified = json(&desk.ok(&["verify", BUNDLE, "--json"]));
    assert_eq!(
        verified["bundle"],
        built["bundle"]
            .as_str()
            .unwrap()
            .trim_start_matches("sha256:")
    );
    assert_eq!(verified["signers"], built["signers"]);
    let inspected = json(&desk.ok(&["inspect", BUNDLE, "--root", "root.json", "--json"]));
    let paths: Vec<_> = inspected["index"]["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|manifest| manifest["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        paths,
        ["cni/flannel.yaml", "manifests/a.yaml", "manifests/b.yaml"]
    );
    assert_eq!(inspected["index"]["files"][0]["mode"], "0755");
    assert_eq!(inspected["index"]["charts"][0]["version"], "1.4.0");
    assert_eq!(inspected["index"]["documents"][0]["accept"], true);
    let claimed = desk.ok(&["inspect", BUNDLE]);
    assert!(claimed.starts_with("NOT VERIFIED: "), "{claimed}");
}

#[test]
fn the_unpacked_bundle_holds_the_sums_that_verify_prints() {
    let desk = release();
    desk.ok(&["build", "--fast"]);
    std::fs::write(
        desk.path("SUMS"),
        desk.ok(&["verify", BUNDLE, "--print-sums"]),
    )
    .unwrap();
    let script = format!("zstd -dc {BUNDLE} | tar -x && sha256sum -c SUMS");
    let zstd = Command::new("zstd").arg("--version").output();
    if zstd.is_err() {
        eprintln!("skipped: zstd is not installed");
        return;
    }
    let output = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(desk.path("."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", all(&output));
    assert!(String::from_utf8_lossy(&output.stdout).lines().count() > 10);
}

#[test]
fn the_same_release_gives_the_same_bytes_in_another_folder_umask_zone_and_concurrency() {
    let (first, second) = (release(), release());
    first.ok(&["build", "--fast", "--concurrency", "1"]);
    let program = assert_cmd::cargo::cargo_bin!("bundler");
    let script = format!(
        "umask 077; exec {} build --fast --concurrency 9",
        program.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(second.path("."))
        .env("SEALIFT_KEY_PASSWORD", "hunter2")
        .env("SEALIFT_CACHE_DIR", second.path("cache"))
        .env("TZ", "Asia/Kathmandu")
        .env("LANG", "tr_TR.UTF-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", all(&output));
    let read = |desk: &Desk| std::fs::read(desk.path(BUNDLE)).unwrap();
    assert!(read(&first) == read(&second), "two builds differ");
}

#[test]
fn a_rebuild_with_nothing_changed_leaves_the_file_alone_and_a_changed_input_does_not() {
    let desk = release();
    desk.ok(&["build", "--fast"]);
    let before = std::fs::metadata(desk.path(BUNDLE))
        .unwrap()
        .modified()
        .unwrap();
    let again = json(&desk.ok(&["build", "--fast", "--json"]));
    assert_eq!(again["is_changed"], false);
    assert_eq!(
        std::fs::metadata(desk.path(BUNDLE))
            .unwrap()
            .modified()
            .unwrap(),
        before
    );
    desk.write("manifests/a.yaml", "kind: Namespace # other\n");
    let other = json(&desk.ok(&["build", "--fast", "--json"]));
    assert_eq!(other["is_changed"], true);
    assert_ne!(other["bundle"], again["bundle"]);
}

#[test]
fn signing_apart_from_building_gives_the_same_file() {
    let desk = release();
    desk.ok(&["build", "--fast"]);
    let together = std::fs::read(desk.path(BUNDLE)).unwrap();
    desk.ok(&["build", "--fast", "--no-sign", "-o", "unsigned.airgap"]);
    let unsigned = desk.refused(&["verify", "unsigned.airgap"]);
    assert!(
        unsigned.contains("error[BUNDLE_SIGNATURE_MISSING]"),
        "{unsigned}"
    );
    let stranger = desk.refused(&["sign", "unsigned.airgap", "--key", "keys/license.key"]);
    assert!(
        stranger.contains("error[BUNDLE_UNTRUSTED_KEY]"),
        "{stranger}"
    );
    desk.ok(&["sign", "unsigned.airgap", "--key", "keys/shop.key"]);
    assert!(std::fs::read(desk.path("unsigned.airgap")).unwrap() == together);
}

#[test]
fn a_dry_run_says_what_it_would_do_and_writes_no_bundle() {
    let desk = release();
    let planned = desk.ok(&["build", "--dry-run"]);
    assert!(
        planned.contains(WEB) && planned.contains("Nothing was fetched or written."),
        "{planned}"
    );
    assert!(!desk.path("dist").exists());
}

#[test]
fn what_can_not_be_built_is_refused_with_its_reason() {
    let desk = release();
    let mut texts = Vec::new();
    for (from, to) in [
        ("sequence: 42\n", ""),
        ("released_at: 2026-11-01T00:00:00Z\n", ""),
        ("vendor: acme", "vendor: other"),
        ("product: shop", "product: unknown"),
        ("keys/shop.key", "keys/license.key"),
        ("root.json", "none.json"),
        ("./manifests/*.yaml", "./manifest/*.yaml"),
        (
            "role: kubelet}",
            "role: kubelet, sha256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}",
        ),
        ("name: shop, path", "name: store, path"),
    ] {
        desk.write("sealift.yaml", &release_file().replace(from, to));
        let text = desk.refused(&["build", "--fast"]);
        texts.push(format!("# {from:?} becomes {to:?}\n{}", mask_keys(&text)));
    }
    insta::assert_snapshot!(texts.join("\n"));
    assert!(!desk.path("dist").exists());
}

#[test]
fn a_damaged_bundle_is_refused_and_names_what_is_wrong() {
    let desk = release();
    desk.ok(&["build", "--fast"]);
    let good = std::fs::read(desk.path(BUNDLE)).unwrap();
    let mut flipped = good.clone();
    let at = good.len() / 2;
    flipped[at] ^= 1;
    desk.write_bytes("flipped.airgap", &flipped);
    desk.write_bytes("cut.airgap", &good[..good.len() - 7]);
    let flipped = desk.refused(&["verify", "flipped.airgap"]);
    assert!(flipped.starts_with("exit 3\n"), "{flipped}");
    let cut = desk.refused(&["verify", "cut.airgap"]);
    assert!(cut.contains("error[BUNDLE_TRUNCATED]"), "{cut}");
}

#[test]
fn a_killed_build_leaves_no_half_file_and_the_next_one_finishes() {
    let desk = release();
    for step in ["fetch", "write"] {
        let mut child = desk
            .command(&["build", "--fast", "--json"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let events = std::io::BufReader::new(child.stderr.take().unwrap());
        let begun = format!(r#""step":"{step}""#);
        let seen = events
            .lines()
            .map_while(Result::ok)
            .any(|event| event.contains(&begun));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen, "{step} was never begun");
        // It may have been quicker than the kill; then it has to be whole.
        if desk.path(BUNDLE).exists() {
            desk.ok(&["verify", BUNDLE]);
            std::fs::remove_file(desk.path(BUNDLE)).unwrap();
        }
    }
    desk.ok(&["build", "--fast"]);
    desk.ok(&["verify", BUNDLE]);
    let names: Vec<_> = std::fs::read_dir(desk.path("dist")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_layer_that_is_not_what_its_label_says_gives_the_same_bytes_early_and_late() {
    let desk = release();
    let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
    let text = b"no gzip at all ".repeat(100_000);
    let zipped = [&[0x1f, 0x8b][..], &layout::noise(2, 9 << 20)].concat();
    layout::write_labelled(&desk.path("images/web"), WEB, gzip, &[text, zipped]);
    desk.ok(&["build", "--fast"]);
    let while_it_was_fetched = std::fs::read(desk.path(BUNDLE)).unwrap();
    assert!(while_it_was_fetched.len() < 10 << 20);
    desk.ok(&["verify", BUNDLE]);
    std::fs::remove_file(desk.path(BUNDLE)).unwrap();
    desk.ok(&["build", "--fast"]);
    assert!(std::fs::read(desk.path(BUNDLE)).unwrap() == while_it_was_fetched);
}

#[test]
fn a_cached_blob_that_rotted_stops_one_build_and_is_fetched_anew_by_the_next() {
    let desk = release();
    desk.ok(&["build", "--fast"]);
    std::fs::remove_file(desk.path(BUNDLE)).unwrap();
    let blobs = std::fs::read_dir(desk.path("cache/blobs")).unwrap();
    let largest = blobs
        .map(|entry| entry.unwrap())
        .max_by_key(|entry| entry.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(largest.path()).unwrap();
    let modified = largest.metadata().unwrap().modified().unwrap();
    bytes[5 << 20] ^= 1;
    std::fs::write(largest.path(), bytes).unwrap();
    let file = std::fs::File::options().write(true).open(largest.path());
    file.unwrap().set_modified(modified).unwrap();
    let refused = desk.refused(&["build", "--fast"]);
    assert!(refused.contains("error[BLOB_DIGEST]"), "{refused}");
    assert!(!desk.path(BUNDLE).exists());
    desk.ok(&["build", "--fast"]);
    desk.ok(&["verify", BUNDLE]);
}

#[test]
fn a_sequence_that_gets_other_contents_is_warned_of() {
    let desk = release();
    desk.ok(&["build", "--fast"]);
    desk.write("values.yaml", "replicas: 5\n");
    let text = all(&desk.run(&["build", "--fast"]));
    assert!(text.contains("warning[RELEASE_SEQUENCE_REUSED]"), "{text}");
    desk.write("values.yaml", "replicas: 7\n");
    let text = all(&desk.run(&["build", "--fast", "--sequence", "43"]));
    assert!(!text.contains("warning["), "{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let desk = release();
    desk.ok(&["build", "--fast"]);
    let program = assert_cmd::cargo::cargo_bin!("bundler");
    let script = format!(
        "({} inspect {BUNDLE} blobs; echo $? >&2) | true",
        program.display()
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(desk.path("."))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), "0");
}

#[test]
fn licenses_travel_only_when_the_site_would_take_them() {
    let desk = release();
    let license = |product: &str, id: &str| {
        desk.ok(&[
            "license",
            "new",
            "--id",
            id,
            "--vendor",
            "acme",
            "--product",
            product,
            "--customer-id",
            "harbor",
            "--customer",
            "Harbor City Hospital",
            "--issued-at",
            "2026-01-01T00:00:00Z",
            "--updates-until",
            "2027-06-30T00:00:00Z",
        ])
    };
    license("shop", "H-1");
    desk.ok(&[
        "license",
        "sign",
        "H-1.json",
        "--key",
        "keys/license.key",
        "-o",
        "licenses/H-1.lic",
    ]);
    desk.write(
        "sealift.yaml",
        &format!("{}licenses: [./licenses/*.lic]\n", release_file()),
    );
    desk.ok(&["build", "--fast"]);
    let listed = desk.ok(&["inspect", BUNDLE, "licenses"]);
    assert!(listed.contains("license H-1 "), "{listed}");
    let forged = std::fs::read_to_string(desk.path("licenses/H-1.lic")).unwrap();
    desk.write("licenses/H-1.lic", &forged.replace("2027", "2077"));
    let refused = desk.refused(&["build", "--fast"]);
    assert!(refused.contains("error[LICENSE_SIGNATURE]"), "{refused}");
}

/// Key ids differ from run to run.
fn mask_keys(text: &str) -> String {
    let is_id = |word: &&str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut masked = text.to_owned();
    for word in text
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(is_id)
    {
        masked = masked.replace(word, "[KEY]");
    }
    masked
}
