//! One layer: a tar of binaries, texts, links and a directory tree, compressed with gzip.

use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::Context as _;
use anyhow::Result;
use rand::Rng as _;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::LayerPlan;
use crate::image_layout::Layer;
use crate::image_layout::append_directory;
use crate::image_layout::append_file;
use crate::image_layout::append_link;
use crate::image_layout::write_layer;

/// Largest file of a layer; layers above it have several.
const FILE_BYTES_MAX: u64 = 6 << 20;

/// Bytes of text from which the files of a layer take theirs; far more than gzip's window of 32 KiB.
const TEXT_BYTES: usize = 256 << 10;

/// Makes all layers below `blobs`, on all cores, largest first.
pub(super) fn make_all(plans: &[LayerPlan], blobs: &Path) -> Result<Vec<Layer>> {
    let mut order: Vec<(usize, LayerPlan)> = plans.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, plan)| plan.plain_bytes);
    let todo = Mutex::new(order);
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = todo.lock().ok().and_then(|mut todo| todo.pop());
            let Some((index, plan)) = next else { return };
            let layer = make(plan, blobs);
            if let Ok(mut done) = done.lock() {
                done.push((index, layer));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut done = done
        .into_inner()
        .ok()
        .context("a thread that makes layers died")?;
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, layer)| layer).collect()
}

fn make(plan: LayerPlan, blobs: &Path) -> Result<Layer> {
    write_layer(blobs, &format!("{:016x}", plan.seed), |tar| fill(tar, plan))
}

fn fill(tar: &mut tar::Builder<impl Write>, plan: LayerPlan) -> Result<()> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let text = text(&mut random);
    let name = format!("opt/{:08x}", random.random::<u32>());
    for directory in ["bin/", "opt/", &format!("{name}/")] {
        append_directory(tar, directory)?;
    }
    let program = format!("../{name}/program-0");
    append_link(tar, "bin/run", Path::new(&program))?;
    let mut left = plan.plain_bytes;
    for number in 0.. {
        let size = left.min(random.random_range(FILE_BYTES_MAX / 16..=FILE_BYTES_MAX));
        if size == 0 {
            break;
        }
        left -= size;
        // Two in three bytes are in programs, which hardly compress; the rest is text, which does.
        if number % 3 == 2 {
            let from = Repeat {
                block: &text,
                at: random.random_range(0..text.len()),
            };
            append_file(
                tar,
                &format!("{name}/text-{number}"),
                0o644,
                size,
                from.take(size),
            )?;
        } else {
            append_file(
                tar,
                &format!("{name}/program-{number}"),
                0o755,
                size,
                Noise(&mut random).take(size),
            )?;
        }
    }
    tar.finish()?;
    Ok(())
}

/// Words from a small vocabulary, so that gzip finds something to do.
fn text(random: &mut StdRng) -> Vec<u8> {
    let words: Vec<String> = (0..512)
        .map(|_| {
            format!(
                "{:x} ",
                random.random::<u32>() >> random.random_range(0..24)
            )
        })
        .collect();
    let mut text = Vec::with_capacity(TEXT_BYTES);
    while text.len() < TEXT_BYTES {
        if let Some(word) = words.get(random.random_range(0..words.len())) {
            text.extend_from_slice(word.as_bytes());
        }
    }
    text
}

/// Endless bytes that don't compress.
struct Noise<'a>(&'a mut StdRng);

impl Read for Noise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.fill_bytes(buffer);
        Ok(buffer.len())
    }
}

/// A block again and again, from some place in it.
struct Repeat<'a> {
    block: &'a [u8],
    at: usize,
}

impl Read for Repeat<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.block.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at = if count == rest.len() {
            0
        } else {
            self.at + count
        };
        Ok(count)
    }
}
