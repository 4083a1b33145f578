use super::super::tests::*;
use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, rng, send, stranger};
use alloc::vec::Vec;
use tpm_crypto::sha1;

/// A key that two authorities may migrate: one by being the destination, the other by its signature.
struct Scene {
    tpm: Tpm12,
    /// The migration authority's handle and `TPM_PUBKEY`.
    authority: u32,
    authority_pub: Vec<u8>,
    /// The selection authority's `TPM_PUBKEY`: a key outside.
    signer_pub: Vec<u8>,
    list: Vec<u8>,
    key: Vec<u8>,
    /// Digest of the key's `TPM_PUBKEY`.
    source: [u8; 20],
}

fn approve(tpm: &mut Tpm12, list: &[u8]) -> Vec<u8> {
    let mut owner = oiap(tpm, OWNER);
    call(tpm, ord::CMK_APPROVE_MA, &[], &[&sha1(&[list])], &mut [&mut owner]).unwrap()
}

fn create(tpm: &mut Tpm12, template: &[u8], approval: &[u8], list: &[u8]) -> Result<Vec<u8>, u32> {
    let mut auth = osap(tpm, 1, SRK, SRK_AUTH);
    let usage = auth.encrypt(&KEY_AUTH, false);
    let out = call(tpm, ord::CMK_CREATE_KEY, &[SRK], &[&usage, template, approval, &sha1(&[list])], &mut [&mut auth])?;
    assert!(!auth.keep, "the session ends");
    Ok(out)
}

fn scene() -> Scene {
    let mut tpm = owned();
    let (authority, blob) = new_key(&mut tpm, &template(0x16, 0, 1, 3, 1, 2048));
    let authority_pub = pubkey(&public_of(&blob).modulus(), 3, 1);
    let signer_pub = pubkey(&outside().public().modulus(), 1, 2);
    let list = [&2u32.to_be_bytes()[..], &sha1(&[&authority_pub]), &sha1(&[&signer_pub])].concat();
    let approval = approve(&mut tpm, &list);
    let key = create(&mut tpm, &template12(0x10, 0x12, 1, 2, 1024, &[]), &approval, &list).unwrap();
    let source = sha1(&[&pubkey(&public_of(&key).modulus(), 1, 2)]);
    Scene { tpm, authority, authority_pub, signer_pub, list, key, source }
}

impl Scene {
    /// The restriction that the signer signs, and its signature.
    fn restriction(&self, destination: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let ticket = [sha1(&[&self.signer_pub]), sha1(&[destination]), self.source].concat();
        let signature = outside().sign_pkcs1_sha1(&mut rng(3), &sha1(&[&ticket])).unwrap();
        (ticket, signature)
    }

    fn create_blob(
        &mut self,
        scheme: u16,
        destination: &[u8],
        restriction: &[u8],
        ticket: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), u32> {
        let (source, list, key) = (self.source, self.list.clone(), self.key.clone());
        self.create_blob_of(scheme, destination, &source, &list, restriction, ticket, &key)
    }

    #[expect(clippy::too_many_arguments, reason = "the command has so many parameters")]
    fn create_blob_of(
        &mut self,
        scheme: u16,
        destination: &[u8],
        source: &[u8; 20],
        list: &[u8],
        restriction: &[u8],
        ticket: &[u8],
        key: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), u32> {
        let mut parent = oiap(&mut self.tpm, SRK_AUTH);
        let (list, restriction, ticket) = (sized(list), sized(restriction), sized(ticket));
        let parameters: [&[u8]; 7] =
            [&scheme.to_be_bytes(), destination, source, &list, &restriction, &ticket, enc_part(key)];
        Ok(two(&call(&mut self.tpm, ord::CMK_CREATE_BLOB, &[SRK], &parameters, &mut [&mut parent])?))
    }

    fn convert(
        &self,
        to: &mut Tpm12,
        restriction: &[u8],
        ticket: &[u8],
        data: &[u8],
        random: &[u8],
    ) -> Result<Vec<u8>, u32> {
        let mut parent = oiap(to, SRK_AUTH);
        let migrated = rewrapped(&self.key, &sized(data));
        let parameters: [&[u8]; 5] = [restriction, ticket, &migrated, &sized(&self.list), &sized(random)];
        call(to, ord::CMK_CONVERT_MIGRATION, &[SRK], &parameters, &mut [&mut parent])
    }
}

