//! A guest's console and the TPM 1.2 commands that are sent through it.
//!
//! The guest carries out the lines that come over its console (`xtask/qemu/init`), so that all decisions are here and the
//! conversation goes on with another QEMU after a migration.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::eventlog::{Digest, hex};

/// The longest time for one line; making keys takes long in an emulated machine.
const LINE: Duration = Duration::from_secs(60);
/// The longest time from power-on, or from a reboot, to the guest's first word.
pub const BOOT: Duration = Duration::from_secs(150);

/// Permission bits of an NV area (TPM Main 1.2, part 2, section 19.2).
pub mod nv {
    /// Written with physical presence.
    pub const PP_WRITE: u32 = 1;
    /// Written by the owner, and therefore deleted when the TPM is cleared.
    pub const OWNER_WRITE: u32 = 2;
}

/// The console of a guest.
pub struct Guest {
    stream: UnixStream,
    log: File,
    unread: Vec<u8>,
}

impl Guest {
    /// Connects to QEMU's end of the console; everything that is said is also written to `log`.
    pub fn connect(socket: &Path, log: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("no console at {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let log = File::options().create(true).append(true).open(log)?;
        Ok(Self { stream, log, unread: Vec::new() })
    }

    /// Waits for the guest's first word after power-on or a reboot.
    pub fn ready(&mut self) -> Result<()> {
        let (_, word) = self.until_mark(BOOT).context("the guest did not come up")?;
        ensure!(word == "ready", "the guest said @@{word} instead of @@ready");
        Ok(())
    }

    /// Starts a line without waiting for its end.
    pub fn begin(&mut self, line: &str) -> Result<()> {
        self.stream.write_all(format!("{line}\n").as_bytes()).context("the console is closed")
    }

    /// Waits for the end of the line that [`Guest::begin`] started; its output.
    pub fn finish(&mut self, limit: Duration) -> Result<String> {
        let (output, status) = self.until_mark(limit)?;
        ensure!(status == "0", "status {status}: {output}");
        Ok(output)
    }

    /// Runs a line of shell script; its output, or an error if its status is not 0.
    pub fn run(&mut self, line: &str) -> Result<String> {
        self.begin(line)?;
        self.finish(LINE).with_context(|| format!("the guest's `{line}`"))
    }

    /// Sends one command to the TPM; the response without its header, or an error if the TPM refuses.
    pub fn tpm(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let output = self.run(&format!("tpm {}", hex(command)))?;
        let response = unhex(&output).with_context(|| format!("the response is not hexadecimal: {output}"))?;
        let (size, code) = (number(&response, 2)?, number(&response, 6)?);
        ensure!(size as usize == response.len(), "a response of {} bytes says it has {size}", response.len());
        ensure!(code == 0, "the TPM answers {} with {code:#x}", hex(command));
        Ok(response.get(10..).unwrap_or_default().to_vec())
    }

    /// `TPM_Startup(ST_CLEAR)`, for machines whose firmware does not send it.
    pub fn startup(&mut self) -> Result<()> {
        self.tpm(&command(0x99, &[&[0, 1]])).map(drop)
    }

    /// `TPM_PCRRead`.
    pub fn pcr(&mut self, index: u32) -> Result<Digest> {
        digest(&self.tpm(&command(0x15, &[&index.to_be_bytes()]))?)
    }

    /// `TPM_Extend`; the PCR's new value.
    pub fn extend(&mut self, index: u32, value: &Digest) -> Result<Digest> {
        digest(&self.tpm(&extend_command(index, value))?)
    }

    /// `TPM_NV_DefineSpace` of an area for anyone, at any locality and with any PCRs, as long as the NV storage is unlocked.
    pub fn nv_define(&mut self, index: u32, size: u32, permission: u32) -> Result<()> {
        let every_locality = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
        let body: [&[u8]; 9] = [
            &[0, 0x18],
            &index.to_be_bytes(),
            &every_locality,
            &every_locality,
            &[0, 0x17],
            &permission.to_be_bytes(),
            &[0, 0, 0],
            &size.to_be_bytes(),
            &[0; 20],
        ];
        self.tpm(&command(0xcc, &body)).map(drop)
    }

    /// `TPM_NV_WriteValue` from the area's start.
    pub fn nv_write(&mut self, index: u32, bytes: &[u8]) -> Result<()> {
        let size = u32::try_from(bytes.len())?;
        self.tpm(&command(0xcd, &[&index.to_be_bytes(), &[0; 4], &size.to_be_bytes(), bytes])).map(drop)
    }

    /// `TPM_NV_ReadValue` from the area's start.
    pub fn nv_read(&mut self, index: u32, size: u32) -> Result<Vec<u8>> {
        let response = self.tpm(&nv_read_command(index, size))?;
        Ok(response.get(4..).unwrap_or_default().to_vec())
    }

    /// Waits until the console, or firmware on it, says `words`; what came before, and they.
    pub fn heard(&mut self, words: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let text = String::from_utf8_lossy(&self.unread).into_owned();
            if let Some((before, after)) = text.split_once(words) {
                self.unread = after.as_bytes().to_vec();
                return Ok(format!("{before}{words}"));
            }
            self.listen(end).with_context(|| format!("waiting for {words:?}"))?;
        }
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str) -> Result<()> {
        self.stream.write_all(key.as_bytes()).context("the console is closed")
    }

