//! The private key of an App: RSA, as PKCS#1 (what GitHub hands out) or PKCS#8 (what most tools convert it to), in PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use secrecy::zeroize::Zeroizing;

/// A key that can sign.
pub(super) struct Key(RsaKeyPair);

impl Key {
    /// The key in a text, which secret stores also hand out in base64, or with `\n` in place of line breaks.
    ///
    /// # Errors
    /// What is wrong with it, without any of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err("is empty");
        }
        if text.contains("-----BEGIN") {
            return Self::of_pem(&Zeroizing::new(text.replace("\\n", "\n")));
        }
        let words = Zeroizing::new(text.split_whitespace().collect::<String>());
        let decoded = Zeroizing::new(STANDARD.decode(words.as_bytes()).unwrap_or_default());
        match std::str::from_utf8(&decoded) {
            Ok(inner) if inner.contains("-----BEGIN") => Self::of_pem(inner),
            _ => Err("is not in PEM format (-----BEGIN RSA PRIVATE KEY-----)"),
        }
    }

    fn of_pem(text: &str) -> Result<Self, &'static str> {
        if text.contains("ENCRYPTED") {
            return Err("is encrypted with a passphrase");
        }
        let items = <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes());
        let mut other = "has no private key";
        for item in items {
            let (kind, der) = item.map_err(|_| "is cut or damaged")?;
            let der = Zeroizing::new(der);
            let key = match kind {
                SectionKind::RsaPrivateKey => RsaKeyPair::from_der(&der),
                SectionKind::PrivateKey => RsaKeyPair::from_pkcs8(&der),
                SectionKind::EcPrivateKey => return Err("is not an RSA key"),
                SectionKind::PublicKey => {
                    other = "is a public key";
                    continue;
                }
                SectionKind::Certificate => {
                    other = "is a certificate";
                    continue;
                }
                _ => continue,
            };
            return key.map(Self).map_err(|rejected| match rejected.to_string().as_str() {
                "TooSmall" => "is too short: GitHub's have 2048 bits, and fewer can be broken",
                "TooLarge" => "is too long: GitHub's have 2048 bits, and 4096 are supported",
                "WrongAlgorithm" => "is not an RSA key",
                _ => "is damaged",
            });
        }
        Err(other)
    }

    /// The PKCS#1 v1.5 signature of the SHA-256 digest.
    ///
    /// # Errors
    /// The key cannot be used after all.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| "is inconsistent: it cannot sign")?;
        Ok(signature)
    }
}
