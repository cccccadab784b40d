//! The ciphers, with upstream's layouts of what they write.
//!
//! ```text
//! aescbc     IV(16) ciphertext            PKCS#7; authenticates nothing
//! aesgcm     nonce(12) ciphertext tag(16) the context is associated data
//! secretbox  nonce(24) tag(16) ciphertext XSalsa20-Poly1305; no associated data
//! extended   info(32) aesgcm              under HKDF-Expand(seed, info) with SHA-256: a key of its own for each write
//! ```
//!
//! Never chooses a key and never keeps a nonce: all of them are random. Source: upstream's
//! `apiserver/pkg/storage/value/encrypt`.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
use aws_lc_rs::iv::FixedLength;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305};

/// Bytes of a block and an IV of AES-CBC.
const BLOCK: usize = 16;
/// Bytes of secretbox's nonce.
const BOX_NONCE: usize = 24;
/// Bytes of a seed, of what is mixed into it, and of the key that results.
pub(crate) const SEED: usize = 32;

const TOO_SHORT: &str = "the stored data was shorter than the required size";

/// A key with its cipher.
pub(crate) enum Cipher {
    Cbc(Box<Cbc>),
    Gcm(Box<Gcm>),
    Secretbox(XSalsa20Poly1305),
    Extended(Extended),
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cipher::Cbc(_) => "aescbc",
            Cipher::Gcm(_) => "aesgcm",
            Cipher::Secretbox(_) => "secretbox",
            Cipher::Extended(_) => "extended aesgcm",
        })
    }
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "unable to read sufficient random bytes".to_owned())?;
    Ok(bytes)
}

fn bad_key(key: &[u8]) -> String {
    format!("a key of {} bytes does not fit the cipher", key.len())
}

impl Cipher {
    /// AES-CBC with a key of 16, 24 or 32 bytes.
    pub(crate) fn cbc(key: &[u8]) -> Result<Cipher, String> {
        let algorithm = match key.len() {
            16 => &cipher::AES_128,
            24 => &cipher::AES_192,
            32 => &cipher::AES_256,
            _ => return Err(bad_key(key)),
        };
        let key = || UnboundCipherKey::new(algorithm, key).map_err(|_| bad_key(key));
        Ok(Cipher::Cbc(Box::new(Cbc {
            sealing: PaddedBlockEncryptingKey::cbc_pkcs7(key()?).map_err(|e| e.to_string())?,
            opening: PaddedBlockDecryptingKey::cbc_pkcs7(key()?).map_err(|e| e.to_string())?,
        })))
    }

    /// AES-GCM with a key of 16, 24 or 32 bytes.
    pub(crate) fn gcm(key: &[u8]) -> Result<Cipher, String> {
        Gcm::new(key).map(|gcm| Cipher::Gcm(Box::new(gcm)))
    }

    /// XSalsa20-Poly1305 with a key of 32 bytes.
    pub(crate) fn secretbox(key: &[u8]) -> Result<Cipher, String> {
        XSalsa20Poly1305::new_from_slice(key).map(Cipher::Secretbox).map_err(|_| bad_key(key))
    }

    /// AES-GCM under keys that are derived from a seed of at least 32 bytes.
    pub(crate) fn extended(seed: &[u8]) -> Result<Cipher, String> {
        if seed.len() < SEED {
            return Err(format!("invalid seed length {} used for key generation", seed.len()));
        }
        Ok(Cipher::Extended(Extended(Prk::new_less_safe(HKDF_SHA256, seed))))
    }

