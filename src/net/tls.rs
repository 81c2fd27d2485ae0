//! The TLS configuration: rustls with ring, and the root certificates that this machine trusts.

use super::Error;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
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
    let mut store = RootCertStore::empty();
    if let Roots::Platform(extra) = roots {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::debug!(%error, "failed to read some of the machine's root certificates");
        }
        let (added, ignored) = store.add_parsable_certificates(native.certs);
        tracing::debug!(added, ignored, "read the machine's root certificates");
        if added == 0 {
            tracing::warn!("this machine has no root certificates; using the bundled Mozilla set");
            store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        store.add_parsable_certificates(extra.iter().cloned());
    }
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the protocol versions that rustls enables by default")
        .with_root_certificates(store)
        .with_no_client_auth()
}