fn sig_ticket(tpm: &mut Tpm12, key: &[u8], restriction: &[u8], signature: &[u8]) -> Result<Vec<u8>, u32> {
    let mut owner = oiap(tpm, OWNER);
    let parameters: [&[u8]; 3] = [key, &sha1(&[restriction]), &sized(signature)];
    call(tpm, ord::CMK_CREATE_TICKET, &[], &parameters, &mut [&mut owner])
}

#[test]
fn a_certified_key_works_where_it_was_made_and_has_no_other_way_out() {
    let mut scene = scene();
    check_signing(&mut scene.tpm, &scene.key.clone());
    let destination = authorize_destination(&mut scene.tpm, 1, &scene.authority_pub).unwrap();
    let (mut parent, mut migration) = (oiap(&mut scene.tpm, SRK_AUTH), oiap(&mut scene.tpm, MIGRATION_AUTH));
    let parameters: [&[u8]; 3] = [&[0, 1], &destination, enc_part(&scene.key)];
    let both = &mut [&mut parent, &mut migration];
    assert_eq!(call(&mut scene.tpm, ord::CREATE_MIGRATION_BLOB, &[SRK], &parameters, both), Err(41));
}

#[test]
fn it_migrates_through_its_authority() {
    let (mut scene, mut to) = (scene(), stranger());
    let destination = authorize_destination(&mut scene.tpm, 4, &scene.authority_pub).unwrap();
    let (random, data) = scene.create_blob(4, &destination, &[], &[]).unwrap();
    let to_pub = srk_pub(&mut to);
    let mut auth = oiap(&mut scene.tpm, KEY_AUTH);
    let parameters: [&[u8]; 2] = [&to_pub, &sized(&data)];
    let out = call(&mut scene.tpm, ord::MIGRATE_KEY, &[scene.authority], &parameters, &mut [&mut auth]).unwrap();
    let (restriction, signature) = scene.restriction(&to_pub);
    let ticket = sig_ticket(&mut to, &scene.signer_pub, &restriction, &signature).unwrap();
    let enc = scene.convert(&mut to, &restriction, &ticket, &out[4..], &random).unwrap();
    check_signing(&mut to, &rewrapped(&scene.key, &enc));
}

#[test]
fn it_migrates_where_its_selection_authority_says_and_nowhere_else() {
    let (mut scene, mut to) = (scene(), stranger());
    let to_pub = srk_pub(&mut to);
    let destination = authorize_destination(&mut scene.tpm, 5, &to_pub).unwrap();
    let (restriction, signature) = scene.restriction(&to_pub);
    let signer = scene.signer_pub.clone();
    let ticket = sig_ticket(&mut scene.tpm, &signer, &restriction, &signature).unwrap();
    let (random, data) = scene.create_blob(5, &destination, &restriction, &ticket).unwrap();
    let there = sig_ticket(&mut to, &signer, &restriction, &signature).unwrap();
    let enc = scene.convert(&mut to, &restriction, &there, &data, &random).unwrap();
    check_signing(&mut to, &rewrapped(&scene.key, &enc));

    // Without the ticket of this TPM, for another restriction, for another destination or source.
    assert_eq!(scene.create_blob(5, &destination, &restriction, &there).unwrap_err(), 92);
    assert_eq!(scene.create_blob(5, &destination, &restriction, &ticket[1..]).unwrap_err(), 25);
    let mut other = restriction.clone();
    other[59] ^= 1;
    assert_eq!(scene.create_blob(5, &destination, &other, &ticket).unwrap_err(), 92);
    let (elsewhere, signature) = scene.restriction(&scene.authority_pub.clone());
    let away = sig_ticket(&mut scene.tpm, &signer, &elsewhere, &signature).unwrap();
    assert_eq!(scene.create_blob(5, &destination, &elsewhere, &away).unwrap_err(), 93);
    let signature = outside().sign_pkcs1_sha1(&mut rng(3), &sha1(&[&other])).unwrap();
    let foreign = sig_ticket(&mut scene.tpm, &signer, &other, &signature).unwrap();
    assert_eq!(scene.create_blob(5, &destination, &other, &foreign).unwrap_err(), 94);

    // At the destination.
    assert_eq!(scene.convert(&mut to, &restriction, &ticket, &data, &random), Err(92), "the other TPM's ticket");
    let away = sig_ticket(&mut to, &signer, &elsewhere, &scene.restriction(&scene.authority_pub).1).unwrap();
    assert_eq!(scene.convert(&mut to, &elsewhere, &away, &data, &random), Err(93));
    let foreign = sig_ticket(&mut to, &signer, &other, &signature).unwrap();
    assert_eq!(scene.convert(&mut to, &other, &foreign, &data, &random), Err(94));
    assert_eq!(scene.convert(&mut to, &restriction, &there, &data, &random[1..]), Err(3));
    let list = core::mem::replace(&mut scene.list, [&1u32.to_be_bytes()[..], &sha1(&[&signer])].concat());
    assert_eq!(scene.convert(&mut to, &restriction, &there, &data, &random), Err(15), "another list");
    scene.list = [0; 4].to_vec();
    assert_eq!(scene.convert(&mut to, &restriction, &there, &data, &random), Err(67), "an empty list");
    scene.list = list;
    assert!(scene.convert(&mut to, &restriction, &there, &data, &random).is_ok());
}

