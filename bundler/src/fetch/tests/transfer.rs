//! Blobs under way: whole, cut, resumed, lied about, asked to wait for.

use std::fs;

use bundle::Digest;
use bundle::fault::Fault as _;
use bundle::index::Stage;

use super::Bench;
use super::FetchEvent;
use super::bytes;
use super::hostile::Answer;
use super::hostile::Contents;
use super::hostile::Hostile;
use super::hostile::Seen;
use super::hostile::serve;
use super::request;
use super::web;

/// An image with one layer of these bytes.
fn contents(layer: &[u8]) -> Contents {
    let mut contents = Contents::default();
    contents.image("shop/web", Some("1"), "amd64", &[layer]);
    contents
}

/// The rule that answers for the blob of `layer` alone.
fn for_blob<A: Fn(&Seen) -> Option<Answer> + Send + Sync>(
    layer: &[u8],
    answer: A,
) -> impl Fn(&Seen) -> Option<Answer> + Send + Sync + use<A> {
    let path = format!("/v2/shop/web/blobs/{}", Digest::of(layer));
    move |seen| {
        if seen.path == path {
            answer(seen)
        } else {
            None
        }
    }
}

fn hostile(
    layer: &[u8],
    answer: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
) -> Hostile {
    Hostile::start(contents(layer).rule(for_blob(layer, answer)))
}

fn ranges(registry: &Hostile, layer: &[u8]) -> Vec<Option<String>> {
    let seen = registry.seen_of(&Digest::of(layer).to_string());
    seen.iter()
        .map(|seen| seen.header("range").map(str::to_owned))
        .collect()
}

fn range(from: usize) -> String {
    format!("bytes={from}-")
}

#[test]
fn an_image_arrives_whole_and_the_next_build_asks_for_the_tag_only() {
    let (small, large) = (bytes(1, 1000), bytes(2, 9 << 20));
    let mut contents = Contents::default();
    contents.image("shop/web", Some("1"), "amd64", &[&small, &large, &small]);
    let registry = Hostile::start(contents);
    let bench = Bench::new(&[&registry]);
    let image = bench.fetch_web(&registry).unwrap();
    assert_eq!(image.blobs.len(), 4);
    assert!(bench.has(&small) && bench.has(&large));
    assert_eq!(bench.partials(), 0);
    let kept = bench.cache.get(&Digest::of(&large)).unwrap().unwrap();
    let pieces = kept.pieces.unwrap();
    assert_eq!(pieces.cut().count(), 3);
    assert!(pieces.matches(2, &large[8 << 20..]));
    registry.forget();
    assert_eq!(bench.fetch_web(&registry).unwrap(), image);
    let paths: Vec<_> = registry.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/v2/shop/web/manifests/1"]);
}

#[test]
fn events_count_every_byte_once() {
    let layer = bytes(1, 3 << 20);
    let registry = hostile(&layer.clone(), move |seen| {
        (seen.earlier == 0).then(|| Answer::new(200, &layer[..1 << 20]).claiming(layer.len()))
    });
    let bench = Bench::new(&[&registry]);
    let image = bench.fetch_web(&registry).unwrap();
    let sum =
        |pick: fn(&FetchEvent) -> u64| bench.events.lock().unwrap().iter().map(pick).sum::<u64>();
    let came = sum(|event| {
        if let FetchEvent::Received { bytes, .. } = event {
            *bytes
        } else {
            0
        }
    });
    let lost = sum(|event| {
        if let FetchEvent::Lost { bytes, .. } = event {
            *bytes
        } else {
            0
        }
    });
    // Manifests and configs are a part of finding out.
    let layers = image
        .blobs
        .iter()
        .filter(|blob| blob.stage == Stage::Application);
    let pulled: u64 = layers.map(|blob| blob.size).sum();
    assert_eq!((came, lost), (pulled, 0));
}

#[test]
fn a_body_that_is_cut_goes_on_with_the_rest_alone() {
    let layer = bytes(1, 100_000);
    let registry = hostile(&layer.clone(), move |seen| {
        (seen.earlier == 0).then(|| Answer::new(200, &layer[..40_000]).claiming(layer.len()))
    });
    let layer = bytes(1, 100_000);
    let bench = Bench::new(&[&registry]);
    bench.fetch_web(&registry).unwrap();
    assert_eq!(ranges(&registry, &layer), [None, Some(range(40_000))]);
    assert!(bench.has(&layer));
}

#[test]
fn another_run_goes_on_where_the_first_one_stopped() {
    let layer = bytes(1, 100_000);
    let registry = hostile(&layer.clone(), move |seen| {
        (seen.earlier == 0).then(|| Answer::open_ended(&layer[..60_000]))
    });
    let layer = bytes(1, 100_000);
    let mut bench = Bench::new(&[&registry]);
    bench.options.registry.tries_max = 1;
    assert_eq!(bench.code(&registry), "SOURCE_NETWORK");
    assert_eq!(bench.partials(), 1);
    bench.fetch_web(&registry).unwrap();
    assert_eq!(ranges(&registry, &layer), [None, Some(range(60_000))]);
    assert!(bench.has(&layer));
}

