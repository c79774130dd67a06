//! The exact bytes of each signed document: whoever changes them makes files that sites in the field refuse.

use bundle::license::VerifiedLicense;
use bundle::root::Root;
use bundle::state::Replace;
use bundle::state::Site;
use bundle::state::TrustState;

use crate::fixtures::BUNDLE_KEY;
use crate::fixtures::head;
use crate::fixtures::index;
use crate::fixtures::license;
use crate::fixtures::license_file;
use crate::fixtures::public;
use crate::fixtures::role;
use crate::fixtures::root;
use crate::fixtures::trust;
use crate::fixtures::verified;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_root() {
    let mut small = root();
    let own = [public(1).id(), public(BUNDLE_KEY).id()];
    small.keys.retain(|id, _| own.contains(id));
    let roles = [
        ("root", role(&[1], 1)),
        ("bundle:shop", role(&[BUNDLE_KEY], 1)),
    ];
    let roles = roles.map(|(name, role)| (name.parse().unwrap(), role));
    let small = Root {
        roles: roles.into(),
        ..small
    };
    insta::assert_snapshot!(text(small.to_bytes().unwrap()), @r#"{"_type":"sealift/root/v1","epoch":1,"issued_at":"2026-01-01T00:00:00Z","keys":{"88090E73947CF7CC":{"alg":"minisign-ED","public":"RWTM93yUcw4JiIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"},"9F25FB654FBD5609":{"alg":"minisign-ED","public":"RWQJVr1PZfsln8qTrBcFGHBx1nuDx/8O/oEI6OxFMFdddyaHkzPb2r58"}},"roles":{"bundle:shop":{"keys":["9F25FB654FBD5609"],"threshold":1},"root":{"keys":["88090E73947CF7CC"],"threshold":1}},"vendor":"acme","version":1}"#);
}

#[test]
fn a_signature_of_a_bundle() {
    let signature = head(&index(), &[BUNDLE_KEY]).signature.unwrap();
    insta::assert_snapshot!(text(signature), @r#"
    untrusted comment: signature from sealift key 9F25FB654FBD5609
    RUQJVr1PZfslnxyq2C/ymeG8FTRt/p39FQ6g/h/+ry4bVZeVYA3zYvZ2n9J3jn+63/Pndp0BDICqb/u17H3f2ZDY7NkhFK+Zlgw=
    trusted comment: sealift1;type=bundle;vendor=acme;product=shop;channel=stable;epoch=1;seq=42;sha256=683d9cc96ab2e2a4f0140eb34b58247f99753ae0c6637ecdd3b328ad2393c9d5
    WgHl6Ciex3a+w0+RuU/OxaP3cgOqUbtsViuxi+pECCsh7MSOioTpPd4A39nyPLQ/aypmxVzaxkopOGmIdD9iBQ==
    "#);
}

#[test]
fn a_license() {
    insta::assert_snapshot!(text(license_file(&license())), @r#"
    untrusted comment: signature from sealift key 489E83BBB1085332
    RUQyUwixu4OeSM35rasBVjRzGbi1sH4K1UXALVdflgFdDa1mOS+jvm1UPONx74sMvFdNp7xlkIl7Pt2o8X+UWBMp10ELzOxwEQY=
    trusted comment: sealift1;type=license;vendor=acme;product=shop;id=H-0193;seq=7;sha256=7928a01ec285701c20651f289e558dfc4c43d8fac4cb29d5b8ba783cfc502a8e
    jwWZg+rc5j9S3C3K3Z7nEV/q49PQ6z/OVZm0jws7M73CIAACNjrhIM8ENTbeOm07Jb4aaat/DcVD5oOFoF7gAA==
    {"_type":"sealift/license/v1","bind":{"cluster_id":null},"channels":["stable"],"customer":{"id":"hch","name":"Harbor City Hospital"},"expires_at":null,"features":{"airgap":true,"ha":true,"multi_node":true},"grace_days":30,"issued_at":"2026-06-30T00:00:00Z","kind":"production","license_id":"H-0193","limits":{"masters":3,"nodes":10},"product":"shop","sequence":7,"updates_until":"2027-06-30T00:00:00Z","vendor":"acme"}
    "#);
}

#[test]
fn a_state() {
    let mut state = TrustState::default();
    state
        .accept_bundle(&verified(&index()), &Site::default())
        .unwrap();
    let license = VerifiedLicense::verify(license_file(&license()), &trust()).unwrap();
    state
        .accept_license(&license, Replace::BySupersedes)
        .unwrap();
    insta::assert_snapshot!(text(state.to_bytes().unwrap()), @r#"{"_type":"sealift/state/v1","bundles":{"acme/shop/stable":{"floor":{"epoch":1,"sequence":0},"newest":{"id":"sha256:683d9cc96ab2e2a4f0140eb34b58247f99753ae0c6637ecdd3b328ad2393c9d5","position":{"epoch":1,"sequence":42},"version":"1.4.0"}}},"licenses":{"acme/shop":{"accepted":{"H-0193":{"digest":"sha256:7928a01ec285701c20651f289e558dfc4c43d8fac4cb29d5b8ba783cfc502a8e","sequence":7}},"superseded":{}}},"revocations":{},"roots":{"acme":{"digest":"sha256:f463cb00e8c79c1d4c0d640086c4586f23b8bc0c9904bc492ad29da427952ec2","sequence":1}},"time_floor":"2026-11-01T00:00:00Z"}"#);
}