    /// Appends what is to be stored of `plain`. `context` says where it lies.
    pub(crate) fn seal(&self, context: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Cipher::Cbc(cbc) => cbc.seal(plain, out),
            Cipher::Gcm(gcm) => gcm.seal(context, plain, out),
            Cipher::Secretbox(key) => {
                let nonce = random::<BOX_NONCE>()?;
                out.extend_from_slice(&nonce);
                let sealed = key.encrypt(&nonce.into(), plain).map_err(|_| "the data cannot be sealed".to_owned())?;
                out.extend_from_slice(&sealed);
                Ok(())
            }
            Cipher::Extended(seed) => {
                let info = random::<SEED>()?;
                out.extend_from_slice(&info);
                seed.key(&info)?.seal(context, plain, out)
            }
        }
    }

    /// What `stored` was made from.
    pub(crate) fn open(&self, context: &[u8], stored: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Cipher::Cbc(cbc) => cbc.open(stored),
            Cipher::Gcm(gcm) => gcm.open(context, stored),
            Cipher::Secretbox(key) => {
                let (nonce, sealed) = stored.split_first_chunk::<BOX_NONCE>().ok_or(TOO_SHORT)?;
                if sealed.len() < BLOCK {
                    return Err(TOO_SHORT.to_owned());
                }
                key.decrypt(nonce.into(), sealed).map_err(|_| "secretbox: message authentication failed".to_owned())
            }
            Cipher::Extended(seed) => {
                let (info, sealed) = stored.split_first_chunk::<SEED>().ok_or(TOO_SHORT)?;
                seed.key(info)?.open(context, sealed)
            }
        }
    }
}

/// AES-CBC.
pub(crate) struct Cbc {
    sealing: PaddedBlockEncryptingKey,
    opening: PaddedBlockDecryptingKey,
}

impl Cbc {
    fn seal(&self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let iv = random::<BLOCK>()?;
        let mut sealed = Vec::with_capacity(plain.len() + BLOCK);
        sealed.extend_from_slice(plain);
        let context = cipher::EncryptionContext::Iv128(FixedLength::from(iv));
        self.sealing.less_safe_encrypt(&mut sealed, context).map_err(|_| "the data cannot be sealed".to_owned())?;
        out.extend_from_slice(&iv);
        out.extend_from_slice(&sealed);
        Ok(())
    }

    fn open(&self, stored: &[u8]) -> Result<Vec<u8>, String> {
        let (iv, sealed) = stored.split_first_chunk::<BLOCK>().ok_or(TOO_SHORT)?;
        if sealed.len() % BLOCK != 0 {
            return Err("the stored data is not a multiple of the block size".to_owned());
        }
        let mut plain = sealed.to_vec();
        let context = cipher::DecryptionContext::Iv128(FixedLength::from(iv));
        let len = match self.opening.decrypt(&mut plain, context) {
            Ok(plain) => plain.len(),
            Err(_) => return Err("invalid PKCS7 data (empty or not padded)".to_owned()),
        };
        plain.truncate(len);
        Ok(plain)
    }
}

/// AES-GCM.
pub(crate) struct Gcm(LessSafeKey);

impl Gcm {
    fn new(key: &[u8]) -> Result<Gcm, String> {
        let algorithm = match key.len() {
            16 => &aead::AES_128_GCM,
            24 => &aead::AES_192_GCM,
            32 => &aead::AES_256_GCM,
            _ => return Err(bad_key(key)),
        };
        UnboundKey::new(algorithm, key).map(|key| Gcm(LessSafeKey::new(key))).map_err(|_| bad_key(key))
    }

    fn seal(&self, context: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let nonce = random::<NONCE_LEN>()?;
        out.extend_from_slice(&nonce);
        let mut sealed = Vec::with_capacity(plain.len() + BLOCK);
        sealed.extend_from_slice(plain);
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut sealed)
            .map_err(|_| "the data cannot be sealed".to_owned())?;
        out.extend_from_slice(&sealed);
        Ok(())
    }

    fn open(&self, context: &[u8], stored: &[u8]) -> Result<Vec<u8>, String> {
        let (nonce, sealed) = stored.split_first_chunk::<NONCE_LEN>().ok_or(TOO_SHORT)?;
        let mut plain = sealed.to_vec();
        let opened = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut plain);
        let len = opened.map_err(|_| "cipher: message authentication failed".to_owned())?.len();
        plain.truncate(len);
        Ok(plain)
    }
}

/// A seed from which each write derives a key of its own.
pub(crate) struct Extended(Prk);

impl Extended {
    fn key(&self, info: &[u8; SEED]) -> Result<Gcm, String> {
        let mut key = [0; SEED];
        self.0
            .expand(&[info], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .map_err(|_| "failed to KDF expand seed with info".to_owned())?;
        Gcm::new(&key)
    }
}
