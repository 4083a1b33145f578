//! From the chip to a guest's PCRs, and everything that does not lead there.

mod common;

use attest::{
    AttestError, Bank, Chain, Claims, Deep, Endorsement, EndorsementKey, Request, Subject, deep_data, endorsement_data,
};
use common::{Signer, values, vtpm_ek};
use tpm_crypto::sha1;
use tpm_wire::mgr::quote_flags;

const UUID: [u8; 16] = [0xac; 16];
const OTHER: [u8; 16] = [0xad; 16];
const NONCE: [u8; 20] = [0x4e; 20];
const PCRS: u32 = 0b1001;
const FLAGS: u32 = Chain::FLAGS;

/// What the manager answers a vTPM with this UUID.
fn quote(signer: &Signer, uuid: &[u8; 16], data: [u8; 20], flags: u32) -> Vec<u8> {
    let request =
        Request { subject: Subject::Vtpm, data, pcrs: PCRS, bank: signer.bank(), flags, claims: &Claims::default() };
    let hashes = if flags & quote_flags::UUID == 0 { vec![] } else { vec![sha1(&[uuid])] };
    signer.answer(&request, &hashes, &values(PCRS, signer.bank()))
}

const OWN: [(u8, [u8; 20]); 3] = [(0, [1; 20]), (10, [2; 20]), (23, [3; 20])];

type Pcrs = Vec<(u8, [u8; 20])>;

struct World {
    signer: Signer,
    ek: EndorsementKey,
    own: Pcrs,
    /// Of the run that made the vTPM.
    endorsement: Vec<u8>,
    deep: Vec<u8>,
}

impl World {
    fn new(signer: Signer) -> Self {
        let ek = vtpm_ek(0x81);
        let endorsement = quote(&signer, &UUID, endorsement_data(ek.encoded(), &[1; 20]), FLAGS);
        let deep = quote(&signer, &UUID, deep_data(&NONCE, &OWN).unwrap(), FLAGS);
        Self { signer, ek, own: OWN.to_vec(), endorsement, deep }
    }

