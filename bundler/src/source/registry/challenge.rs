//! `WWW-Authenticate`: what a registry wants before it answers (RFC 9110 section 11.6.1, distribution-spec "auth").

/// One way in that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A name and a password with each request.
    Basic,
    /// A token, to be had at `realm`.
    Bearer {
        /// Where tokens are given out; not yet judged.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what, when the registry says it.
        scope: Option<String>,
    },
}

/// More than any registry sends; a longer header is not looked at.
const HEADER_BYTES_MAX: usize = 8 << 10;

impl Challenge {
    /// Parses one header, which may offer several; what is not understood is left out.
    pub(crate) fn parse_all(header: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut rest = if header.len() > HEADER_BYTES_MAX {
            ""
        } else {
            header
        };
        while let Some((scheme, after)) = take_token(rest) {
            let (parameters, after) = take_parameters(after);
            rest = after;
            let get = |name: &str| {
                let found = parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                found.push(Self::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                found.push(Self::Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                });
            }
        }
        found
    }
}

fn is_token(symbol: char) -> bool {
    symbol.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(symbol)
}

/// Splits a token off, with the blanks and commas in front of it.
fn take_token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find(|symbol| !is_token(symbol)).unwrap_or(text.len());
    let (token, rest) = text.split_at_checked(end)?;
    (!token.is_empty()).then_some((token, rest))
}

/// Splits `key=value` pairs off, up to the next scheme.
fn take_parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut parameters = Vec::new();
    while let Some((key, after)) = take_token(text) {
        let Some(value) = after.trim_start().strip_prefix('=') else {
            break;
        };
        let Some((value, rest)) = take_value(value.trim_start()) else {
            return (parameters, "");
        };
        parameters.push((key.to_owned(), value));
        text = rest;
    }
    (parameters, text)
}

fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return take_token(text).map(|(value, rest)| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut symbols = quoted.char_indices();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '"' => return quoted.get(at + 1..).map(|rest| (value, rest)),
            '\\' => value.push(symbols.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offers_of_real_registries_are_understood() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/redis:pull""#;
        assert_eq!(
            Challenge::parse_all(hub),
            [Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
                scope: Some("repository:library/redis:pull".to_owned()),
            }]
        );
        assert_eq!(
            Challenge::parse_all(r#"basic realm="Registry \"A\"""#),
            [Challenge::Basic]
        );
        let both = r#"Negotiate, Basic realm="x", Bearer realm="https://a/b?c=d,e" , service=f"#;
        assert_eq!(
            Challenge::parse_all(both),
            [
                Challenge::Basic,
                Challenge::Bearer {
                    realm: "https://a/b?c=d,e".to_owned(),
                    service: Some("f".to_owned()),
                    scope: None,
                }
            ]
        );
    }

    #[test]
    fn an_offer_without_a_realm_or_with_an_open_quote_is_none() {
        for header in [
            "",
            "Bearer",
            "Bearer service=x",
            r#"Bearer realm="https://a"#,
            r#"Bearer realm="a\"#,
            "=,=,;",
        ] {
            assert_eq!(Challenge::parse_all(header), [], "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_ends(header in r#"[ ,="\\a-zé;B]{0,200}"#) {
            let _offers = Challenge::parse_all(&header);
        }
    }
}
