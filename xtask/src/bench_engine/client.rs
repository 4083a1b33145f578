//! A small TPM 1.2 client over a Unix socket: raw commands, OIAP and OSAP sessions. It measures what it sends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tpm_crypto::{Drbg, ct_eq, hmac_sha1, sha1};

/// An authorization secret.
pub type Secret = [u8; 20];

/// One end of an authorization session.
pub struct Session {
    /// The TPM's name for it.
    pub handle: u32,
    even: [u8; 20],
    odd: [u8; 20],
    key: [u8; 20],
    keep: bool,
}

impl Session {
    /// A new entity's secret on its way (ADIP with XOR; part 1, section 31.1).
    pub fn hide(&self, secret: &Secret) -> Secret {
        let mut out = *secret;
        out.iter_mut().zip(sha1(&[&self.key, &self.even])).for_each(|(byte, mask)| *byte ^= mask);
        out
    }

    fn proof(&self, digest: &[u8; 20], keep: bool) -> [u8; 20] {
        hmac_sha1(&self.key, &[digest, &self.even, &self.odd, &[keep.into()]])
    }
}

/// A connection to a TPM.
pub struct Client {
    stream: UnixStream,
    rng: Drbg,
    /// How long the last command took, from the first byte sent to the last received.
    pub last: Duration,
}

impl Client {
    /// Connects to a socket that a server listens on.
    pub fn new(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("cannot connect to {}", path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut seed = [0; 48];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(Self { stream, rng: Drbg::new(&seed, b"bench")?, last: Duration::ZERO })
    }

    /// Random bytes.
    pub fn random<const N: usize>(&mut self) -> [u8; N] {
        self.rng.bytes()
    }

    /// The generator, for encryption.
    pub fn rng(&mut self) -> &mut Drbg {
        &mut self.rng
    }

    fn transact(&mut self, tag: u16, ordinal: u32, body: &[u8]) -> Result<Vec<u8>> {
        let size = u32::try_from(10 + body.len())?;
        let packet = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &ordinal.to_be_bytes(), body].concat();
        let mut buffer = [0; 4096];
        let since = Instant::now();
        self.stream.write_all(&packet)?;
        let mut have = 0;
        let size = loop {
            let room = buffer.get_mut(have..).filter(|room| !room.is_empty()).context("the response is too long")?;
            let count = self.stream.read(room).context("no response")?;
            ensure!(count > 0, "the TPM closed the connection");
            have += count;
            if let Some([_, _, size @ .., _, _, _, _]) = buffer.first_chunk::<10>()
                && have >= 10
                && have >= u32::from_be_bytes(*size) as usize
            {
                break u32::from_be_bytes(*size) as usize;
            }
        };
        self.last = since.elapsed();
        let response = buffer.get(..size).context("a response shorter than it says")?;
        let (header, out) = response.split_at_checked(10).context("a response without header")?;
        let code = header.get(6..).unwrap_or_default();
        if code != [0; 4] {
            bail!("the TPM answers command {ordinal:#x} with code {}", u32::from_be_bytes(code.try_into()?));
        }
        Ok(out.to_vec())
    }

    /// A command without authorization.
    pub fn plain(&mut self, ordinal: u32, parameters: &[&[u8]]) -> Result<Vec<u8>> {
        self.transact(0xc1, ordinal, &parameters.concat())
    }

    /// An OIAP session for an entity with this secret.
    pub fn oiap(&mut self, secret: &Secret) -> Result<Session> {
        let out = self.plain(0x0a, &[])?;
        let (handle, even) = (word(&out, 0)?, nonce(&out, 4)?);
        Ok(Session { handle, even, odd: self.random(), key: *secret, keep: true })
    }

    /// An OSAP session for one entity. It is good for one command that brings a new secret.
    pub fn osap(&mut self, kind: u16, value: u32, secret: &Secret) -> Result<Session> {
        let odd: [u8; 20] = self.random();
        let out = self.plain(0x0b, &[&kind.to_be_bytes(), &value.to_be_bytes(), &odd])?;
        let key = hmac_sha1(secret, &[&nonce(&out, 24)?, &odd]);
        Ok(Session { handle: word(&out, 0)?, even: nonce(&out, 4)?, odd: self.random(), key, keep: false })
    }

    /// A command with authorizations; those of the response are verified. `returned` handles come first in the output, outside
    /// of what is authorized.
    pub fn authorized(
        &mut self,
        ordinal: u32,
        handles: &[u32],
        parameters: &[&[u8]],
        sessions: &mut [&mut Session],
        returned: usize,
    ) -> Result<Vec<u8>> {
        let parameters = parameters.concat();
        let digest = sha1(&[&ordinal.to_be_bytes(), &parameters]);
        let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        body.extend(&parameters);
        for session in sessions.iter() {
            body.extend(session.handle.to_be_bytes());
            body.extend(session.odd);
            body.push(session.keep.into());
            body.extend(session.proof(&digest, session.keep));
        }
        let tag = 0xc1 + u16::try_from(sessions.len())?;
        let mut out = self.transact(tag, ordinal, &body)?;
        let trailer = out.split_off(out.len().checked_sub(41 * sessions.len()).context("no authorization returned")?);
        let digest = sha1(&[&[0; 4], &ordinal.to_be_bytes(), out.get(4 * returned..).unwrap_or_default()]);
        for (session, answer) in sessions.iter_mut().zip(trailer.chunks_exact(41)) {
            session.even = nonce(answer, 0)?;
            let keep = answer.get(20) == Some(&1);
            let proof = session.proof(&digest, keep);
            ensure!(
                ct_eq(&proof, answer.get(21..).unwrap_or_default()),
                "the answer to {ordinal:#x} is not authorized"
            );
            session.odd = self.random();
        }
        Ok(out)
    }
}

/// The number at `at`.
pub fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes.get(at..).and_then(|rest| rest.first_chunk()).context("a response that is too short")?;
    Ok(u32::from_be_bytes(*four))
}

fn nonce(bytes: &[u8], at: usize) -> Result<[u8; 20]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().context("a response that is too short")
}

/// A byte string behind its size.
pub fn sized(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[..], data].concat()
}
