//! The canonical tar header: the one way in which a member of a bundle is written.
//!
//! A reader builds the header that it expects and compares all 512 bytes, so nothing in a header is interpreted and the
//! differences between tar readers (PAX, GNU names, sparse files, links) can't be reached. The head's members are the
//! exception: their names and sizes aren't known before, so [`HeadHeader::parse`] takes these two fields and then
//! requires the same equality.
//!
//! ustar (POSIX.1-1988): name below 100 bytes, mode 0644, uid and gid 0, no owner names, mtime 0, type `0`, size in
//! octal, from 8 GiB in base-256 as GNU tar and Python write it.

/// Bytes of a header and of the unit in which members are padded.
pub const BLOCK_BYTES: usize = 512;

/// The end of an archive: two zero blocks.
pub const END_BYTES: u64 = 1024;

/// A member's header.
pub type Header = [u8; BLOCK_BYTES];

/// The largest size that 11 octal digits hold, and one more.
const OCTAL_SIZE_END: u64 = 1 << 33;

/// The longest name that fits the ustar field.
const NAME_BYTES_MAX: usize = 100;

/// Builds the header of a member; `None` when the name does not fit.
pub fn header(name: &str, size: u64) -> Option<Header> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let size_field = if size < OCTAL_SIZE_END {
        <[u8; 12]>::try_from(format!("{size:011o}\0").as_bytes()).ok()?
    } else {
        let mut field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
        field
    };
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    bytes.extend_from_slice(name.as_bytes());
    bytes.resize(NAME_BYTES_MAX, 0);
    bytes.extend_from_slice(b"0000644\0"); // mode
    bytes.extend_from_slice(b"0000000\0"); // uid
    bytes.extend_from_slice(b"0000000\0"); // gid
    bytes.extend_from_slice(&size_field);
    bytes.extend_from_slice(b"00000000000\0"); // mtime
    bytes.extend_from_slice(b"        "); // checksum, counted as spaces
    bytes.push(b'0'); // a regular file
    bytes.resize(257, 0); // no link name
    bytes.extend_from_slice(b"ustar\x0000"); // magic and version
    bytes.resize(329, 0); // no owner names
    bytes.extend_from_slice(b"0000000\x000000000\0"); // device numbers
    bytes.resize(BLOCK_BYTES, 0);
    let checksum: u32 = bytes.iter().copied().map(u32::from).sum();
    let checksum = format!("{checksum:06o}\0 ");
    bytes
        .get_mut(148..156)?
        .copy_from_slice(checksum.as_bytes());
    Header::try_from(bytes).ok()
}

/// Zero bytes behind a member of `size` bytes.
pub const fn padding(size: u64) -> u64 {
    size.next_multiple_of(512) - size
}

/// Bytes that a member of `size` bytes takes, header and padding included.
pub const fn member_bytes(size: u64) -> u64 {
    512 + size + padding(size)
}

/// The name and size of a head member, taken from a header that is the canonical one for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadHeader<'a> {
    /// The name.
    pub name: &'a str,
    /// The size.
    pub size: u64,
}

impl<'a> HeadHeader<'a> {
    /// Takes name and size; `None` unless the canonical header for these is exactly `bytes`.
    pub fn parse(bytes: &'a Header) -> Option<Self> {
        let name_field = bytes.get(..NAME_BYTES_MAX)?;
        let name = name_field.split(|byte| *byte == 0).next()?;
        let name = std::str::from_utf8(name).ok()?;
        let size = std::str::from_utf8(bytes.get(124..135)?).ok()?;
        let size = u64::from_str_radix(size, 8).ok()?;
        (header(name, size)? == *bytes).then_some(Self { name, size })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_what_gnu_tar_writes() {
        // tar --format=ustar --sort=name --owner=:0 --group=:0 --mode=0644 --mtime=@0 --numeric-owner -cf - abc
        let header = header("abc", 5).unwrap();
        assert_eq!(&header[..4], b"abc\0");
        assert_eq!(
            &header[100..157],
            b"0000644\x000000000\x000000000\x0000000000005\x0000000000000\x00007650\x00 0"
        );
        assert_eq!(&header[257..265], b"ustar\x0000");
        assert_eq!(&header[329..345], b"0000000\x000000000\x00");
        assert!(header[345..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_size_beyond_octal_is_base_256() {
        assert_eq!(
            &header("a", (1 << 33) - 1).unwrap()[124..136],
            b"77777777777\0"
        );
        assert_eq!(
            &header("a", 1 << 33).unwrap()[124..136],
            &[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0],
        );
    }

    #[test]
    fn a_name_that_does_not_fit_has_no_header() {
        assert!(header(&"a".repeat(100), 0).is_some());
        assert!(header(&"a".repeat(101), 0).is_none());
        assert!(header("", 0).is_none());
    }

    #[test]
    fn any_other_header_of_the_same_member_is_refused() {
        let good = header("bundle.json", 1234).unwrap();
        assert_eq!(
            HeadHeader::parse(&good),
            Some(HeadHeader {
                name: "bundle.json",
                size: 1234
            })
        );
        for at in 0..BLOCK_BYTES {
            for bit in 0..8 {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                assert_eq!(HeadHeader::parse(&bad), None, "byte {at} bit {bit}");
            }
        }
        assert_eq!(HeadHeader::parse(&[0; BLOCK_BYTES]), None);
    }

    proptest! {
        #[test]
        fn a_changed_header_is_the_canonical_one_of_what_it_says(
            edits in proptest::collection::vec((0..BLOCK_BYTES, any::<u8>()), 0..4),
            fix_checksum: bool,
        ) {
            let mut bytes = header("bundle.json", 1234).unwrap();
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            if fix_checksum {
                bytes[148..156].copy_from_slice(b"        ");
                let sum: u32 = bytes.iter().copied().map(u32::from).sum();
                bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
            if let Some(parsed) = HeadHeader::parse(&bytes) {
                prop_assert_eq!(header(parsed.name, parsed.size), Some(bytes));
            }
        }

        #[test]
        fn padding_fills_a_block(size in 0_u64..1 << 40) {
            prop_assert_eq!((size + padding(size)) % 512, 0);
            prop_assert!(padding(size) < 512);
            prop_assert_eq!(member_bytes(size), 512 + size + padding(size));
        }
    }
}
