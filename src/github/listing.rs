//! Lists, read one element at a time and with a limit each, so that no answer takes much memory.
//!
//! A document of a few megabytes can hold a million small elements, and a server can send pages without end.

use super::answer::{bad_document, has_next};
use super::client::{Client, PER_PAGE};
use super::document::{Group, Runner};
use super::error::Error;
use crate::deadline::Deadline;
use crate::net::{Answer, redact};
use reqwest::Method;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

/// The most elements of one answer. A page has at most 100, the list of runner applications about twenty.
pub(super) const MOST_ON_A_PAGE: usize = 1000;
/// The most pages of a list: 100,000 elements if the server fills the pages, as GitHub does. A runner group has at most
/// 10,000 runners.
const MOST_PAGES: u32 = 1000;
/// The most elements of a list over all pages.
const MOST_ELEMENTS: usize = 100_000;
/// The most bytes in memory for the elements of a list that are kept: about 10,000 runners.
const MOST_KEPT: usize = 6 << 20;

#[derive(Deserialize)]
struct RunnerPage<'a> {
    #[serde(borrow)]
    runners: &'a RawValue,
}

#[derive(Deserialize)]
struct GroupPage<'a> {
    #[serde(borrow)]
    runner_groups: &'a RawValue,
}

impl Client {
    /// The runners of the scope for which `admits` is true, from all pages; `name` is for servers that can filter by
    /// it. Only these are kept in memory. All pages together have the timeout of one call.
    pub async fn runners_where(
        &self,
        name: Option<&str>,
        admits: impl Fn(&Runner) -> bool,
    ) -> Result<Vec<Runner>, Error> {
        let mut pages = Pages::new(self, "/actions/runners", name);
        let (mut runners, mut kept) = (Vec::new(), 0);
        while let Some(answer) = pages.next().await? {
            let what = "list of runners";
            let page: RunnerPage<'_> = parse(&answer, what)?;
            let mut too_large = false;
            let read = each(page.runners.get().as_bytes(), |runner: Runner| {
                // A runner that is added or removed meanwhile shifts the pages, so that one can be listed twice.
                if pages.is_new(runner.id) && admits(&runner) && !too_large {
                    kept += weight(&runner);
                    too_large = kept > MOST_KEPT;
                    runners.push(runner);
                }
            });
            read.map_err(|source| bad_document(&Method::GET, &answer, what, source))?;
            if too_large {
                return Err(Error::ListTooLarge { url: redact(&answer.url), count: runners.len() });
            }
            pages.finish(&answer)?;
        }
        Ok(runners)
    }

    /// The runners of the scope, if all are on one page.
    pub(super) async fn runners_of_one_page(&self) -> Result<Option<Vec<Runner>>, Error> {
        let mut pages = Pages::new(self, "/actions/runners", None);
        let Some(answer) = pages.next().await? else { return Ok(None) };
        let what = "list of runners";
        let page: RunnerPage<'_> = parse(&answer, what)?;
        let mut runners = Vec::new();
        let read = each(page.runners.get().as_bytes(), |runner: Runner| runners.push(runner));
        read.map_err(|source| bad_document(&Method::GET, &answer, what, source))?;
        Ok(Some(runners).filter(|_| !has_next(&answer)))
    }

    /// The runner groups of the scope, from all pages, until `found` is true for one.
    pub(super) async fn group_where(&self, found: impl Fn(&Group) -> bool) -> Result<Option<Group>, Error> {
        let mut pages = Pages::new(self, "/actions/runner-groups", None);
        while let Some(answer) = pages.next().await? {
            let what = "list of runner groups";
            let page: GroupPage<'_> = parse(&answer, what)?;
            let mut matching = None;
            let read = each(page.runner_groups.get().as_bytes(), |group: Group| {
                if pages.is_new(group.id) && matching.is_none() && found(&group) {
                    matching = Some(group);
                }
            });
            read.map_err(|source| bad_document(&Method::GET, &answer, what, source))?;
            if matching.is_some() {
                return Ok(matching);
            }
            pages.finish(&answer)?;
        }
        Ok(None)
    }
}

