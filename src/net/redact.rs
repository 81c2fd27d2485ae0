//! Redacts URLs for display: no user information, and no values that could be a signature.

use url::Url;

/// Query keys whose values are not secret and help to understand a log line.
const PLAIN: [&str; 4] = ["page", "per_page", "name", "filter"];

/// The longest URL that is shown, in bytes. A server can redirect to one of hundreds of kilobytes.
const LONGEST: usize = 500;

/// `url` for errors and logs: user information, the fragment and the values of unknown query keys are hidden, because
/// download URLs have their authorization in the query. A very long URL is cut.
#[must_use]
pub fn redact(url: &Url) -> String {
    let mut text = whole(url);
    if text.len() > LONGEST {
        text.truncate((0..=LONGEST).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0));
        text.push_str("[...]");
    }
    text
}

fn whole(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_fragment(None);
    if !url.username().is_empty() || url.password().is_some() {
        // Both calls fail only for URLs that cannot have user information, and this one has some.
        let _ = shown.set_password(None);
        let _ = shown.set_username("***");
    }
    shown.set_query(None);
    let mut text = shown.to_string();
    if let Some(query) = url.query() {
        let pairs: Vec<String> = query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((key, _)) if PLAIN.contains(&key) => pair.to_owned(),
                Some((key, _)) => format!("{key}=***"),
                // A query without keys may be the secret itself.
                None => "***".to_owned(),
            })
            .collect();
        text.push('?');
        text.push_str(&pairs.join("&"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_authorize_is_hidden_and_the_rest_stays() {
        let cases = [
            (
                "https://api.github.com/orgs/o?per_page=100&page=2",
                "https://api.github.com/orgs/o?per_page=100&page=2",
            ),
            ("https://me:canary@host/x", "https://***@host/x"),
            ("https://canary@host:8443/x", "https://***@host:8443/x"),
            ("https://host/x?sig=canary&se=canary#canary", "https://host/x?sig=***&se=***"),
            ("https://host/x?canary", "https://host/x?***"),
        ];
        for (url, shown) in cases {
            assert_eq!(redact(&Url::parse(url).unwrap()), shown);
        }
    }

    #[test]
    fn what_is_very_long_is_cut() {
        let long = format!("https://host/{}?x", "p".repeat(300_000));
        let shown = redact(&Url::parse(&long).unwrap());
        assert!(shown.len() < LONGEST + 10 && shown.ends_with("[...]"), "{shown}");
    }
}
