//! Exit codes: one a kind of blame, the same for `bundler`, `installer` and `syncd`.
//!
//! | code | means | what a script does |
//! |---|---|---|
//! | 0 | done | go on |
//! | 2 | usage: command line, configuration, password | correct the call |
//! | 3 | input: the file is damaged, forged, not trusted, too new | ask for another file |
//! | 4 | policy: a rule of the site or of the license says no | ask the vendor |
//! | 5 | machine: disk, memory, permission, a missing program | repair the machine, run again |
//! | 6 | network: a registry or a peer | run again |
//! | 70 | a defect in Sealift | report it |
//!
//! 1 and 101 are left to shells and to the Rust runtime.

use bundle::fault::Blame;

/// Everything was done.
pub const DONE: u8 = 0;

/// The exit code for whose fault an error is.
pub const fn code(blame: Blame) -> u8 {
    match blame {
        Blame::Usage => 2,
        Blame::Input => 3,
        Blame::Policy => 4,
        Blame::Machine => 5,
        Blame::Network => 6,
        Blame::Bug => 70,
    }
}

/// The word for whose fault an error is, as it stands in JSON.
pub const fn word(blame: Blame) -> &'static str {
    match blame {
        Blame::Usage => "usage",
        Blame::Input => "input",
        Blame::Policy => "policy",
        Blame::Machine => "machine",
        Blame::Network => "network",
        Blame::Bug => "bug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_blame_has_its_own_code_that_no_shell_uses() {
        let all = [
            Blame::Usage,
            Blame::Input,
            Blame::Policy,
            Blame::Machine,
            Blame::Network,
            Blame::Bug,
        ];
        let codes: std::collections::BTreeSet<u8> = all.into_iter().map(code).collect();
        assert_eq!(codes.len(), all.len());
        assert!(codes.iter().all(|code| *code > 1 && *code < 101));
    }
}
