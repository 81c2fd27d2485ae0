//! The next request after a redirect, and which parts of the request it keeps.

use super::{Error, HeaderMap, Method, Url, redact};

/// How many redirects are followed; more count as a loop.
const LIMIT: usize = 10;
/// The longest URL that is followed, in bytes. Signed ones have about two thousand.
const LONGEST: usize = 16 << 10;

/// One request of a chain of redirects.
pub(super) struct Hop {
    pub method: Method,
    pub url: Url,
    /// Whether the credential may be sent: false once a redirect has left its scheme, host and port, even if a later
    /// one leads back.
    pub may_authorize: bool,
    pub sends_body: bool,
    origin: Url,
    count: usize,
}

impl Hop {
    pub fn first(method: Method, url: Url) -> Self {
        Self { method, origin: url.clone(), url, may_authorize: true, sends_body: true, count: 0 }
    }

    /// The next request, or `None` if this answer is not a redirect.
    pub fn next(&self, status: u16, headers: &HeaderMap) -> Result<Option<Self>, Error> {
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = headers.get("location").and_then(|value| value.to_str().ok());
        let url = location
            .and_then(|location| self.url.join(location).ok())
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.as_str().len() <= LONGEST)
            .ok_or_else(|| Error::RedirectBroken { url: redact(&self.url), status })?;
        if self.url.scheme() == "https" && url.scheme() != "https" {
            return Err(Error::RedirectInsecure { from: redact(&self.url), to: redact(&url) });
        }
        if self.count == LIMIT {
            return Err(Error::RedirectLoop { url: redact(&self.origin), limit: LIMIT });
        }
        let safe = self.method == Method::GET || self.method == Method::HEAD;
        // Like every client, a redirected POST becomes a GET, except with 307 and 308, which keep the method.
        let keeps = safe || matches!(status, 307 | 308);
        Ok(Some(Self {
            method: if keeps { self.method.clone() } else { Method::GET },
            may_authorize: self.may_authorize && url.origin() == self.origin.origin(),
            sends_body: self.sends_body && keeps,
            url,
            origin: self.origin.clone(),
            count: self.count + 1,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn next(from: &Hop, status: u16, to: &'static str) -> Result<Option<Hop>, Error> {
        from.next(
            status,
            &HeaderMap::from_iter([("location".parse().unwrap(), HeaderValue::from_static(to))]),
        )
    }

    fn get(url: &str) -> Hop {
        Hop::first(Method::GET, Url::parse(url).unwrap())
    }

    #[test]
    fn the_credential_stays_with_its_scheme_host_and_port() {
        let start = get("https://host/a");
        assert!(next(&start, 302, "/b").unwrap().unwrap().may_authorize);
        assert!(next(&start, 302, "https://host:443/b").unwrap().unwrap().may_authorize);
        assert!(!next(&start, 302, "https://host:8443/b").unwrap().unwrap().may_authorize);
        assert!(!next(&get("http://host/a"), 302, "https://host/b").unwrap().unwrap().may_authorize);
        let away = next(&start, 302, "https://other/b").unwrap().unwrap();
        assert!(!away.may_authorize);
        assert!(!next(&away, 302, "https://host/c").unwrap().unwrap().may_authorize);
    }

    #[test]
    fn https_does_not_become_http() {
        let error = next(&get("https://host/a"), 301, "http://host/a").err().unwrap();
        assert!(matches!(error, Error::RedirectInsecure { .. }));
    }

    #[test]
    fn only_307_and_308_keep_a_post() {
        let start = Hop::first(Method::POST, Url::parse("https://host/a").unwrap());
        for (status, method) in [
            (301, Method::GET),
            (302, Method::GET),
            (303, Method::GET),
            (307, Method::POST),
            (308, Method::POST),
        ] {
            let hop = next(&start, status, "/b").unwrap().unwrap();
            assert_eq!((hop.sends_body, &hop.method), (method == Method::POST, &method));
        }
        assert!(next(&start, 304, "/b").unwrap().is_none());
    }

    #[test]
    fn the_eleventh_redirect_and_one_to_nowhere_are_errors() {
        let mut hop = get("http://host/a");
        for _ in 0..LIMIT {
            hop = next(&hop, 302, "/a").unwrap().unwrap();
        }
        assert!(matches!(next(&hop, 302, "/a").err().unwrap(), Error::RedirectLoop { .. }));
        assert!(matches!(
            next(&get("http://h/"), 302, "ftp://h/").err().unwrap(),
            Error::RedirectBroken { .. }
        ));
        let long = HeaderValue::from_str(&format!("/{}", "p".repeat(LONGEST))).unwrap();
        let headers = HeaderMap::from_iter([("location".parse().unwrap(), long)]);
        assert!(matches!(get("http://h/").next(302, &headers), Err(Error::RedirectBroken { .. })));
        assert!(matches!(get("http://h/").next(302, &HeaderMap::new()), Err(Error::RedirectBroken { .. })));
    }
}