#[test]
fn a_partial_that_rotted_is_fetched_anew() {
    let layer = bytes(1, 100_000);
    let registry = Hostile::start(contents(&layer));
    let bench = Bench::new(&[&registry]);
    let partial = bench
        .directory
        .path()
        .join("cache/partial")
        .join(Digest::of(&layer).to_hex());
    for wrong in [vec![0; 50_000], vec![0; 100_000], vec![0; 200_000]] {
        bench.cache.evict(&Digest::of(&layer)).unwrap();
        fs::write(&partial, &wrong).unwrap();
        bench.fetch_web(&registry).unwrap();
        assert!(bench.has(&layer));
    }
    assert_eq!(
        ranges(&registry, &layer),
        [Some(range(50_000)), None, None, None]
    );
}

#[test]
fn of_a_wrong_range_not_a_byte_is_taken() {
    for wrong in [
        "bytes 0-59999/100000",
        "bytes 40000-99998/100000",
        "bytes 40000-99999/100001",
        "items 1-2/3",
        "",
    ] {
        let layer = bytes(1, 100_000);
        let registry = hostile(&layer.clone(), move |seen| {
            match (seen.earlier, seen.header("range")) {
                (0, _) => Some(Answer::new(200, &layer[..40_000]).claiming(layer.len())),
                (_, Some(_)) => {
                    Some(Answer::new(206, &layer[..60_000]).with("Content-Range", wrong))
                }
                (_, None) => None,
            }
        });
        let layer = bytes(1, 100_000);
        let bench = Bench::new(&[&registry]);
        bench.fetch_web(&registry).unwrap();
        assert_eq!(
            ranges(&registry, &layer),
            [None, Some(range(40_000)), None],
            "{wrong}"
        );
        assert!(bench.has(&layer));
    }
}

#[test]
fn a_whole_answer_to_a_range_replaces_what_was_there() {
    let layer = bytes(1, 100_000);
    let registry = hostile(&layer.clone(), move |seen| {
        Some(match seen.earlier {
            0 => Answer::new(200, &layer[..40_000]).claiming(layer.len()),
            _later => Answer::new(200, &layer),
        })
    });
    let layer = bytes(1, 100_000);
    let bench = Bench::new(&[&registry]);
    bench.fetch_web(&registry).unwrap();
    assert_eq!(ranges(&registry, &layer), [None, Some(range(40_000))]);
    assert!(bench.has(&layer));
}

#[test]
fn a_range_that_is_unknown_begins_anew() {
    let layer = bytes(1, 100_000);
    let registry = hostile(&layer.clone(), move |seen| {
        match (seen.earlier, seen.header("range")) {
            (0, _) => Some(Answer::new(200, &layer[..40_000]).claiming(layer.len())),
            (_, Some(_)) => Some(Answer::new(416, b"")),
            (_, None) => None,
        }
    });
    let layer = bytes(1, 100_000);
    let bench = Bench::new(&[&registry]);
    bench.fetch_web(&registry).unwrap();
    assert!(bench.has(&layer));
}

#[test]
fn a_part_that_nobody_asked_for_is_refused() {
    let layer = bytes(1, 1000);
    let registry = hostile(&layer.clone(), move |_| {
        Some(Answer::new(206, &layer[..10]).with("Content-Range", "bytes 0-9/1000"))
    });
    assert_eq!(Bench::new(&[&registry]).code(&registry), "SOURCE_ANSWER");
}

#[test]
fn other_bytes_are_refused_and_nothing_of_them_is_kept() {
    let layer = bytes(1, 100_000);
    let registry = hostile(&layer, |_| Some(Answer::new(200, &bytes(2, 100_000))));
    let bench = Bench::new(&[&registry]);
    let error = bench.fetch_web(&registry).unwrap_err();
    assert_eq!(error.code(), "SOURCE_DIGEST");
    assert!(error.to_string().contains(&registry.host), "{error}");
    assert!(!bench.has(&layer));
    assert_eq!(bench.partials(), 0);
    assert_eq!(ranges(&registry, &layer), [None]);
}

#[test]
fn a_body_of_another_length_is_refused_before_it_is_read_and_an_endless_one_at_its_end() {
    let layer = bytes(1, 100_000);
    let longer = [&layer[..], b"x"].concat();
    let endless = Answer {
        endless: true,
        ..Answer::open_ended(&layer)
    };
    for answer in [
        Answer::new(200, &layer[1..]),
        Answer::new(200, &longer),
        Answer::open_ended(&longer),
        endless,
    ] {
        let registry = hostile(&layer, move |_| Some(answer.clone()));
        let bench = Bench::new(&[&registry]);
        assert_eq!(bench.code(&registry), "SOURCE_SIZE");
        assert_eq!(bench.partials(), 0);
    }
}

