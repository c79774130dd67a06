//! The bare words of `install`, as operators have typed them since 2019: `ha`, `load-balancer-address=HOST:PORT`.
//!
//! A word and its flag mean the same, `_` and `-` are equal, and an unknown word is an error. All that happens here is
//! that a known word gets the two dashes that make it a flag; what is left is judged by the command line's own parser.

use std::ffi::OsString;

/// Options of `install` that may be written without dashes.
const WORDS: [&str; 4] = [
    "ha",
    "load-balancer-address",
    "taint-control-plane",
    "license",
];

/// Turns the known bare words after `install` into flags; everything else is left as it is.
pub fn to_flags(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut installing = false;
    let mut flags = Vec::new();
    for argument in arguments {
        let known = installing
            .then(|| argument.to_str().and_then(as_flag))
            .flatten();
        installing |= argument == "install";
        flags.push(known.map_or(argument, OsString::from));
    }
    flags
}

fn as_flag(word: &str) -> Option<String> {
    let bare = word.strip_prefix("--").unwrap_or(word);
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    };
    let name = name.replace('_', "-");
    if !WORDS.contains(&name.as_str()) {
        return None;
    }
    Some(value.map_or_else(|| format!("--{name}"), |value| format!("--{name}={value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> String {
        let words = to_flags(line.split(' ').map(OsString::from));
        words
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn words_and_flags_mean_the_same() {
        let wanted =
            "installer install x.airgap --ha --load-balancer-address=lb:6443 --taint-control-plane";
        for line in [
            "installer install x.airgap ha load-balancer-address=lb:6443 taint-control-plane",
            "installer install x.airgap ha load_balancer_address=lb:6443 taint_control_plane",
            "installer install x.airgap --ha --load_balancer_address=lb:6443 --taint-control_plane",
            wanted,
        ] {
            assert_eq!(flags(line), wanted, "{line}");
        }
    }

    #[test]
    fn other_words_and_other_commands_are_left_alone() {
        for line in [
            "installer install ./ha.airgap hal --json",
            "installer verify ha",
            "installer ha install",
        ] {
            assert_eq!(flags(line), line);
        }
    }
}
