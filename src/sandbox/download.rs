//! The archives, as the download host serves them: with ranges, entity tags, and their own token.

use super::archive::{Archive, Platform};
use super::fault::FaultKind;
use super::reply::Reply;
use super::request::Request;
use super::route::Route;
use super::server::Shared;
use super::token::CredentialKind;

/// Answers a request for an archive.
pub(super) fn answer(shared: &Shared, route: &Route, request: &Request, faults: &[FaultKind]) -> Reply {
    let (platform, version, open) = match route {
        Route::Archive(platform, version) => (platform, version, false),
        Route::Mirror(platform, version) => (platform, version, true),
        _ => return Reply::not_found(),
    };
    let Some(archive) = archive(shared, platform, version) else { return Reply::not_found() };
    if !open {
        let credential = &request.credential;
        let good = credential.kind == CredentialKind::Download
            && credential.scheme == "bearer"
            && !credential.expired;
        if !good || faults.contains(&FaultKind::ExpiredToken) {
            return Reply::message(401, "The download token is missing, unknown or expired")
                .with("www-authenticate", "Bearer");
        }
        shared.world().tokens.used(request.header("authorization"));
    }
    serve(&archive, request, faults)
}

/// What `sha256sum` prints of the newest archives.
pub(super) fn sums(shared: &Shared, faults: &[FaultKind]) -> Reply {
    let version = shared.world().newest().to_owned();
    let wrong = faults.contains(&FaultKind::WrongChecksum);
    let line = |platform| {
        let archive = shared.archives.get(platform, &version);
        let digest = if wrong { "5ea1".repeat(16) } else { archive.sha256.clone() };
        format!("{digest}  {}\n", archive.filename)
    };
    let text: String = Platform::ALL.into_iter().map(line).collect();
    Reply { status: 200, headers: vec![("content-type", "text/plain".to_owned())], body: text.into() }
}

fn archive(shared: &Shared, platform: &str, version: &str) -> Option<std::sync::Arc<Archive>> {
    let platform = Platform::ALL.into_iter().find(|known| known.id == platform)?;
    let known = {
        let world = shared.world();
        let ordered = world.updates.iter().map(|update| &update.version);
        world.versions.iter().chain(ordered).any(|it| it == version)
    };
    known.then(|| shared.archives.get(platform, version))
}

/// The document, or the requested range of it.
fn serve(archive: &Archive, request: &Request, faults: &[FaultKind]) -> Reply {
    let mut bytes = archive.bytes.to_vec();
    for fault in faults {
        if let FaultKind::Corrupt { at } = fault
            && let Some(byte) = bytes.get_mut(*at)
        {
            *byte = !*byte;
        }
    }
    let tag = format!("\"{}\"", &archive.sha256[..32]);
    let form = if archive.zipped { "application/zip" } else { "application/gzip" };
    let mut headers = vec![("content-type", form.to_owned()), ("etag", tag.clone())];
    let whole = bytes.len();
    if faults.contains(&FaultKind::NoRange) {
        return Reply { status: 200, headers, body: bytes.into() };
    }
    headers.push(("accept-ranges", "bytes".to_owned()));
    let fresh = request.header("if-range").is_none_or(|known| known == tag);
    match request.header("range").filter(|_| fresh).and_then(|range| parse_range(range, whole)) {
        None => Reply { status: 200, headers, body: bytes.into() },
        Some(Err(NotSatisfiable)) => {
            Reply::message(416, "Range Not Satisfiable").with("content-range", format!("bytes */{whole}"))
        }
        Some(Ok((first, last))) => {
            headers.push(("content-range", format!("bytes {first}-{last}/{whole}")));
            Reply { status: 206, headers, body: bytes::Bytes::from(bytes).slice(first..=last) }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct NotSatisfiable;

/// The first and the last byte of a range of `whole` bytes; `None` if the header is not supported, as with several
/// ranges: then everything is sent.
fn parse_range(header: &str, whole: usize) -> Option<Result<(usize, usize), NotSatisfiable>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let range = if first.is_empty() {
        let length: usize = last.parse().ok()?;
        (whole.saturating_sub(length), whole.checked_sub(1)?)
    } else {
        let first: usize = first.parse().ok()?;
        let last = if last.is_empty() { usize::MAX } else { last.parse().ok()? };
        (first, last.min(whole.checked_sub(1)?))
    };
    Some(if range.0 < whole && range.0 <= range.1 { Ok(range) } else { Err(NotSatisfiable) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse_range("bytes=0-", 10), Some(Ok((0, 9))));
        assert_eq!(parse_range("bytes=4-5", 10), Some(Ok((4, 5))));
        assert_eq!(parse_range("bytes=4-500", 10), Some(Ok((4, 9))));
        assert_eq!(parse_range("bytes=-3", 10), Some(Ok((7, 9))));
        assert_eq!(parse_range("bytes=10-", 10), Some(Err(NotSatisfiable)));
        assert_eq!(parse_range("bytes=1-2,4-5", 10), None);
        assert_eq!(parse_range("lines=1-2", 10), None);
    }
}