/// The pages of a list, one after another.
struct Pages<'a> {
    client: &'a Client,
    tail: &'static str,
    name: Option<&'a str>,
    deadline: Deadline,
    page: u32,
    /// The ids of all elements so far.
    seen: HashSet<u64>,
    /// How many elements there were before this page.
    known: usize,
    is_last: bool,
}

impl<'a> Pages<'a> {
    fn new(client: &'a Client, tail: &'static str, name: Option<&'a str>) -> Self {
        let deadline = client.call_deadline();
        Self { client, tail, name, deadline, page: 0, seen: HashSet::new(), known: 0, is_last: false }
    }

    /// The next page; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Answer>, Error> {
        if self.is_last {
            return Ok(None);
        }
        self.page += 1;
        self.known = self.seen.len();
        let number = self.page.to_string();
        let mut query = vec![("per_page", PER_PAGE), ("page", number.as_str())];
        // Servers before 3.11 ignore the name, so the caller filters in any case.
        query.extend(self.name.map(|name| ("name", name)));
        self.client.get_by(self.deadline, self.tail, &query).await.map(Some)
    }

    /// Whether no page has had this id before. Beyond the limit nothing is new, and [`Pages::finish`] fails.
    fn is_new(&mut self, id: u64) -> bool {
        self.seen.len() <= MOST_ELEMENTS && self.seen.insert(id)
    }

    /// Determines after a page whether there is another one.
    fn finish(&mut self, answer: &Answer) -> Result<(), Error> {
        let url = || redact(&answer.url);
        if self.seen.len() > MOST_ELEMENTS {
            return Err(Error::ListTooLong { url: url(), limit: MOST_ELEMENTS });
        }
        self.is_last = !has_next(answer);
        if self.is_last {
            return Ok(());
        }
        if self.seen.len() == self.known {
            return Err(Error::EndlessPages { url: url(), page: self.page });
        }
        if self.page == MOST_PAGES {
            return Err(Error::ListTooLong { url: url(), limit: self.seen.len() });
        }
        Ok(())
    }
}

/// Reads a document that borrows from the answer.
pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a Answer, what: &'static str) -> Result<T, Error> {
    serde_json::from_slice(&answer.body)
        .map_err(|source| super::answer::unreadable(&Method::GET, answer, what, source))
}

/// Passes every element of the array `json` to `take`, holding one at a time.
pub(super) fn each<'a, T: Deserialize<'a>>(
    json: &'a [u8],
    take: impl FnMut(T),
) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    Each { take, most: MOST_ON_A_PAGE, of: PhantomData }.deserialize(&mut deserializer)?;
    deserializer.end()
}

struct Each<T, F> {
    take: F,
    most: usize,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> DeserializeSeed<'de> for Each<T, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Each<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(element) = list.next_element()? {
            count += 1;
            if count > self.most {
                return Err(A::Error::custom(format_args!("a list of more than {} elements", self.most)));
            }
            (self.take)(element);
        }
        Ok(())
    }
}

/// A list inside an element, with the same limit; `null` is an empty one.
pub(super) fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Few<T>(Vec<T>);

    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let mut list = Vec::new();
            let each = Each { take: |element| list.push(element), most: MOST_ON_A_PAGE, of: PhantomData };
            each.deserialize(deserializer)?;
            // Many runners with one or two labels would otherwise hold mostly unused capacity.
            list.shrink_to_fit();
            Ok(Self(list))
        }
    }

    Ok(Option::<Few<T>>::deserialize(deserializer)?.map(|few| few.0).unwrap_or_default())
}

/// The memory that a runner takes, in bytes.
fn weight(runner: &Runner) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let labels = runner.labels.iter();
    let labels: usize = labels.map(|label| size_of_val(label) + label.name.len() + text(&label.kind)).sum();
    size_of_val(runner) + runner.name.len() + runner.os.len() + text(&runner.version) + labels
}
