//! The names of runners and labels.
//!
//! GitHub's runner silently drops a name that begins with `-` and registers with the host name instead, and an overlong
//! label makes it drop all labels; therefore both are refused here.

use super::error::Error;
use crate::host::Platform;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

/// The longest name that GitHub accepts, in characters.
pub const NAME_LIMIT: usize = 64;
/// The longest label that GitHub's runner accepts, in characters.
pub const LABEL_LIMIT: usize = 256;

/// Stands for a host name of which nothing can be in a name.
const NAMELESS: &str = "runner";

/// Hashed together with the machine's id, so that the hash differs from those of other programs.
const MACHINE_ID_DOMAIN: &[u8] = b"runup runner name\0";

/// What is wrong with `text` as a value of `config.sh`, as a phrase that fits after it.
fn fault(text: &str, limit: usize) -> Option<String> {
    let length = text.chars().count();
    if text.is_empty() {
        Some("is empty".to_owned())
    } else if length > limit {
        Some(format!("has {length} characters, but at most {limit} are allowed"))
    } else if text.starts_with('-') {
        Some("begins with `-`, which GitHub's runner would take for an option".to_owned())
    } else if text.trim() != text {
        Some("has white space around it".to_owned())
    } else if text.chars().any(char::is_control) {
        Some("has control characters".to_owned())
    } else {
        None
    }
}

/// The name of a runner: 1 to 64 characters. The server decides which characters it accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunnerName(String);

impl RunnerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunnerName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match fault(text, NAME_LIMIT) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(Error::BadName { given: text.to_owned(), why }),
        }
    }
}

impl TryFrom<String> for RunnerName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RunnerName> for String {
    fn from(name: RunnerName) -> Self {
        name.0
    }
}

impl fmt::Display for RunnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A label: 1 to 256 characters, no comma.
#[derive(Debug, Clone, Serialize)]
pub struct Label(String);

impl Label {
    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Label {
    /// Labels are compared without case.
    fn eq(&self, other: &Self) -> bool {
        self.0.to_lowercase() == other.0.to_lowercase()
    }
}

impl Eq for Label {}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        // The runner does not trim the parts between commas: " gpu" would be another label than "gpu".
        let text = text.trim();
        let comma = text.contains(',').then(|| "has a comma, which separates labels".to_owned());
        match fault(text, LABEL_LIMIT).or(comma) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(Error::BadLabel { given: text.to_owned(), why }),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Labels without duplicates, in the given order: `gpu,large`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Labels(Vec<Label>);

impl Label {
    /// Whether it was probably meant as several labels: no workflow asks for one with white space or a semicolon.
    #[must_use]
    pub fn looks_like_several(&self) -> bool {
        self.as_str().contains(|c: char| c.is_whitespace() || c == ';')
    }
}

impl Labels {
    /// The labels.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is among them, ignoring case.
    #[must_use]
    pub fn contains(&self, label: &Label) -> bool {
        self.0.contains(label)
    }
}

impl Labels {
    /// Adds a label, unless it is among them.
    pub fn add(&mut self, label: Label) {
        if !self.contains(&label) {
            self.0.push(label);
        }
    }
}

impl FromStr for Labels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut labels = Self::default();
        for piece in text.split(',').filter(|piece| !piece.trim().is_empty()) {
            labels.add(piece.parse()?);
        }
        Ok(labels)
    }
}

impl fmt::Display for Labels {
    /// In the format of `config.sh --labels`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&str> = self.iter().map(Label::as_str).collect();
        f.write_str(&labels.join(","))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Hostname,
    MachineId,
    Random,
    Os,
    Arch,
    Dir,
    Index,
    InstanceId,
    Region,
}

impl Placeholder {
    const ALL: [Self; 9] = [
        Self::Hostname,
        Self::MachineId,
        Self::Random,
        Self::Os,
        Self::Arch,
        Self::Dir,
        Self::Index,
        Self::InstanceId,
        Self::Region,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Hostname => "hostname",
            Self::MachineId => "machine-id",
            Self::Random => "random",
            Self::Os => "os",
            Self::Arch => "arch",
            Self::Dir => "dir",
            Self::Index => "index",
            Self::InstanceId => "instance-id",
            Self::Region => "region",
        }
    }
}

/// The placeholders with their braces.
pub(super) fn placeholders() -> Vec<String> {
    Placeholder::ALL.iter().map(|one| format!("{{{}}}", one.word())).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(Placeholder),
}

/// The values for a template.
#[derive(Debug, Clone)]
pub struct NameContext {
    /// The machine's name; only the part before the first dot is used.
    pub hostname: String,
    /// `/etc/machine-id`. Only a hash of it is used in names, because the id itself should not leave the machine.
    pub machine_id: Option<String>,
    /// Six characters that differ in each run: [`random_word`].
    pub random: String,
    /// The platform.
    pub platform: Platform,
    /// The last component of the runner's directory, if it has one.
    pub dir: Option<String>,
    /// The number of the runner among those of its machine, if it has one.
    pub index: Option<u32>,
    /// The id of this machine in its cloud, if that is known.
    pub instance_id: Option<String>,
    /// The region of the cloud, if that is known.
    pub region: Option<String>,
}

