//! One layer: a tar of binaries, texts, links and a directory tree, compressed with gzip.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use anyhow::Context as _;
use anyhow::Result;
use bundle::Digest;
use bundle::digest::Hasher;
use flate2::Compression;
use flate2::GzBuilder;
use rand::Rng as _;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tar::EntryType;
use tar::Header;

use super::LayerPlan;

/// A layer on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    /// Of the gzip file: its blob's name.
    pub(super) digest: Digest,
    /// Of the tar inside.
    pub(super) diff_id: Digest,
    /// Bytes of the gzip file.
    pub(super) size: u64,
}

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
    let temporary = blobs.join(format!(".making-{:016x}", plan.seed));
    let file = BufWriter::with_capacity(1 << 20, File::create(&temporary)?);
    let gzip = GzBuilder::new()
        .mtime(0)
        .write(HashingWriter::new(file), Compression::fast());
    let mut tar = tar::Builder::new(HashingWriter::new(gzip));
    fill(&mut tar, plan)?;
    let (gzip, diff_id, _) = tar.into_inner()?.finish();
    let (file, digest, size) = gzip.finish()?.finish();
    file.into_inner().context("write the layer")?;
    fs::rename(&temporary, blobs.join(digest.to_hex()))?;
    Ok(Layer {
        digest,
        diff_id,
        size,
    })
}

fn fill(tar: &mut tar::Builder<impl Write>, plan: LayerPlan) -> Result<()> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let text = text(&mut random);
    let name = format!("opt/{:08x}", random.random::<u32>());
    for directory in ["bin/", "opt/", &format!("{name}/")] {
        append(
            tar,
            directory,
            &header(EntryType::Directory, 0o755, 0),
            io::empty(),
        )?;
    }
    link(tar, "bin/run", &format!("../{name}/program-0"))?;
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
            let header = header(EntryType::Regular, 0o644, size);
            append(
                tar,
                &format!("{name}/text-{number}"),
                &header,
                from.take(size),
            )?;
        } else {
            let header = header(EntryType::Regular, 0o755, size);
            append(
                tar,
                &format!("{name}/program-{number}"),
                &header,
                Noise(&mut random).take(size),
            )?;
        }
    }
    tar.finish()?;
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_793_491_200);
    header.set_size(size);
    header
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    header: &Header,
    content: impl Read,
) -> Result<()> {
    let mut header = header.clone();
    header.set_path(path)?;
    header.set_cksum();
    tar.append(&header, content)?;
    Ok(())
}

fn link(tar: &mut tar::Builder<impl Write>, path: &str, target: &str) -> Result<()> {
    let mut header = header(EntryType::Symlink, 0o777, 0);
    header.set_link_name(target)?;
    append(tar, path, &header, io::empty())
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

/// Hashes and counts what it passes on.
struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::new(),
            size: 0,
        }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += u64::try_from(count).map_err(io::Error::other)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
