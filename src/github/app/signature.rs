//! What a command that signs has printed.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The lengths of signatures by RSA keys with 2048, 3072 and 4096 bits.
const LENGTHS: [usize; 3] = [256, 384, 512];

/// The signature: raw, or in either alphabet of base64 with line breaks. `None` if its length is that of no RSA signature.
pub(super) fn read(printed: &[u8]) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let words: Vec<u8> = printed.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    // First, because 512 letters are the signature of a key with 3072 bits, and are never a raw one.
    [alphabet::STANDARD, alphabet::URL_SAFE]
        .iter()
        .filter_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(&words).ok())
        .chain(Some(printed.to_vec()))
        .find(|bytes| LENGTHS.contains(&bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    #[test]
    fn a_signature_is_read_raw_and_in_base64_and_any_other_length_is_refused() {
        for length in LENGTHS {
            let signature: Vec<u8> = (0..length).map(|at| u8::try_from(at * 7 % 256).unwrap()).collect();
            assert_eq!(read(&signature).as_ref(), Some(&signature));
            let plain = STANDARD.encode(&signature);
            let lines: Vec<&str> =
                (0..plain.len()).step_by(64).map(|at| &plain[at..plain.len().min(at + 64)]).collect();
            for text in
                [plain.clone(), format!("{plain}\n"), lines.join("\r\n"), URL_SAFE_NO_PAD.encode(&signature)]
            {
                assert_eq!(read(text.as_bytes()).as_ref(), Some(&signature), "{text}");
            }
            assert_eq!(read(&signature[1..]), None);
        }
        for other in [&b""[..], b"no signature", &[0; 255], &[0; 257], STANDARD.encode([0; 64]).as_bytes()] {
            assert_eq!(read(other), None, "{}", other.len());
        }
    }
}