    /// What comes before the next "@@" line, and what that line says.
    fn until_mark(&mut self, limit: Duration) -> Result<(String, String)> {
        let end = Instant::now() + limit;
        loop {
            let text = String::from_utf8_lossy(&self.unread).replace('\r', "");
            if let Some((before, rest)) = text.split_once("@@")
                && let Some((word, after)) = rest.split_once('\n')
            {
                let parts = (before.trim().to_owned(), word.trim().to_owned());
                self.unread = after.as_bytes().to_vec();
                return Ok(parts);
            }
            self.listen(end)?;
        }
    }

    /// Adds what the console says to what is unread; an error when it says nothing until `end`.
    fn listen(&mut self, end: Instant) -> Result<()> {
        let last_words = |unread: &[u8]| {
            let from = unread.len().saturating_sub(600);
            String::from_utf8_lossy(unread.get(from..).unwrap_or_default()).into_owned()
        };
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => bail!("QEMU closed the console; last words: {:?}", last_words(&self.unread)),
            Ok(count) => {
                let part = part.get(..count).unwrap_or_default();
                self.log.write_all(part)?;
                self.unread.extend_from_slice(part);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => (),
            Err(error) => return Err(error).context("cannot read the console"),
        }
        ensure!(Instant::now() < end, "out of time; last words: {:?}", last_words(&self.unread));
        Ok(())
    }
}

/// `TPM_Extend`'s bytes (part 3, section 16.1).
pub fn extend_command(index: u32, value: &Digest) -> Vec<u8> {
    command(0x14, &[&index.to_be_bytes(), value])
}

/// `TPM_NV_ReadValue`'s bytes (section 20.4).
pub fn nv_read_command(index: u32, size: u32) -> Vec<u8> {
    command(0xcf, &[&index.to_be_bytes(), &[0; 4], &size.to_be_bytes()])
}

/// A command without authorization: tag, size, ordinal, body.
pub fn command(ordinal: u32, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let size = u32::try_from(body.len()).map_or(u32::MAX, |size| size.saturating_add(10));
    [&[0, 0xc1][..], &size.to_be_bytes(), &ordinal.to_be_bytes(), &body].concat()
}

fn digest(bytes: &[u8]) -> Result<Digest> {
    bytes.try_into().with_context(|| format!("not a digest: {}", hex(bytes)))
}

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk()).context("the response is too short")?;
    Ok(u32::from_be_bytes(*part))
}

/// The bytes of hexadecimal digits; `None` when there is anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
