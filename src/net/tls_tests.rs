//! Tests the client with real TLS on loopback, with certificates created for the test.

use super::error::Trouble;
use super::*;
use crate::error::{Class, Failure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
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
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "an authority of this test");
    let certificate = authority.self_signed(&authority_key).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), certificate.pem()).unwrap();

    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(vec![name.to_owned()]).unwrap();
    server.not_before = date_time_ymd(from, 1, 1);
    server.not_after = date_time_ymd(to, 1, 1);
    let signed = server.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();

    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![signed.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
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
    Server { url, authority: file, connections }
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