#[test]
fn a_blob_needs_the_lists_and_schemes_the_key_was_made_for() {
    let mut scene = scene();
    let destination = authorize_destination(&mut scene.tpm, 4, &scene.authority_pub).unwrap();
    let (source, list, key) = (scene.source, scene.list.clone(), scene.key.clone());
    assert_eq!(scene.create_blob(5, &destination, &[], &[]).unwrap_err(), 44);
    assert_eq!(scene.create_blob(4, &destination, &[1], &[]).unwrap_err(), 3);
    assert_eq!(scene.create_blob(4, &destination, &[], &[1]).unwrap_err(), 3);
    let mut forged = destination.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(scene.create_blob(4, &forged, &[], &[]).unwrap_err(), 15);
    let shorter = [&1u32.to_be_bytes()[..], &list[4..24]].concat();
    assert_eq!(scene.create_blob_of(4, &destination, &source, &shorter, &[], &[], &key).unwrap_err(), 95);
    assert_eq!(scene.create_blob_of(4, &destination, &[0; 20], &list, &[], &[], &key).unwrap_err(), 95);
    let lying = [&u32::MAX.to_be_bytes()[..], &list[4..]].concat();
    assert_eq!(scene.create_blob_of(4, &destination, &source, &lying, &[], &[], &key).unwrap_err(), 25);
    let plain = create_key(&mut scene.tpm, SRK, SRK_AUTH, &template(0x10, 2, 1, 1, 2, 512)).unwrap();
    assert_eq!(scene.create_blob_of(4, &destination, &source, &list, &[], &[], &plain).unwrap_err(), 67);
    let stranger = pubkey(&outside().public().modulus(), 3, 1);
    let stranger = authorize_destination(&mut scene.tpm, 4, &stranger).unwrap();
    assert_eq!(scene.create_blob(4, &stranger, &[], &[]).unwrap_err(), 92, "no authority of the list");
    let other = authorize_destination(&mut scene.tpm, 1, &scene.authority_pub.clone()).unwrap();
    assert_eq!(scene.create_blob(1, &other, &[], &[]).unwrap_err(), 3);
}

#[test]
fn only_approved_authorities_and_migratable_templates_make_such_keys() {
    let mut tpm = owned();
    let list = [&1u32.to_be_bytes()[..], &[7; 20]].concat();
    let approval = approve(&mut tpm, &list);
    let good = template12(0x10, 0x12, 1, 2, 512, &[]);
    assert!(create(&mut tpm, &good, &approval, &list).is_ok());
    assert_eq!(create(&mut tpm, &good, &approval, &[0]), Err(95));
    assert_eq!(create(&mut tpm, &good, &[0; 20], &list), Err(95));
    for flags in [0, 2, 0x10] {
        let template = template12(0x10, flags, 1, 2, 512, &[]);
        assert_eq!(create(&mut tpm, &template, &approval, &list), Err(36));
    }
    let identity = template12(0x12, 0x12, 1, 2, 2048, &[]);
    assert_eq!(create(&mut tpm, &identity, &approval, &list), Err(36));
    assert_eq!(create(&mut tpm, &template(0x10, 0x12, 1, 1, 2, 512), &approval, &list), Err(67));
    let mut auth = oiap(&mut tpm, SRK_AUTH);
    let parameters: [&[u8]; 4] = [&[0; 20], &good, &approval, &sha1(&[&list])];
    assert_eq!(call(&mut tpm, ord::CMK_CREATE_KEY, &[SRK], &parameters, &mut [&mut auth]), Err(44));
    let mut wrong = osap(&mut tpm, 1, SRK, OWNER);
    assert_eq!(call(&mut tpm, ord::CMK_CREATE_KEY, &[SRK], &parameters, &mut [&mut wrong]), Err(1));
}

