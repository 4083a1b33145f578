//! The whole of [`Hardware`] on the model of a chip, which the manager's other tests stand on.

use super::drive;
use crate::args::Options;
use crate::fake::FakeChip;
use crate::hardware::{ChipError, Hardware, KeyNumbers, PcrSelection, Settings};
use frontback::looper::Timer;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, sha1};
use xen_abi::Instant;

#[test]
fn the_model_does_what_a_chip_does() {
    let fake = FakeChip::new(1, 0);
    let timer = Timer::new(Instant::from_millis(0));
    let mut rng = Drbg::new(&[1; 48], b"test").unwrap();
    let work = async {
        let chip = Hardware::detect(fake.clone(), &timer, Settings::from(&Options::default())).await?;
        assert!(!chip.start().await?.owned);
        let root = chip.create_root(&mut rng).await?.key;
        let pcrs = PcrSelection::parse("3,17").unwrap();
        let condition = chip.pcr_condition(pcrs).await?;
        let sealed = chip.seal(&root, b"secret", Some(&condition), None, &mut rng).await?;
        assert_eq!(chip.unseal(&root, &sealed, None, &mut rng).await?[..], b"secret"[..]);
        let counter = chip.counter_create(&root, None, &mut rng).await?;
        let value = chip.counter_read(&root, &counter, &mut rng).await?;
        assert_eq!(chip.counter_increment(&root, &counter, &mut rng).await?, value + 1);
        let (ak, binding) = chip.ak_create(&root, None, &[6; 20], &mut rng).await?;
        let public = chip.ak_public(&ak)?;
        let KeyNumbers::Rsa { modulus, exponent } = &public.numbers else { panic!("an RSA key was expected") };
        let key = RsaPublic::new(modulus, *exponent).unwrap();
        let contents = sha1(&[&[1, 1, 0, 0, 0, 0, 0, 0x79], &[6; 20], &public.encoded]);
        assert_eq!(key.verify_pkcs1_sha1(&contents, &binding), Ok(()));
        let quote = chip.quote(&root, &ak, &[5; 20], pcrs, &mut rng).await?;
        assert_eq!(key.verify_pkcs1_sha1(&sha1(&[&quote.attest]), &quote.signature), Ok(()));
        assert_eq!(quote.attest[8..28], condition.digest[..]);
        assert_eq!(chip.ek_public(None, &mut rng).await?.numbers, public.numbers);

        assert_eq!(chip.extend12(3, &[1; 20]).await?, sha1(&[&[3; 20], &[1; 20]]));
        assert_eq!(chip.unseal(&root, &sealed, None, &mut rng).await, Err(ChipError::PcrMismatch));
        fake.power_cycle();
        assert_eq!(chip.unseal(&root, &sealed, None, &mut rng).await?[..], b"secret"[..]);
        assert_eq!(chip.counter_read(&root, &counter, &mut rng).await?, value + 1);
        fake.clear();
        assert!(matches!(chip.counter_read(&root, &counter, &mut rng).await, Err(ChipError::NotOurs { .. })));
        Ok::<_, ChipError>(())
    };
    assert_eq!(drive(&timer, work).0, Ok(()));
    assert_eq!(fake.open_slots(), (0, 0));
}
