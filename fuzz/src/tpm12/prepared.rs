//! A TPM with an owner, keys, sealed data, an NV area, a counter and open sessions, made once.

use super::client::{AUTH, Client, Session, options, packet, rng, sized};
use std::sync::OnceLock;
use tpm_crypto::rsa::RsaPublic;
use tpm_wire::Engine;
use tpm12::{StartupType, Tpm12};

const SRK: u32 = 0x4000_0000;

struct Prepared {
    permanent: Vec<u8>,
    volatile: Vec<u8>,
    keys: Vec<u32>,
    handles: Vec<u32>,
    public_keys: Vec<Vec<u8>>,
    blobs: Vec<Vec<u8>>,
    transport_secret: Vec<u8>,
    sessions: Vec<Session>,
}

/// The prepared TPM, with another generator for each `seed`.
pub fn client(seed: u8) -> Client {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    let Prepared { permanent, volatile, keys, handles, public_keys, blobs, transport_secret, sessions } =
        PREPARED.get_or_init(prepare);
    let mut client = Client::new(permanent, seed);
    client.tpm.restore_volatile(volatile).expect("a volatile state that was saved");
    (client.handles, client.blobs, client.sessions) = (handles.clone(), blobs.clone(), sessions.clone());
    client.transport_secret.clone_from(transport_secret);
    (client.keys, client.public_keys) = (keys.clone(), public_keys.clone());
    client
}

/// The permanent and the volatile state of the prepared TPM.
pub fn states() -> (Vec<u8>, Vec<u8>) {
    let client = client(0);
    (client.permanent.clone(), client.tpm.save_volatile().to_vec())
}

fn template(usage: u8, enc: u8, sig: u8, bits: u32) -> Vec<u8> {
    let rsa = [&bits.to_be_bytes()[..], &2u32.to_be_bytes(), &[0; 4]].concat();
    [&[1, 1, 0, 0, 0, usage, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, enc, 0, sig][..], &sized(&rsa), &[0; 12]].concat()
}

/// The owner, with a storage root key.
fn take_ownership(client: &mut Client) {
    let (ek, _) = client.execute(0, &packet(0xc1, 0x7c, &[0; 20])).expect("the endorsement key");
    let ek = RsaPublic::new(&ek[28..284], 65537).expect("a public key");
    let secret = || sized(&ek.encrypt_oaep(&mut rng(3), &AUTH).expect("20 bytes"));
    let parameters = [vec![0, 5], secret(), secret(), template(0x11, 3, 1, 2048)].concat();
    client.open(None);
    client.send(0x0d, &[], &parameters, 1).expect("an owner");
}

fn prepare() -> Prepared {
    let mut making = Tpm12::manufacture(rng(2), options());
    let mut made = std::iter::repeat_with(|| making.step()).flatten().next().expect("a TPM");
    let mut client = Client::new(&made.staged().expect("its first state"), 2);
    client.patience = usize::MAX;
    client.tpm.startup(StartupType::Clear).expect("a first start");
    // Physical presence by command, and present.
    for presence in [0x20, 8] {
        client.execute(0, &packet(0xc1, 0x4000_000a, &[0, presence])).expect("presence");
    }
    take_ownership(&mut client);
    client.sessions.clear();
    let (mut keys, mut blobs, mut public_keys) = (Vec::new(), Vec::new(), Vec::new());
    // Legacy keys sign and bind; small ones are quick.
    for (usage, enc, sig) in [(0x10, 1, 2), (0x10, 1, 4), (0x14, 3, 1), (0x15, 2, 2)] {
        client.open(Some((1, SRK)));
        let auths = [client.encrypted(), client.encrypted()].concat();
        let key = client.send(0x1f, &[SRK], &[auths, template(usage, enc, sig, 512)].concat(), 1).expect("a key");
        client.sessions.clear();
        client.open(None);
        let loaded = client.send(0x41, &[SRK], &key, 1).expect("a loaded key");
        keys.push(u32::from_be_bytes(loaded[..4].try_into().expect("a handle")));
        blobs.push(key);
        client.sessions.clear();
    }
    client.open(Some((1, SRK)));
    let sealed = [&client.encrypted()[..], &[0; 4], &sized(b"data")].concat();
    blobs.push(client.send(0x17, &[SRK], &sealed, 1).expect("sealed data"));
    client.sessions.clear();
    client.open(None);
    client.open(Some((2, 0x4000_0001)));
    let identity = [&client.encrypted()[..], &[1; 20], &template(0x12, 1, 2, 2048)].concat();
    blobs.push(client.send(0x79, &[], &identity, 2).expect("an identity"));
    client.sessions.clear();
    for key in [keys[0], keys[3]] {
        client.open(None);
        public_keys.push(client.send(0x21, &[key], &[], 1).expect("a public key"));
        client.sessions.clear();
    }
    let legacy =
        public_keys.last().and_then(|key| RsaPublic::new(&key[28..92], 65537).ok()).expect("a key of 512 bits");
    let secret = [&[0, 0x1d][..], &AUTH].concat();
    let transport_secret = legacy.encrypt_oaep(&mut rng(4), &secret).expect("22 bytes").to_vec();
    client.open(Some((2, 0x4000_0001)));
    let counter = client.send(0xdc, &[], &[&client.encrypted()[..], b"name"].concat(), 1).expect("a counter");
    let handles = vec![u32::from_be_bytes(counter[..4].try_into().expect("a handle"))];
    client.sessions.clear();
    client.open(Some((2, 0x4000_0001)));
    let anywhere = [&[0, 3, 0, 0, 0, 31][..], &[0; 20]].concat();
    let area =
        [&[0, 0x18, 0, 0, 0x10, 0][..], &anywhere, &anywhere, &[0, 0x17, 0, 4, 0, 4, 0, 0, 0, 0, 0, 0, 32]].concat();
    client.send(0xcc, &[], &[&area[..], &client.encrypted()].concat(), 1).expect("an NV area");
    client.sessions.clear();
    for kind in [None, None, Some((1, SRK)), Some((2, 0x4000_0001)), Some((1, keys[0])), Some((1, keys[2]))] {
        client.open(kind);
    }
    let volatile = client.tpm.save_volatile().to_vec();
    Prepared {
        permanent: client.permanent,
        volatile,
        keys,
        handles,
        public_keys,
        blobs,
        transport_secret,
        sessions: client.sessions,
    }
}
