//! The TLS configuration: rustls with ring, and the root certificates that this machine trusts.

use super::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// Which root certificates a client trusts.
pub(super) enum Roots<'a> {
    /// None, for a client that is only used for `http` URLs.
    None,
    /// The platform's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are respected), and these.
    Platform(&'a [CertificateDer<'static>]),
}

/// The certificates in a PEM file.
pub(super) fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = fs_err::read(path).map_err(|source| Error::CaFile { path: path.to_owned(), source })?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Error::CaFileEmpty { path: path.to_owned() }),
    }
}

pub(super) fn config(roots: &Roots<'_>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports the protocol versions that rustls enables by default");
    let Roots::Platform(extra) = roots else {
        return builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    };
    let mut store = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "failed to read some of the machine's root certificates");
    }
    let mut named = native.certs.clone();
    let (added, ignored) = store.add_parsable_certificates(native.certs);
    tracing::debug!(added, ignored, "read the machine's root certificates");
    if added == 0 {
        tracing::warn!("this machine has no root certificates; using the bundled Mozilla set");
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store.add_parsable_certificates(extra.iter().cloned());
    named.extend(extra.iter().cloned());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .expect("there are root certificates, and no revocation lists");
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NamedOrSigned { chains, named }))
        .with_no_client_auth()
}

/// Trusts what a trusted authority signed, and a certificate that is itself among the trusted ones, as OpenSSL and curl
/// do: a server whose certificate is self-signed, and that of an authority whose own certificate is elsewhere.
///
/// Whoever has the key of a trusted certificate could sign any other, so this admits no one else.
#[derive(Debug)]
struct NamedOrSigned {
    chains: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for NamedOrSigned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // It is valid at this time: that is checked before its issuer and its use.
            Err(error) if lacks_only_an_issuer(&error) && self.named.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Whether no trusted authority signed it, or it says that it is an authority itself, and nothing else is wrong with it.
fn lacks_only_an_issuer(error: &rustls::Error) -> bool {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        rustls::Error::InvalidCertificate(error) => is_authority(error),
        _ => false,
    }
}

/// Whether a server's certificate was refused because it says that it is an authority's.
fn is_authority(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else { return false };
    matches!(other.0.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What to do about a certificate that is not trusted.
pub(super) fn certificate_hint(fault: Option<&CertificateError>) -> &'static str {
    match fault {
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            "Use the host name that the certificate is for, or give the server one with this name. A captive portal answers \
             with a certificate of its own: sign in to the network first."
        }
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "Renew the server's certificate, or set this machine's clock if that is ahead."
        }
        Some(fault) if is_authority(fault) => {
            "The server's own certificate is that of an authority (CA:TRUE): pass exactly this certificate with \
             --ca-file, or give the server one that an authority signed."
        }
        _ => {
            "Install the certificate of the authority that signed it on this machine, or pass it with --ca-file. A \
             self-signed certificate is passed itself."
        }
    }
}