/// Six random characters of `a-z0-9` from the operating system, so that clones of a machine get different ones.
#[must_use]
pub fn random_word() -> String {
    let mut random = fastrand::Rng::with_seed(RandomState::new().hash_one("runner name"));
    std::iter::repeat_with(|| {
        char::from(random.choice(*b"abcdefghijklmnopqrstuvwxyz0123456789").unwrap_or(b'0'))
    })
    .take(6)
    .collect()
}

/// A template for names: `{hostname}-{random}`. `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate {
    text: String,
    parts: Vec<Part>,
}

impl NameTemplate {
    /// Whether it results in another name each time.
    #[must_use]
    pub fn uses_random(&self) -> bool {
        self.parts.contains(&Part::Placeholder(Placeholder::Random))
    }

    /// Whether it results in another name for each runner of a machine, by their numbers.
    #[must_use]
    pub fn uses_index(&self) -> bool {
        self.parts.contains(&Part::Placeholder(Placeholder::Index))
    }

    /// Whether it needs what only the cloud knows of a machine: the placeholder for it.
    #[must_use]
    pub fn needs_cloud(&self) -> Option<String> {
        let of_cloud = [Placeholder::InstanceId, Placeholder::Region];
        let used = of_cloud.into_iter().find(|one| self.parts.contains(&Part::Placeholder(*one)));
        used.map(|placeholder| format!("{{{}}} in --name", placeholder.word()))
    }

    /// Whether it results in another name on every machine.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        let unique = [Placeholder::Random, Placeholder::MachineId, Placeholder::InstanceId];
        unique.into_iter().any(|one| self.parts.contains(&Part::Placeholder(one)))
    }

    /// The name for this machine. A host name that makes it too long is shortened, whatever else makes it unique is not.
    ///
    /// # Errors
    /// Nothing is known of the machine that a placeholder needs; the name is invalid, or too long without a host name.
    pub fn render(&self, context: &NameContext) -> Result<RunnerName, Error> {
        let name = self.fill(context)?;
        let excess = name.chars().count().saturating_sub(NAME_LIMIT);
        let hostname = value(Placeholder::Hostname, context).unwrap_or_default();
        let uses_it = self.parts.contains(&Part::Placeholder(Placeholder::Hostname));
        let name = if excess > 0 && uses_it && hostname.len() > excess {
            let hostname = hostname[..hostname.len() - excess].to_owned();
            self.fill(&NameContext { hostname, ..context.clone() })?
        } else {
            name
        };
        name.parse()
            .map_err(|source| Error::BadRender { template: self.text.clone(), source: Box::new(source) })
    }

    fn fill(&self, context: &NameContext) -> Result<String, Error> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Placeholder(placeholder) => {
                    let value = value(*placeholder, context).ok_or_else(|| Error::NothingToFillIn {
                        template: self.text.clone(),
                        placeholder: placeholder.word(),
                    })?;
                    name.push_str(&value);
                }
            }
        }
        Ok(name)
    }
}

fn value(placeholder: Placeholder, context: &NameContext) -> Option<String> {
    let value = match placeholder {
        Placeholder::Hostname => sanitised(context.hostname.trim().split('.').next().unwrap_or_default()),
        Placeholder::MachineId => fingerprint(context.machine_id.as_deref()?),
        Placeholder::Random => context.random.clone(),
        Placeholder::Os => context.platform.os.to_string(),
        Placeholder::Arch => context.platform.arch.to_string(),
        Placeholder::Dir => sanitised(context.dir.as_deref()?),
        Placeholder::Index => context.index?.to_string(),
        Placeholder::InstanceId => context.instance_id.clone()?,
        Placeholder::Region => context.region.clone()?,
    };
    (!value.is_empty()).then_some(value)
}

/// Eight hexadecimal digits that identify the machine without revealing its id.
#[must_use]
pub fn fingerprint(machine_id: &str) -> String {
    let hash = Sha256::new().chain_update(MACHINE_ID_DOMAIN).chain_update(machine_id.trim()).finalize();
    hex::encode(&hash[..4])
}

/// The short name of a host, or the name of a directory, with `-` for unusual characters.
fn sanitised(name: &str) -> String {
    let usual = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let name = name.chars().map(usual).collect::<String>().trim_matches('-').to_owned();
    // A host that is called `-` or `日本` has a runner as well.
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}

impl FromStr for NameTemplate {
    type Err = Error;

    fn from_str(template: &str) -> Result<Self, Error> {
        let loose = |brace| Error::LooseBrace { template: template.to_owned(), brace };
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            text.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                text.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                text.push('}');
                rest = after;
            } else if let Some(after) = from.strip_prefix('{') {
                let (word, after) = after.split_once('}').ok_or_else(|| loose('{'))?;
                let known = Placeholder::ALL.into_iter().find(|one| one.word() == word);
                let placeholder = known.ok_or_else(|| Error::UnknownPlaceholder {
                    template: template.to_owned(),
                    placeholder: word.to_owned(),
                })?;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Placeholder(placeholder));
                rest = after;
            } else {
                return Err(loose('}'));
            }
        }
        text.push_str(rest);
        // A template without placeholders is checked now, so that a bad name is an error of the command line.
        if parts.is_empty() {
            text.parse::<RunnerName>()?;
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { text: template.to_owned(), parts })
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