#[test]
fn tickets_are_for_signatures_that_verify() {
    let mut tpm = owned();
    let modulus = outside().public().modulus();
    let signature = outside().sign_pkcs1_sha1(&mut rng(3), &sha1(&[b"restriction"])).unwrap();
    let mut ticket = |key: &[u8], data: &[u8], signature: &[u8]| sig_ticket(&mut tpm, key, data, signature);
    assert_eq!(ticket(&pubkey(&modulus, 1, 2), b"restriction", &signature).unwrap().len(), 20);
    assert_eq!(ticket(&pubkey(&modulus, 1, 4), b"restriction", &signature).unwrap().len(), 20);
    assert_eq!(ticket(&pubkey(&modulus, 1, 3), b"restriction", &signature), Err(36));
    assert_eq!(ticket(&pubkey(&modulus, 3, 2), b"restriction", &signature), Err(14));
    assert_eq!(ticket(&pubkey(&modulus, 1, 2), b"other", &signature), Err(98));
    for bad in [&signature[1..], &[0; 256], &[]] {
        assert_eq!(ticket(&pubkey(&modulus, 1, 2), b"restriction", bad), Err(98));
    }
    let mut symmetric = pubkey(&modulus, 1, 2);
    symmetric[3] = 6;
    assert_eq!(ticket(&symmetric, b"restriction", &signature), Err(40));
}

#[test]
fn restrictions_are_kept_and_told() {
    let mut tpm = owned();
    let mut set = |bits: u32| {
        let mut owner = oiap(&mut tpm, OWNER);
        let result = call(&mut tpm, ord::CMK_SET_RESTRICTIONS, &[], &[&bits.to_be_bytes()], &mut [&mut owner]);
        result.map(|_| send(&mut tpm, ord::GET_CAPABILITY, &[&[0, 0, 0, 5], &sized(&[0, 0, 1, 0x1f])]).unwrap())
    };
    assert_eq!(set(0xf800_0000), Ok(sized(&[0xf8, 0, 0, 0])));
    assert_eq!(set(0x4000_0000), Ok(sized(&[0x40, 0, 0, 0])));
    assert_eq!(set(1), Err(3));
    assert_eq!(set(0x0400_0000), Err(3));
    let mut wrong = oiap(&mut tpm, SRK_AUTH);
    assert_eq!(call(&mut tpm, ord::CMK_SET_RESTRICTIONS, &[], &[&[0; 4]], &mut [&mut wrong]), Err(1));
}

#[test]
fn a_blob_of_another_program_converts_only_as_what_it_was_made_for() {
    let mut tpm = owned();
    let (own_pub, signer_pub) = (srk_pub(&mut tpm), pubkey(&outside().public().modulus(), 1, 2));
    let list = [&1u32.to_be_bytes()[..], &sha1(&[&signer_pub])].concat();
    let (movable, _) = new_key(&mut tpm, &storage_template(2));
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    let movable_pub = call(&mut tpm, ord::GET_PUB_KEY, &[movable], &[], &mut [&mut auth]).unwrap();
    // The key that moves is the signer's own.
    let mut convert = |parent: u32, flags: u32, payload: u8| -> Result<Vec<u8>, u32> {
        let (secret, parent_pub) = if parent == SRK { (SRK_AUTH, &own_pub) } else { (KEY_AUTH, &movable_pub) };
        let blob = outside_blob(&template12(0x10, flags, 1, 2, 2048, &[]));
        let source = sha1(&[&signer_pub]);
        let label = sha1(&[&sha1(&[&list]), &source]);
        let cipher = public_of(parent_pub).encrypt_oaep(&mut rng(8), &encoded(payload, &blob, &label)).unwrap();
        let restriction = [sha1(&[&signer_pub]), sha1(&[parent_pub]), source].concat();
        let signature = outside().sign_pkcs1_sha1(&mut rng(3), &sha1(&[&restriction])).unwrap();
        let ticket = sig_ticket(&mut tpm, &signer_pub, &restriction, &signature).unwrap();
        let migrated = [&blob[..], &sized(&cipher)].concat();
        let mut auth = oiap(&mut tpm, secret);
        let parameters: [&[u8]; 5] = [&restriction, &ticket, &migrated, &sized(&list), &sized(&[0; 198])];
        let out = call(&mut tpm, ord::CMK_CONVERT_MIGRATION, &[parent], &parameters, &mut [&mut auth])?;
        Ok([blob, out].concat())
    };
    for payload in [1, 3, 6, 7] {
        assert_eq!(convert(SRK, 0x12, payload), Err(41));
    }
    for flags in [0, 2, 0x10] {
        assert_eq!(convert(SRK, flags, 8), Err(36));
    }
    assert_eq!(convert(movable, 0x12, 8), Err(36), "a parent that may leave");
    let key = convert(SRK, 0x12, 8).unwrap();
    check_signing(&mut tpm, &key);
}

