//! Logins, tokens, redirects: who is shown what.

use serde_json::json;

use super::Bench;
use super::bytes;
use super::hostile::Answer;
use super::hostile::Contents;
use super::hostile::Hostile;
use super::hostile::Seen;

/// `ann:secret`, as a credential file keeps it and as Basic sends it.
const LOGIN: &str = r#"{"auth": "YW5uOnNlY3JldA=="}"#;
const BASIC: &str = "Basic YW5uOnNlY3JldA==";

fn contents() -> Contents {
    let mut contents = Contents::default();
    contents.image("shop/web", Some("1"), "amd64", &[&bytes(1, 1000)]);
    contents
}

/// Wants `Bearer good` everywhere but at `/token`, which it names as `realm`.
fn wants_token(realm: &str) -> impl Fn(&Seen) -> Option<Answer> + use<> {
    let offer =
        format!(r#"Bearer realm="{realm}",service="shop",scope="repository:shop/web:pull""#);
    move |seen| {
        let is_in =
            seen.header("authorization") == Some("Bearer good") || seen.path.starts_with("/token");
        (!is_in).then(|| Answer::new(401, b"").with("WWW-Authenticate", &offer))
    }
}

#[test]
fn a_token_is_asked_for_once_with_the_login_and_then_shown_without_it() {
    let registry = Hostile::start_with(|host| {
        let token = json!({"token": "good", "expires_in": 60}).to_string();
        let give = move |seen: &Seen| {
            seen.path
                .starts_with("/token")
                .then(|| Answer::new(200, token.as_bytes()))
        };
        contents()
            .rule(wants_token(&format!("http://{host}/token")))
            .rule(give)
    });
    let bench = Bench::new(&[&registry]).with_login(&registry.host, LOGIN);
    bench.fetch_web(&registry).unwrap();
    let tokens = registry.seen_of("/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].header("authorization"), Some(BASIC));
    assert_eq!(
        tokens[0].path,
        "/token?service=shop&scope=repository%3Ashop%2Fweb%3Apull&account=ann"
    );
    let shown: Vec<_> = registry
        .seen_of("/v2/")
        .iter()
        .map(|seen| seen.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(
        shown.iter().filter(|it| it.is_none()).count(),
        1,
        "{shown:?}"
    );
    assert!(
        shown.iter().flatten().all(|it| it == "Bearer good"),
        "{shown:?}"
    );
}

#[test]
fn a_refresh_token_goes_into_the_body_and_nowhere_else() {
    let registry = Hostile::start_with(|host| {
        let token = json!({"access_token": "good"}).to_string();
        let give =
            move |seen: &Seen| (seen.method == "POST").then(|| Answer::new(200, token.as_bytes()));
        contents()
            .rule(wants_token(&format!("http://{host}/token")))
            .rule(give)
    });
    let bench =
        Bench::new(&[&registry]).with_login(&registry.host, r#"{"identitytoken": "re&fresh"}"#);
    bench.fetch_web(&registry).unwrap();
    let tokens = registry.seen_of("/token");
    assert_eq!((tokens.len(), tokens[0].path.as_str()), (1, "/token"));
    assert!(tokens[0].body.contains("grant_type=refresh_token"));
    assert!(tokens[0].body.contains("refresh_token=re%26fresh"));
    assert!(
        registry
            .seen()
            .iter()
            .all(|seen| !format!("{:?}", seen.headers).contains("fresh"))
    );
}

#[test]
fn basic_is_shown_only_after_it_was_asked_for() {
    let wants = |seen: &Seen| {
        let is_in = seen.header("authorization") == Some(BASIC);
        (!is_in).then(|| Answer::new(401, b"").with("WWW-Authenticate", r#"Basic realm="shop""#))
    };
    let registry = Hostile::start(contents().rule(wants));
    let bench = Bench::new(&[&registry]).with_login(&registry.host, LOGIN);
    bench.fetch_web(&registry).unwrap();
    assert_eq!(registry.seen()[0].header("authorization"), None);
    assert!(
        registry.seen()[1..]
            .iter()
            .all(|seen| seen.header("authorization") == Some(BASIC))
    );
}

#[test]
fn a_registry_that_never_lets_us_in_is_asked_twice() {
    let never = |seen: &Seen| {
        let is_token = seen.path.starts_with("/token");
        Some(if is_token {
            Answer::new(200, br#"{"token":"bad"}"#)
        } else {
            Answer::new(401, b"")
        })
    };
    let registry = Hostile::start_with(|host| {
        let offer = format!(r#"Bearer realm="http://{host}/token""#);
        contents()
            .rule(move |seen| never(seen).map(|answer| answer.with("WWW-Authenticate", &offer)))
    });
    assert_eq!(Bench::new(&[&registry]).code(&registry), "SOURCE_AUTH");
    assert_eq!(registry.seen_of("/v2/").len(), 2);
    assert_eq!(registry.seen_of("/token").len(), 1);
}

#[test]
fn no_login_and_an_unknown_scheme_are_told_at_once() {
    for offer in [r#"Basic realm="shop""#, "Negotiate"] {
        let wants = move |_: &Seen| Some(Answer::new(401, b"").with("WWW-Authenticate", offer));
        let registry = Hostile::start(contents().rule(wants));
        assert_eq!(Bench::new(&[&registry]).code(&registry), "SOURCE_AUTH");
        assert_eq!(registry.seen().len(), 1);
    }
}

#[test]
fn a_realm_at_another_host_without_tls_hears_nothing() {
    let thief = Hostile::start(Contents::default());
    let registry =
        Hostile::start(contents().rule(wants_token(&format!("http://{}/token", thief.host))));
    let bench = Bench::new(&[&registry]).with_login(&registry.host, LOGIN);
    assert_eq!(bench.code(&registry), "SOURCE_TARGET");
    assert_eq!(thief.seen(), []);
}

#[test]
fn a_token_that_is_huge_or_odd_is_refused() {
    for (token, code) in [
        (vec![b'x'; 2 << 20], "SOURCE_TOO_LARGE"),
        (
            format!(r#"{{"token":"{}"}}"#, "x".repeat(100_000)).into_bytes(),
            "SOURCE_AUTH",
        ),
        (b"{\"token\":\"a\\nb\"}".to_vec(), "SOURCE_AUTH"),
        (b"{}".to_vec(), "SOURCE_AUTH"),
        (b"[]".to_vec(), "SOURCE_DOCUMENT"),
    ] {
        let registry = Hostile::start_with(|host| {
            let give = move |seen: &Seen| {
                seen.path
                    .starts_with("/token")
                    .then(|| Answer::new(200, &token))
            };
            contents()
                .rule(wants_token(&format!("http://{host}/token")))
                .rule(give)
        });
        assert_eq!(Bench::new(&[&registry]).code(&registry), code);
    }
}

#[test]
fn a_redirect_to_another_host_gets_no_authorization() {
    let layer = bytes(1, 1000);
    let storage = Hostile::start({
        let layer = layer.clone();
        Contents::default().rule(move |seen| Some(super::hostile::serve(seen, &layer)))
    });
    let to = format!("http://{}/bucket/layer?signature=x", storage.host);
    let wants = |seen: &Seen| {
        let is_in = seen.header("authorization") == Some(BASIC);
        (!is_in).then(|| Answer::new(401, b"").with("WWW-Authenticate", r#"Basic realm="shop""#))
    };
    let path = format!("/v2/shop/web/blobs/{}", bundle::Digest::of(&layer));
    let send_away =
        move |seen: &Seen| (seen.path == path).then(|| Answer::new(307, b"").with("Location", &to));
    let registry = Hostile::start(contents().rule(send_away).rule(wants));
    let bench = Bench::new(&[&registry, &storage]).with_login(&registry.host, LOGIN);
    bench.fetch_web(&registry).unwrap();
    let stored = storage.seen();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].header("authorization"), None);
    assert_eq!(
        registry
            .seen_of("/blobs/")
            .iter()
            .filter(|seen| seen.header("authorization").is_none())
            .count(),
        0
    );
}

#[test]
fn a_redirect_out_of_tls_to_an_unlisted_host_is_not_followed() {
    let other = Hostile::start(Contents::default());
    for location in [
        format!("http://{}/x", other.host),
        "http://169.254.169.254/x".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        let send_away = move |seen: &Seen| {
            seen.path
                .contains("/blobs/")
                .then(|| Answer::new(302, b"").with("Location", &location))
        };
        let registry = Hostile::start(contents().rule(send_away));
        assert_eq!(Bench::new(&[&registry]).code(&registry), "SOURCE_TARGET");
    }
    assert_eq!(other.seen(), []);
}

#[test]
fn redirects_in_a_circle_end() {
    let circle = |seen: &Seen| {
        seen.path
            .contains("/manifests/")
            .then(|| Answer::new(301, b"").with("Location", &seen.path))
    };
    let registry = Hostile::start(contents().rule(circle));
    assert_eq!(Bench::new(&[&registry]).code(&registry), "SOURCE_TARGET");
    assert!(registry.seen().len() < 10);
}

#[test]
fn a_refusal_tells_the_registrys_own_words() {
    let denied = |_: &Seen| {
        Some(Answer::new(
            403,
            br#"{"errors":[{"code":"DENIED","message":"pay first"}]}"#,
        ))
    };
    let registry = Hostile::start(contents().rule(denied));
    let error = Bench::new(&[&registry]).fetch_web(&registry).unwrap_err();
    assert!(error.to_string().contains("DENIED pay first"), "{error}");
}
