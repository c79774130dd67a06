//! Opening a partial: new, continued from its journal, or salvaged by its piece list; and looking at one from outside.

use std::sync::Arc;
use std::sync::Mutex;

use bundle::Digest;
use bundle::limits::BLOB_BYTES_MAX;
use bundle::pieces::Cut;
use bundle::pieces::PieceList;

use super::Journal;
use super::Partial;
use super::Pieces;
use super::missing_piece;
use super::read_piece_of;
use crate::bitmap::Bitmap;
use crate::error::About;
use crate::error::Result;
use crate::error::StoreError;
use crate::fs::Access;
use crate::fs::Fs;
use crate::fs::FsFile;
use crate::fs::read_exact_at;
use crate::journal;
use crate::journal::Frontier;
use crate::journal::Header;
use crate::journal::Replay;
use crate::layout;
use crate::limits;
use crate::staging;
use crate::store::Have;
use crate::store::Store;
use crate::store::lock;

impl<F: Fs> Store<F> {
    /// Opens the partial of a blob, new or where an earlier run stopped; `None` when the blob is complete.
    ///
    /// All callers in this process share one partial; while another process has it the error is `STORE_BUSY`.
    pub fn partial(
        &self,
        digest: &Digest,
        cut: Cut,
        list: Option<PieceList>,
    ) -> Result<Option<Arc<Partial<F>>>> {
        let header = header_of(digest, cut, list.as_ref())?;
        let mut partials = lock(&self.inner.partials);
        if let Some(open) = partials.get(digest).and_then(std::sync::Weak::upgrade) {
            if open.header == header {
                return Ok(Some(open));
            }
            return Err(cut_error(
                digest,
                "it is on its way with another cut or piece list",
            ));
        }
        let path = layout::partial(digest);
        if self.has(digest)? {
            if let Some(_lock) = staging::lock_dir(self.fs(), &path)? {
                let _swept_later = staging::remove_tree(self.fs(), &path);
            }
            return Ok(None);
        }
        staging::ensure_dir(self.fs(), &path)?;
        let guard = staging::lock_dir(self.fs(), &path)?.ok_or_else(|| StoreError::Busy {
            object: format!("blob {digest}"),
        })?;
        // Its owner until now may have published it just before it let go.
        if self.has(digest)? {
            let _swept_later = staging::remove_tree(self.fs(), &path);
            return Ok(None);
        }
        let partial = Arc::new(self.open_locked(header, list, guard)?);
        let salvaged = !lock(&partial.journal).named && !lock(&partial.pieces).present.is_empty();
        partials.insert(*digest, Arc::downgrade(&partial));
        // A checkpoint that fails discards the partial, which takes this lock itself.
        drop(partials);
        if salvaged {
            partial.checkpoint()?;
        }
        Ok(Some(partial))
    }

    fn open_locked(
        &self,
        header: Header,
        list: Option<PieceList>,
        guard: F::File,
    ) -> Result<Partial<F>> {
        let found = match self.open_data(&header)? {
            Some(data) => self
                .continued(&header, list.as_ref(), &data)?
                .map(|found| (data, found)),
            None => None,
        };
        let (data, found) = match found {
            Some(found) => found,
            None => self.started(&header)?,
        };
        let Found {
            present,
            frontier,
            journal,
        } = found;
        Ok(Partial {
            store: self.clone(),
            header,
            list,
            data,
            pieces: Mutex::new(Pieces {
                claimed: present.clone(),
                present,
                fresh_bytes: 0,
                fresh_since: None,
                closed: false,
            }),
            frontier: Mutex::new(frontier),
            journal: Mutex::new(journal),
            _lock: guard,
        })
    }

