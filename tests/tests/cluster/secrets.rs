//! Nothing secret in a process list, a log or a ConfigMap: looked for by what the secrets look like, not by where they were put.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use tests::bed::Bed;
use tests::real_site;
use tests::scenarios::step;

use crate::story::NODES;
use crate::story::Story;

/// Time between two looks at the process list; a program that runs for less is not seen every time.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Does something, and gives every command line that was seen on the nodes of a bed meanwhile.
pub(crate) fn watching_commands<T>(
    bed: &Bed,
    does: impl FnOnce() -> Result<T>,
) -> Result<(T, BTreeSet<String>)> {
    let is_over = AtomicBool::new(false);
    let mark = format!("/sealift-{}/", bed.id());
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = BTreeSet::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.extend(command_lines(&mark));
                thread::sleep(LOOK_EVERY);
            }
            seen
        });
        let done = does();
        is_over.store(true, Ordering::Relaxed);
        let seen = watcher.join().ok().context("the watcher panicked")?;
        Ok((done?, seen))
    })
}

fn command_lines(mark: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_of_bed = |process: &Path| {
        fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.contains(mark))
    };
    processes
        .map(|process| process.path())
        .filter(|process| is_of_bed(process))
        .filter_map(|process| fs::read(process.join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| !line.is_empty())
        .collect()
}

/// The join tokens that were pasted, and whatever looks like kubeadm's.
pub(crate) fn are_nowhere(story: &mut Story) -> Result<()> {
    let m1 = story.four_nodes()?;
    let tokens = story.tokens().to_vec();
    ensure!(
        tokens.len() == 2 && tokens.iter().all(|token| token.len() > 32),
        "no tokens were found"
    );
    let commands = story.commands();
    ensure!(
        commands.iter().any(|line| line.contains("kubeadm join")),
        "the process list was not watched"
    );
    for line in commands {
        ensure!(!holds_secret(line, &tokens), "a process list showed {line}");
    }
    step("ConfigMaps", || {
        let maps = real_site::objects(&m1, "configmaps -A")?.to_string();
        ensure!(
            tokens.iter().all(|token| !maps.contains(token.as_str())),
            "a ConfigMap holds a join token"
        );
        Ok(())
    })?;
    for name in NODES {
        let node = story.node(name)?;
        step(&format!("{name}: logs"), || {
            let logs = node.output(
                "journalctl --no-pager; find /var/log -type f -size -4M -exec cat {} + | tr -cd '[:print:]\\n'",
            )?;
            for line in logs.lines() {
                ensure!(!holds_secret(line, &tokens), "a log of {name} holds {line}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A token of ours, a bootstrap token `abcdef.0123456789abcdef`, or a certificate key on a command line.
fn holds_secret(line: &str, tokens: &[String]) -> bool {
    tokens.iter().any(|token| line.contains(token.as_str()))
        || line.contains("--certificate-key")
        || line.contains("--discovery-token ")
        || line
            .split(|it: char| !(it.is_ascii_alphanumeric() || it == '.'))
            .any(is_bootstrap_token)
}

fn is_bootstrap_token(word: &str) -> bool {
    let is_plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let has_digit = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit());
    word.split_once('.').is_some_and(|(id, secret)| {
        (id.len(), secret.len()) == (6, 16) && is_plain(id) && is_plain(secret) && has_digit(secret)
    })
}