    fn verify_as(&self, change: impl FnOnce(&mut Chain<'_>)) -> Result<attest::Proven, AttestError> {
        let (key, claims) = (self.signer.key(), Claims::default());
        let endorsement =
            Endorsement { key: &self.ek, nonce: [1; 20], pcrs: PCRS, flags: FLAGS, answer: &self.endorsement };
        let deep = Deep { nonce: NONCE, own: &self.own, pcrs: PCRS, flags: FLAGS, answer: &self.deep };
        let bank = self.signer.bank();
        let mut chain = Chain { key: &key, uuid: UUID, bank, claims: &claims, endorsement, deep };
        change(&mut chain);
        chain.verify()
    }

    fn verify(&self) -> Result<attest::Proven, AttestError> {
        self.verify_as(|_| ())
    }
}

/// What a quote over other data fails with.
fn other_data(signer: &Signer) -> AttestError {
    if signer.key().is_v20() { AttestError::ExternalData } else { AttestError::Signature }
}

#[test]
fn an_honest_chain_shows_the_vtpms_pcrs() {
    for signer in Signer::all() {
        let world = World::new(signer);
        let proven = world.verify().unwrap();
        assert_eq!(proven.own, OWN);
        assert_eq!(proven.now.pcrs, proven.then.pcrs);
        assert_eq!(proven.now.pcrs.len(), 2);
    }
}

#[test]
fn another_vtpms_endorsement_key_pcrs_or_name() {
    for signer in Signer::all() {
        let mut world = World::new(signer);
        let (claim, data) = (AttestError::Claim { what: "UUID" }, other_data(&world.signer));
        // The name of another.
        assert_eq!(world.verify_as(|chain| chain.uuid = OTHER), Err(claim));
        // Its key, without and with its own statement.
        let (ek, endorsement) = (world.ek.clone(), world.endorsement.clone());
        world.ek = vtpm_ek(0x91);
        assert_eq!(world.verify(), Err(data));
        world.endorsement = quote(&world.signer, &OTHER, endorsement_data(world.ek.encoded(), &[1; 20]), FLAGS);
        assert_eq!(world.verify(), Err(claim));
        (world.ek, world.endorsement) = (ek, endorsement);
        // Its PCRs.
        world.deep = quote(&world.signer, &OTHER, deep_data(&NONCE, &OWN).unwrap(), FLAGS);
        assert_eq!(world.verify(), Err(claim));
    }
}

#[test]
fn statements_that_do_not_say_whose_they_are_prove_nothing() {
    for signer in Signer::all() {
        let no_claim = AttestError::NoClaim { what: "UUID" };
        let mut world = World::new(signer);
        let honest = world.endorsement.clone();
        world.endorsement = quote(&world.signer, &UUID, endorsement_data(world.ek.encoded(), &[1; 20]), 0);
        assert_eq!(world.verify_as(|chain| chain.endorsement.flags = 0), Err(no_claim));
        assert!(world.verify().is_err());
        world.endorsement = honest;
        world.deep = quote(&world.signer, &UUID, deep_data(&NONCE, &OWN).unwrap(), 0);
        assert_eq!(world.verify_as(|chain| chain.deep.flags = 0), Err(no_claim));
    }
}

#[test]
fn replayed_swapped_and_forged_statements() {
    for signer in Signer::all() {
        let data = other_data(&signer);
        let mut world = World::new(signer);
        // An old one.
        assert_eq!(world.verify_as(|chain| chain.deep.nonce = [0; 20]), Err(data));
        assert_eq!(world.verify_as(|chain| chain.endorsement.nonce = [0; 20]), Err(data));
        // One in place of the other.
        let swapped = world.verify_as(|chain| {
            core::mem::swap(&mut chain.endorsement.answer, &mut chain.deep.answer);
        });
        assert_eq!(swapped, Err(data));
        // Other PCRs than the vTPM has: a value, an index, fewer, more.
        let changes: [fn(&mut Pcrs); 5] = [
            |own| own[1].1[0] ^= 1,
            |own| own[1].0 = 11,
            |own| own.truncate(2),
            |own| own.clear(),
            |own| own.insert(1, (5, [0; 20])),
        ];
        for change in changes {
            let honest = world.own.clone();
            change(&mut world.own);
            assert_eq!(world.verify(), Err(data));
            world.own = honest;
        }
        // PCR lists that are none.
        for own in [vec![(1, [0; 20]), (0, [0; 20])], vec![(1, [0; 20]); 2], vec![(24, [0; 20])], vec![(255, [0; 20])]]
        {
            let honest = core::mem::replace(&mut world.own, own);
            assert_eq!(world.verify(), Err(AttestError::OwnPcrs));
            world.own = honest;
        }
        // Other PCRs of the chip, and another chip.
        assert!(world.verify_as(|chain| chain.deep.pcrs = 0b1010).is_err());
        assert!(world.verify_as(|chain| chain.bank = Bank::Sha384).is_err());
        let stranger = Signer::Ecc20(tpm_crypto::ecc::P256Private::from_bytes(&[3; 32]).ok().unwrap()).key();
        let deep = world.deep.clone();
        let claims = Claims::default();
        let chain = Chain {
            key: &stranger,
            uuid: UUID,
            bank: world.signer.bank(),
            claims: &claims,
            endorsement: Endorsement {
                key: &world.ek,
                nonce: [1; 20],
                pcrs: PCRS,
                flags: FLAGS,
                answer: &world.endorsement,
            },
            deep: Deep { nonce: NONCE, own: &world.own, pcrs: PCRS, flags: FLAGS, answer: &deep },
        };
        assert!(chain.verify().is_err());
    }
}

/// The data that a chip signs, worked out by hand from the structures of the specification.
#[test]
fn what_is_signed_along() {
    let values = [[1; 20], [2; 20], [3; 20]].concat();
    let composite = sha1(&[&[0, 3, 0x01, 0x04, 0x80, 0, 0, 0, 60], &values]);
    let want = sha1(&[&[0, 0, 0, 0], b"DQUT", &NONCE, &[0, 3, 0x01, 0x04, 0x80, 1], &composite]);
    assert_eq!(deep_data(&NONCE, &OWN), Some(want));
}
