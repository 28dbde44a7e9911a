//! Encryption to a public key: HPKE (RFC 9180), by the implementation that rustls brings. Whoever
//! writes has only the public key, so whoever takes over a writer cannot read what it wrote before.

use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};

use crate::StoreError;

/// Bytes of an encapsulated key.
const ENCAPSULATED: usize = 32;
/// What ciphertext and encapsulated key are longer than what they hold: a tag of 16 bytes.
pub(super) const OVERHEAD: usize = ENCAPSULATED + 16;

/// A public and a private key.
pub(super) fn generate() -> Result<([u8; 32], [u8; 32]), StoreError> {
    let failed = |why: String| StoreError::Rejected { name: "a key".to_owned(), why };
    let (public, private) = SUITE.generate_key_pair().map_err(|why| failed(why.to_string()))?;
    let fixed = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(|why| failed(why.to_string()));
    Ok((fixed(&public.0)?, fixed(private.secret_bytes())?))
}

/// The public key in eight bytes, for whoever has several.
pub(super) fn key_id(public: &[u8; 32]) -> [u8; 8] {
    let hash = blake3::hash(public);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Encrypts; only the private key that goes with `public` opens it.
pub(super) fn seal(
    public: &[u8; 32],
    info: &[u8],
    aad: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>, String> {
    let public = HpkePublicKey(public.to_vec());
    let (EncapsulatedSecret(mut out), sealed) =
        SUITE.seal(info, aad, plain, &public).map_err(|why| why.to_string())?;
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Decrypts what [`seal`] made, if it was not changed.
pub(super) fn open(
    private: &[u8; 32],
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, String> {
    let (encapsulated, sealed) =
        sealed.split_at_checked(ENCAPSULATED).ok_or("it is too short to be encrypted")?;
    let private = HpkePrivateKey::from(private.to_vec());
    let encapsulated = EncapsulatedSecret(encapsulated.to_vec());
    SUITE.open(&encapsulated, info, aad, sealed, &private).map_err(|why| why.to_string())
}
