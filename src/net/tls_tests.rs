//! Tests the client with real TLS on loopback, with certificates created for the test.

use super::Trouble;
use super::*;
use crate::error::{Class, Failure};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A server with a certificate of a private authority.
struct Server {
    url: Url,
    /// The authority's certificate, in PEM.
    authority: tempfile::NamedTempFile,
    connections: Arc<AtomicU32>,
}

/// Serves 200 to every client that trusts a certificate for `name` that is valid from the year `from` to the year `to`.
async fn serve(name: &str, from: i32, to: i32) -> Server {
    let (certificate, key, authority) = signed(name, from, to);
    listen(&certificate, key, pem_file(&authority)).await
}

/// The same with a certificate that signs itself.
async fn serve_self_signed(name: &str, to: i32, is_ca: IsCa) -> Server {
    let (certificate, key) = self_signed(name, to, is_ca);
    listen(&certificate, key, pem_file(&certificate)).await
}

/// A certificate, its key, and the certificate of the authority that signed it.
fn signed(name: &str, from: i32, to: i32) -> (Certificate, PrivateKeyDer<'static>, Certificate) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "an authority of this test");
    let certificate = authority.self_signed(&authority_key).unwrap();

    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec![name.to_owned()]).unwrap();
    server.not_before = date_time_ymd(from, 1, 1);
    server.not_after = date_time_ymd(to, 1, 1);
    let signed = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
    (signed, PrivateKeyDer::try_from(key.serialize_der()).unwrap(), certificate)
}

fn self_signed(name: &str, to: i32, is_ca: IsCa) -> (Certificate, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut own = CertificateParams::new(vec![name.to_owned()]).unwrap();
    own.is_ca = is_ca;
    own.not_before = date_time_ymd(2020, 1, 1);
    own.not_after = date_time_ymd(to, 1, 1);
    let certificate = own.self_signed(&key).unwrap();
    (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn pem_file(certificate: &Certificate) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate.pem()).unwrap();
    file
}

/// Serves with this certificate and this key, whether they belong together or not.
async fn listen(
    certificate: &Certificate,
    key: PrivateKeyDer<'static>,
    authority: tempfile::NamedTempFile,
) -> Server {
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chosen = rustls::sign::CertifiedKey::new(vec![certificate.der().clone()], key);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(chosen)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://localhost:{}/x", listener.local_addr().unwrap().port())).unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&connections);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .await;
            let _ = stream.shutdown().await;
        }
    });
    Server { url, authority, connections }
}

/// The body that the server gives to a client that trusts its authority, or not.
async fn ask(server: &Server, trusting: bool, timeout: Duration) -> Result<Vec<u8>, Error> {
    let ca_file = trusting.then(|| server.authority.path().to_owned());
    let http = Http::new(HttpOptions { ca_file, ..HttpOptions::default() }).unwrap();
    let call = Call::new(Method::GET, server.url.clone(), Deadline::after(timeout));
    http.call(call).await.map(|answer| answer.body)
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let server = serve("localhost", 2020, 2100).await;
    assert_eq!(ask(&server, true, LONG).await.unwrap(), b"ok");
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_trusted_ends_it_at_once() {
    for (name, to, trusting) in
        [("localhost", 2100, false), ("elsewhere", 2100, true), ("localhost", 2021, true)]
    {
        let server = serve(name, 2020, to).await;
        let error = ask(&server, trusting, LONG).await.unwrap_err();
        assert_eq!((error.trouble(), error.class()), (Some(Trouble::Certificate), Class::Config), "{error}");
        assert!(error.to_string().contains("not trusted") && error.hint().is_some(), "{error}");
        assert_eq!(server.connections.load(Ordering::Relaxed), 1, "a second look changes nothing");
    }
}

/// At the first boot the clock can be years behind, until it is set over the network.
#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_asked_for_again_and_the_clock_is_named() {
    let server = serve("localhost", 2090, 2100).await;
    let error = ask(&server, true, Duration::from_millis(900)).await.unwrap_err();
    assert_eq!((error.trouble(), error.class()), (Some(Trouble::NotYetValid), Class::TempFail), "{error}");
    assert!(error.hint().unwrap().contains("clock"), "{error}");
    assert!(server.connections.load(Ordering::Relaxed) > 1);
}

/// A certificate that is itself named as trusted is trusted, as it is by curl; also if it says that it is an authority's
/// (seanmonstar/reqwest#2041).
#[tokio::test]
async fn a_certificate_that_is_itself_named_is_trusted() {
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let server = serve_self_signed("localhost", 2100, is_ca).await;
        assert_eq!(ask(&server, true, LONG).await.unwrap(), b"ok", "{is_ca:?}");
        let error = ask(&server, false, LONG).await.unwrap_err();
        assert_eq!(error.trouble(), Some(Trouble::Certificate), "{is_ca:?}: {error}");
        assert!(error.hint().unwrap().contains("--ca-file"), "{:?}", error.hint());
    }
    // One that an unknown authority signed, too.
    let (certificate, key, _) = signed("localhost", 2020, 2100);
    let server = listen(&certificate, key, pem_file(&certificate)).await;
    assert_eq!(ask(&server, true, LONG).await.unwrap(), b"ok");
}

#[tokio::test]
async fn a_named_certificate_is_trusted_for_its_host_its_time_and_its_key_only() {
    let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
    for is_ca in [IsCa::NoCa, ca()] {
        for (name, to, fix) in [("elsewhere", 2100, "host name"), ("localhost", 2021, "Renew")] {
            let server = serve_self_signed(name, to, is_ca).await;
            let error = ask(&server, true, LONG).await.unwrap_err();
            assert_eq!(error.trouble(), Some(Trouble::Certificate), "{name} {to} {is_ca:?}: {error}");
            assert!(error.hint().unwrap().contains(fix), "{error} {:?}", error.hint());
        }
        // Another one for the same host.
        let (other, _) = self_signed("localhost", 2100, is_ca);
        let (certificate, key) = self_signed("localhost", 2100, is_ca);
        let server = listen(&certificate, key, pem_file(&other)).await;
        let error = ask(&server, true, LONG).await.unwrap_err();
        assert_eq!(error.trouble(), Some(Trouble::Certificate), "{is_ca:?}: {error}");
        // The certificate is public, and its key is not.
        let (_, key) = self_signed("localhost", 2100, is_ca);
        let server = listen(&certificate, key, pem_file(&certificate)).await;
        ask(&server, true, LONG).await.unwrap_err();
    }
}
