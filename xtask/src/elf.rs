//! The little the rig must know of object files: which libraries a program wants, which modules a kernel module wants.

use anyhow::{Context, Result, bail};

fn bytes<const N: usize>(file: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    file.get(at..)?.first_chunk::<N>().copied()
}

fn u16_at(file: &[u8], at: u64) -> Option<u16> {
    bytes(file, at).map(u16::from_le_bytes)
}

fn u32_at(file: &[u8], at: u64) -> Option<u32> {
    bytes(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: u64) -> Option<u64> {
    bytes(file, at).map(u64::from_le_bytes)
}

fn text_at(file: &[u8], at: u64) -> Option<String> {
    let rest = file.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

/// The names of the shared libraries that an x86-64 ELF program or library asks for (empty for a static one or a script).
///
/// Source: ELF-64 Object File Format 1.5, sections 3, 8 and 9.
pub fn libraries(file: &[u8]) -> Result<Vec<String>> {
    if file.get(..5) != Some(b"\x7fELF\x02") {
        return Ok(Vec::new());
    }
    needed(file).context("damaged ELF file")
}

fn needed(file: &[u8]) -> Option<Vec<String>> {
    let (table, size, count) = (u64_at(file, 32)?, u16_at(file, 54)?, u16_at(file, 56)?);
    let mut loads = Vec::new();
    let mut dynamic = None;
    for index in 0..count {
        let at = table.checked_add(u64::from(index) * u64::from(size))?;
        let (kind, offset) = (u32_at(file, at)?, u64_at(file, at + 8)?);
        let (address, length) = (u64_at(file, at + 16)?, u64_at(file, at + 32)?);
        match kind {
            1 => loads.push((address, offset, length)),
            2 => dynamic = Some((offset, length)),
            _ => {}
        }
    }
    let Some((start, length)) = dynamic else {
        return Some(Vec::new());
    };
    let mut names = Vec::new();
    let mut strings = None;
    for index in 0..length / 16 {
        let at = start.checked_add(index * 16)?;
        let (tag, value) = (u64_at(file, at)?, u64_at(file, at + 8)?);
        match tag {
            0 => break,
            1 => names.push(value),
            5 => strings = Some(value),
            _ => {}
        }
    }
    if names.is_empty() {
        return Some(Vec::new());
    }
    let strings = strings?;
    let (address, offset, _) =
        loads.iter().find(|(address, _, length)| strings >= *address && strings - address < *length)?;
    let base = strings - address + offset;
    names.into_iter().map(|name| text_at(file, base.checked_add(name)?)).collect()
}

/// The modules that a kernel module (`.ko`) depends on, from its `depends=` note.
pub fn module_depends(file: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = file.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let text = text_at(file, (at + KEY.len()) as u64).unwrap_or_default();
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The ELF kernel inside a Linux bzImage, still compressed.
///
/// Source: Linux, Documentation/arch/x86/boot.rst: setup_sects (0x1f1), payload_offset (0x248), payload_length (0x24c).
pub fn bzimage_payload(file: &[u8]) -> Result<&[u8]> {
    let find = || {
        let sectors = match *file.get(0x1f1)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let start = (sectors + 1) * 512 + u64::from(u32_at(file, 0x248)?);
        let start = usize::try_from(start).ok()?;
        let length = usize::try_from(u32_at(file, 0x24c)?).ok()?;
        file.get(start..start.checked_add(length)?)
    };
    if file.get(0x202..0x206) != Some(b"HdrS") {
        bail!("not a Linux bzImage");
    }
    find().context("damaged bzImage")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_wants_the_c_library() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(libraries(&file).unwrap().iter().any(|name| name == "libc.so.6"));
        // Cut off anywhere in its tables: an error or nothing, never a panic.
        for length in (0..4096).step_by(7) {
            let _ = libraries(file.get(..length).unwrap());
        }
        assert_eq!(libraries(b"#!/bin/sh\n").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn module_notes_are_read() {
        assert_eq!(
            module_depends(b"license=GPL\0depends=virtio,virtio_ring\0retpoline=Y\0"),
            ["virtio", "virtio_ring"]
        );
        assert_eq!(module_depends(b"license=GPL\0depends=\0"), Vec::<String>::new());
        assert_eq!(module_depends(b""), Vec::<String>::new());
    }

    #[test]
    fn the_payload_of_a_bzimage_is_found() {
        let mut image = vec![0; 4096];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248] = 16;
        image[0x24c] = 3;
        image[1040..1043].copy_from_slice(b"xyz");
        assert_eq!(bzimage_payload(&image).unwrap(), b"xyz");
        assert!(bzimage_payload(image.get(..1042).unwrap()).is_err());
        assert!(bzimage_payload(b"MZ").is_err());
    }
}