#[test]
fn a_body_that_always_ends_early_is_given_up_and_what_came_is_kept() {
    let layer = bytes(1, 100_000);
    let registry = hostile(&layer.clone(), move |seen| {
        Some(match seen.header("range") {
            None => Answer::open_ended(&layer[..10_000]),
            Some(_) => Answer {
                status: 206,
                ..Answer::open_ended(b"").with("Content-Range", "bytes 10000-99999/100000")
            },
        })
    });
    let layer = bytes(1, 100_000);
    let bench = Bench::new(&[&registry]);
    assert_eq!(bench.code(&registry), "SOURCE_NETWORK");
    assert_eq!(
        ranges(&registry, &layer),
        [None, Some(range(10_000)), Some(range(10_000))]
    );
    assert_eq!(bench.partials(), 1);
}

#[test]
fn a_line_that_is_cut_again_and_again_still_gets_there() {
    let layer = bytes(1, 12 << 20);
    let registry = hostile(&layer.clone(), move |seen| {
        let whole = serve(seen, &layer);
        let length = whole.body.len();
        let cut = Answer {
            body: whole.body[..length.min(2 << 20)].to_vec(),
            ..whole
        };
        Some(cut)
    });
    let layer = bytes(1, 12 << 20);
    let bench = Bench::new(&[&registry]);
    bench.fetch_web(&registry).unwrap();
    assert_eq!(ranges(&registry, &layer).len(), 6);
    assert!(bench.has(&layer));
}

#[test]
fn an_encoded_body_is_refused() {
    let layer = bytes(1, 1000);
    let registry = hostile(&layer.clone(), move |_| {
        Some(Answer::new(200, &layer).with("Content-Encoding", "gzip"))
    });
    assert_eq!(Bench::new(&[&registry]).code(&registry), "SOURCE_ANSWER");
}

#[test]
fn a_registry_that_asks_for_patience_is_waited_for() {
    let layer = bytes(1, 1000);
    let registry = hostile(&layer, |seen| match seen.earlier {
        0 => Some(Answer::new(429, b"").with("Retry-After", "7")),
        1 => Some(Answer::new(503, b"")),
        _later => None,
    });
    let bench = Bench::new(&[&registry]);
    bench.fetch_web(&registry).unwrap();
    assert_eq!(bench.waits(), [7, 1]);
}

#[test]
fn an_hour_is_not_waited_for() {
    let busy = |_: &Seen| Some(Answer::new(429, b"").with("Retry-After", "3600"));
    let registry = Hostile::start(contents(b"").rule(busy));
    let bench = Bench::new(&[&registry]);
    assert_eq!(bench.code(&registry), "SOURCE_NETWORK");
    assert!(bench.waits().is_empty());
}

#[test]
fn a_registry_that_is_down_is_given_up_after_all_tries() {
    let registry = Hostile::start(contents(b"").rule(|_| Some(Answer::new(502, b""))));
    let bench = Bench::new(&[&registry]);
    let error = bench.fetch_web(&registry).unwrap_err();
    assert_eq!(error.code(), "SOURCE_NETWORK");
    assert_eq!(registry.seen().len(), 3);
    let request = web(&registry);
    drop(registry);
    assert_eq!(
        bench.fetch(&[request]).unwrap_err().code(),
        "SOURCE_NETWORK"
    );
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_when_it_fails() {
    let layer = bytes(1, 1000);
    let registry = Hostile::start(contents(&layer));
    let empty = Hostile::start(Contents::default());
    let without_layers =
        Hostile::start(contents(&layer).rule(for_blob(&layer, |_| Some(Answer::new(404, b"")))));
    for mirror in [&empty, &without_layers] {
        let mut bench = Bench::new(&[&registry, &empty, &without_layers]);
        bench.options.mirrors = [(registry.host.clone(), vec![mirror.host.clone()])].into();
        bench.fetch_web(&registry).unwrap();
        assert!(bench.has(&layer));
        assert!(!mirror.seen().is_empty());
    }
    assert!(registry.seen_of("/manifests/1").len() == 1);
}

#[test]
fn a_layer_of_many_images_is_fetched_once() {
    let layer = bytes(1, 100_000);
    let mut contents = Contents::default();
    for repository in ["a/a", "b/b", "c/c"] {
        contents.image(
            repository,
            Some("1"),
            "amd64",
            &[&layer, repository.as_bytes()],
        );
    }
    let registry = Hostile::start(contents);
    let bench = Bench::new(&[&registry]);
    let images = bench
        .fetch(&["a/a:1", "b/b:1", "c/c:1"].map(|rest| request(&registry, rest)))
        .unwrap();
    let names: Vec<_> = images
        .iter()
        .map(|image| image.name.repository().to_owned())
        .collect();
    assert_eq!(names, ["a/a", "b/b", "c/c"]);
    assert_eq!(ranges(&registry, &layer).len(), 1);
}

#[test]
fn an_empty_layer_needs_no_request() {
    let registry = Hostile::start(contents(b""));
    let bench = Bench::new(&[&registry]);
    bench.fetch_web(&registry).unwrap();
    assert!(bench.has(b""));
    assert_eq!(ranges(&registry, b"").len(), 0);
}
