//! Odd JSON is refused, canonical JSON is one.

use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    text: String,
    count: u64,
    signed: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inner: Option<Box<Sample>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    map: BTreeMap<String, u8>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<Kind>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    OneWord,
    Other,
}

fn decode_sample(text: &str) -> Result<Sample, JsonError> {
    decode(text.as_bytes(), 1 << 20)
}

const GOOD: &str = r#"{"text":"a","count":1,"signed":-1,"map":{"b":2},"kinds":["one-word"]}"#;

#[test]
fn a_good_document_is_read() {
    let sample = decode_sample(GOOD).unwrap();
    assert_eq!(sample.signed, -1);
    assert_eq!(sample.kinds, [Kind::OneWord]);
    assert_eq!(decode_sample(&format!("{GOOD}\n")).unwrap(), sample);
    let spaced = GOOD.replace(',', " ,\n\t");
    assert_eq!(decode_sample(&spaced).unwrap(), sample);
}

#[test]
fn odd_documents_are_refused() {
    let deep = |depth: usize| format!("{{\"text\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let bad = [
        // Duplicate keys: plain, escaped, nested, in a map.
        GOOD.replace("\"count\":1", "\"count\":1,\"count\":1"),
        GOOD.replace("\"count\":1", "\"count\":1,\"c\\u006funt\":1"),
        GOOD.replace("{\"b\":2}", "{\"b\":2,\"b\":2}"),
        GOOD.replace(
            "\"count\":1",
            "\"count\":1,\"inner\":{\"text\":\"\",\"text\":\"\",\"count\":1,\"signed\":1}",
        ),
        // A list where an object is meant; a field that nobody knows; one that is missing.
        r#"["a",1,-1]"#.to_owned(),
        GOOD.replace("\"count\":1", "\"count\":1,\"inner\":[\"a\",1,-1]"),
        GOOD.replace("\"count\":1", "\"count\":1,\"other\":1"),
        GOOD.replace("\"count\":1,", ""),
        // Numbers.
        GOOD.replace("\"count\":1", "\"count\":1.0"),
        GOOD.replace("\"count\":1", "\"count\":1e3"),
        GOOD.replace("\"count\":1", "\"count\":-0"),
        GOOD.replace("\"count\":1", "\"count\":01"),
        GOOD.replace("\"count\":1", "\"count\":18446744073709551616"),
        GOOD.replace("\"count\":1", "\"count\":NaN"),
        GOOD.replace("\"count\":1", "\"count\":\"1\""),
        GOOD.replace("\"b\":2", "\"b\":256"),
        // Encodings and what lies around.
        format!("\u{feff}{GOOD}"),
        format!("{GOOD}\n\n"),
        format!("{GOOD}\r\n"),
        format!("{GOOD} "),
        format!(" {GOOD}"),
        format!("{GOOD}{GOOD}"),
        format!("{GOOD}//"),
        GOOD.replace("]}", "],}"),
        GOOD.replace("\"a\"", "'a'"),
        // Strings.
        GOOD.replace("\"a\"", "\"\\ud800\""),
        GOOD.replace("\"a\"", "\"\\u0000\""),
        GOOD.replace("\"a\"", "\"\n\""),
        GOOD.replace("\"a\"", &format!("\"{}\"", "a".repeat(65_537))),
        GOOD.replace("one-word", "two-words"),
        GOOD.replace("\"one-word\"", "{\"one-word\":null}"),
        // Depth.
        deep(16),
        deep(100_000),
        String::new(),
        "{".to_owned(),
        "null".to_owned(),
    ];
    for text in bad {
        let start: String = text.chars().take(100).collect();
        assert!(decode_sample(&text).is_err(), "{start}");
    }
    let utf16: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(decode::<Sample>(&utf16, 1 << 20).is_err());
    let latin = GOOD.replace("\"a\"", "\"x\"").into_bytes();
    let latin: Vec<u8> = latin
        .into_iter()
        .map(|it| if it == b'x' { 0xe4 } else { it })
        .collect();
    assert!(decode::<Sample>(&latin, 1 << 20).is_err());
    let size = decode::<Sample>(GOOD.as_bytes(), GOOD.len() - 1);
    assert!(matches!(size, Err(JsonError::Size { .. })));
}

#[test]
fn the_depth_limit_is_exact() {
    let nested = |depth: usize| {
        let text = format!(
            "{{\"a\":{}{}}}",
            "[".repeat(depth - 1),
            "]".repeat(depth - 1)
        );
        parse(text.as_bytes(), 1 << 20)
    };
    assert!(nested(16).is_ok());
    assert!(nested(17).is_err());
    assert!(parse(br#"{"a":"\"[[[[[[[[[[[[[[[[[[[[\\"}"#, 1 << 20).is_ok());
}

#[test]
fn the_canonical_form_is_sorted_and_compact() {
    let sample = decode_sample(GOOD).unwrap();
    let canonical =
        "{\"count\":1,\"kinds\":[\"one-word\"],\"map\":{\"b\":2},\"signed\":-1,\"text\":\"a\"}\n";
    assert_eq!(
        String::from_utf8(encode(&sample).unwrap()).unwrap(),
        canonical
    );
    assert!(decode_canonical::<Sample>(canonical.as_bytes(), 1000).is_ok());
    for other in [
        GOOD.to_owned(),
        canonical.trim_end().to_owned(),
        canonical.replace(':', ": "),
        canonical.replace("\"a\"", "\"\\u0061\""),
        canonical.replace("\"map\":{\"b\":2},", "\"map\":{},"),
        canonical.replace("\"count\":1", "\"count\":1,\"inner\":null"),
    ] {
        let error = decode_canonical::<Sample>(other.as_bytes(), 1000);
        assert!(
            matches!(error, Err(JsonError::NotCanonical { .. })) || other.contains("{}"),
            "{other}"
        );
    }
}

fn any_node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        Just(Node::Null),
        any::<bool>().prop_map(Node::Bool),
        any::<u64>().prop_map(Node::Unsigned),
        (i64::MIN..0).prop_map(Node::Negative),
        "[^\\x00]{0,8}".prop_map(Node::Text),
    ];
    leaf.prop_recursive(4, 32, 4, |node| {
        prop_oneof![
            proptest::collection::vec(node.clone(), 0..4).prop_map(Node::List),
            proptest::collection::btree_map("[^\\x00]{0,4}", node, 0..4).prop_map(Node::Object),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(entries in proptest::collection::btree_map("[a-z]{0,4}", any_node(), 0..4)) {
        let node = Node::Object(entries);
        let bytes = encode(&node).unwrap();
        prop_assert_eq!(parse(&bytes, 1 << 20).unwrap(), node);
        prop_assert!(decode_canonical::<serde_json::Value>(&bytes, 1 << 20).is_ok());
    }

    #[test]
    fn what_is_accepted_means_the_same_to_others(text in r#"\{("[ab]{1,2}":([0-9]{1,3}|"[ab\\]{0,3}"|\[[0-9,]{0,3}\]|-?0|1e1)[ ,]?){0,3}\}"#) {
        if let Ok(node) = parse(text.as_bytes(), 1 << 20) {
            let other: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(serde_json::to_value(&node).unwrap(), other);
        }
    }
}