#[test]
fn parents_that_may_leave_have_no_certified_keys() {
    let mut scene = scene();
    let (movable, _) = new_key(&mut scene.tpm, &storage_template(2));
    let destination = authorize_destination(&mut scene.tpm, 4, &scene.authority_pub).unwrap();
    let (list, source) = (sized(&scene.list), scene.source);
    let parameters: [&[u8]; 7] = [&[0, 4], &destination, &source, &list, &[0; 4], &[0; 4], enc_part(&scene.key)];
    let mut auth = oiap(&mut scene.tpm, KEY_AUTH);
    assert_eq!(call(&mut scene.tpm, ord::CMK_CREATE_BLOB, &[movable], &parameters, &mut [&mut auth]), Err(36));
    let approval = approve(&mut scene.tpm, &scene.list);
    let mut auth = osap(&mut scene.tpm, 1, movable, KEY_AUTH);
    let template = template12(0x10, 0x12, 1, 2, 512, &[]);
    let parameters: [&[u8]; 4] = [&[0; 20], &template, &approval, &sha1(&[&scene.list])];
    assert_eq!(call(&mut scene.tpm, ord::CMK_CREATE_KEY, &[movable], &parameters, &mut [&mut auth]), Err(36));
}

#[test]
fn an_authority_that_signs_is_no_destination() {
    let mut scene = scene();
    let signing = pubkey(&outside().public().modulus(), 3, 2);
    scene.list = [&1u32.to_be_bytes()[..], &sha1(&[&signing])].concat();
    let approval = approve(&mut scene.tpm, &scene.list);
    let template = template12(0x10, 0x12, 1, 2, 1024, &[]);
    scene.key = create(&mut scene.tpm, &template, &approval, &scene.list.clone()).unwrap();
    scene.source = sha1(&[&pubkey(&public_of(&scene.key).modulus(), 1, 2)]);
    let destination = authorize_destination(&mut scene.tpm, 4, &signing).unwrap();
    assert_eq!(scene.create_blob(4, &destination, &[], &[]).unwrap_err(), 36);
}

#[test]
fn commands_cut_short_anywhere_are_refused_and_end_no_session() {
    let mut scene = scene();
    let destination = authorize_destination(&mut scene.tpm, 4, &scene.authority_pub).unwrap();
    let (list, random) = (sized(&scene.list), sized(&[0; 198]));
    let blob: [&[u8]; 7] = [&[0, 4], &destination, &scene.source, &list, &[0; 4], &[0; 4], enc_part(&scene.key)];
    let conversion: [&[u8]; 5] = [&[1; 60], &[2; 20], &scene.key, &list, &random];
    let ticket: [&[u8]; 3] = [&scene.signer_pub, &[3; 20], &random];
    let migration: [&[u8]; 3] = [&[0, 1], &destination, enc_part(&scene.key)];
    for (ordinal, handles, parameters) in [
        (ord::CMK_CREATE_BLOB, &[SRK][..], blob.concat()),
        (ord::CMK_CONVERT_MIGRATION, &[SRK], conversion.concat()),
        (ord::CMK_CREATE_TICKET, &[], ticket.concat()),
        (ord::CREATE_MIGRATION_BLOB, &[SRK], migration.concat()),
    ] {
        let mut auth = oiap(&mut scene.tpm, SRK_AUTH);
        for size in 0..parameters.len() {
            let cut = call(&mut scene.tpm, ordinal, handles, &[&parameters[..size]], &mut [&mut auth]);
            assert_eq!(cut, Err(25), "{ordinal:#x} cut to {size}");
        }
        let longer = call(&mut scene.tpm, ordinal, handles, &[&parameters, &[0]], &mut [&mut auth]);
        assert_eq!(longer, Err(25));
        send(&mut scene.tpm, ord::FLUSH_SPECIFIC, &[&auth.handle.to_be_bytes(), &2u32.to_be_bytes()]).unwrap();
    }
}