    /// The data file of an earlier run, when it has the right length.
    fn open_data(&self, header: &Header) -> Result<Option<F::File>> {
        let about = About::new(self.fs(), format!("blob {}", header.digest));
        let path = layout::partial_data(&header.digest);
        let data = match self.fs().open(&path, Access::Write) {
            Ok(data) => data,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about.judge("open", error)),
        };
        let size = data.metadata().map_err(about.failed("look at"))?.size;
        Ok((size == header.cut.length).then_some(data))
    }

    /// What an earlier run has left, as far as it can be believed.
    fn continued(
        &self,
        header: &Header,
        list: Option<&PieceList>,
        data: &F::File,
    ) -> Result<Option<Found<F>>> {
        let replay = self.replay(&header.digest)?;
        if let Some(replay) = replay.filter(|replay| replay.header == *header) {
            return self.resumed(replay).map(Some);
        }
        let Some(list) = list else {
            return Ok(None);
        };
        self.salvaged(header, list, data).map(Some)
    }

    fn resumed(&self, replay: Replay) -> Result<Found<F>> {
        let digest = replay.header.digest;
        let about = About::new(self.fs(), format!("journal of blob {digest}"));
        let file = self
            .fs()
            .open(&layout::partial_journal(&digest), Access::Write)
            .map_err(about.failed("open"))?;
        file.set_len(replay.tail.length)
            .map_err(about.failed("cut"))?;
        Ok(Found {
            journal: Journal {
                file,
                tail: replay.tail,
                base: 0,
                recorded: replay.present.clone(),
                recorded_front: replay.frontier.pieces,
                named: replay.entries > 0,
            },
            present: replay.present,
            frontier: replay.frontier,
        })
    }

    /// The journal is no help: reads all pieces and keeps those that match the list.
    fn salvaged(&self, header: &Header, list: &PieceList, data: &F::File) -> Result<Found<F>> {
        let journal = self.new_journal(header)?;
        let mut present = Bitmap::new(header.cut.count());
        for index in 0..header.cut.count() {
            let piece = read_piece_of(self.fs(), data, header.cut, header.digest, index);
            if piece.is_ok_and(|bytes| list.matches(index, &bytes)) {
                present.insert(index);
            }
        }
        Ok(Found {
            present,
            frontier: Frontier::start(),
            journal,
        })
    }

    /// A new data file with its space reserved, and an empty journal.
    fn started(&self, header: &Header) -> Result<(F::File, Found<F>)> {
        let (digest, length) = (header.digest, header.cut.length);
        let object = format!("blob {digest}");
        let _old = self.fs().remove_file(&layout::partial_data(&digest));
        let made = self.require_space(&object, length).and_then(|()| {
            let about = About::new(self.fs(), &object).needs(length);
            let data = self
                .fs()
                .open(&layout::partial_data(&digest), Access::CreateNew)
                .map_err(about.failed("create"))?;
            data.allocate(length).map_err(about.failed("allocate"))?;
            Ok((data, self.new_journal(header)?))
        });
        match made {
            Ok((data, journal)) => Ok((
                data,
                Found {
                    present: Bitmap::new(header.cut.count()),
                    frontier: Frontier::start(),
                    journal,
                },
            )),
            Err(error) => {
                // Half-reserved space would be in the way of other blobs.
                let _swept_later = staging::remove_tree(self.fs(), &layout::partial(&digest));
                Err(error)
            }
        }
    }

    fn new_journal(&self, header: &Header) -> Result<Journal<F>> {
        let about = About::new(self.fs(), format!("journal of blob {}", header.digest));
        let path = layout::partial_journal(&header.digest);
        let _old = self.fs().remove_file(&path);
        let file = self
            .fs()
            .open(&path, Access::CreateNew)
            .map_err(about.failed("create"))?;
        let (bytes, tail) = header.encode();
        file.write_at(&bytes, 0).map_err(about.failed("write"))?;
        Ok(Journal {
            file,
            tail,
            base: 0,
            recorded: Bitmap::new(header.cut.count()),
            recorded_front: 0,
            named: false,
        })
    }

    fn replay(&self, digest: &Digest) -> Result<Option<Replay>> {
        let about = About::new(self.fs(), format!("journal of blob {digest}"));
        let path = layout::partial_journal(digest);
        let file = match self.fs().open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(about.judge("open", error)),
        };
        let size = file.metadata().map_err(about.failed("look at"))?.size;
        if size > limits::JOURNAL_READ_BYTES_MAX {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        // A journal that can't be read is as good as none; the piece list tells what is there.
        let read = read_exact_at(&file, &mut bytes, 0);
        Ok(read.ok().and_then(|()| journal::replay(&bytes)))
    }

    /// How much of a blob this store can serve.
    pub fn have(&self, digest: &Digest) -> Result<Have> {
        if self.has(digest)? {
            return Ok(Have::Complete);
        }
        let pieces = match self.open_partial(digest) {
            Some(open) if open.list().is_some() => Some(open.pieces()),
            Some(_unverified) => None,
            None => self.left_behind(digest)?.map(|(replay, _)| replay.present),
        };
        Ok(match pieces {
            Some(pieces) if !pieces.is_empty() => Have::Partial(pieces),
            Some(_) | None => Have::Nothing,
        })
    }

    /// Reads a verified piece of an unfinished blob.
    pub fn read_partial_piece(&self, digest: &Digest, index: u64) -> Result<Vec<u8>> {
        if let Some(open) = self.open_partial(digest) {
            return open.read_piece(index);
        }
        let (replay, list) = self
            .left_behind(digest)?
            .filter(|(replay, _)| replay.present.contains(index))
            .ok_or_else(|| missing_piece(digest, index))?;
        let about = About::new(self.fs(), format!("piece {index} of blob {digest}"));
        let data = self
            .fs()
            .open(&layout::partial_data(digest), Access::Read)
            .map_err(about.failed("open"))?;
        let bytes = read_piece_of(self.fs(), &data, replay.header.cut, *digest, index)?;
        if list.matches(index, &bytes) {
            return Ok(bytes);
        }
        Err(StoreError::Piece {
            digest: *digest,
            index,
        })
    }

    /// The blobs that have a partial, sorted.
    pub fn partials(&self) -> Result<Vec<Digest>> {
        let about = About::new(self.fs(), layout::INCOMING);
        let names = self.fs().list(layout::INCOMING);
        let names = names.map_err(about.failed("list"))?;
        Ok(names
            .iter()
            .filter_map(|name| Digest::from_hex(name).ok())
            .collect())
    }

    /// Removes partials that nobody has open and nobody wants; told are those that are gone.
    pub fn discard_partials(&self, wanted: impl Fn(&Digest) -> bool) -> Result<Vec<Digest>> {
        let mut gone = Vec::new();
        for digest in self.partials()? {
            let path = layout::partial(&digest);
            if !wanted(&digest)
                && let Some(_lock) = staging::lock_dir(self.fs(), &path)?
            {
                staging::remove_tree(self.fs(), &path)
                    .map_err(About::new(self.fs(), &path).failed("discard"))?;
                gone.push(digest);
            }
        }
        Ok(gone)
    }

    fn open_partial(&self, digest: &Digest) -> Option<Arc<Partial<F>>> {
        lock(&self.inner.partials)
            .get(digest)
            .and_then(std::sync::Weak::upgrade)
    }

    /// The journal of a partial that nobody in this process has open, and its piece list when that is here.
    fn left_behind(&self, digest: &Digest) -> Result<Option<(Replay, PieceList)>> {
        let Some(replay) = self.replay(digest)? else {
            return Ok(None);
        };
        let Some(list) = replay.header.list else {
            return Ok(None);
        };
        if replay.header.digest != *digest || !self.has(&list)? {
            return Ok(None);
        }
        let bytes = self.read_blob(&list, replay.header.cut.list_bytes())?;
        let list = PieceList::parse(&bytes).ok();
        Ok(list
            .filter(|list| list.cut() == replay.header.cut)
            .map(|list| (replay, list)))
    }
}

/// What a partial begins with.
struct Found<F: Fs> {
    present: Bitmap,
    frontier: Frontier,
    journal: Journal<F>,
}

fn header_of(digest: &Digest, cut: Cut, list: Option<&PieceList>) -> Result<Header> {
    if !journal::PIECE_LOG2.contains(&cut.piece_log2)
        || cut.length > BLOB_BYTES_MAX
        || cut.count() > limits::PIECES_MAX
    {
        return Err(cut_error(digest, "too long, or too many pieces"));
    }
    if list.is_some_and(|list| list.cut() != cut) {
        return Err(cut_error(digest, "the piece list is of another length"));
    }
    Ok(Header {
        digest: *digest,
        cut,
        list: list.map(|list| Digest::of(&list.to_bytes())),
    })
}

fn cut_error(digest: &Digest, why: &str) -> StoreError {
    StoreError::Cut {
        digest: *digest,
        why: why.to_owned(),
    }
}
