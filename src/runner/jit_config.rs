//! A just-in-time configuration that was created elsewhere: base64 of a JSON object that maps file names to their
//! contents, which are base64 again. The listener writes each file to the runner's directory at every start with it.
//!
//! The operator passes it and is trusted, but a wrong file must not be written under any name to that directory, so all
//! of it is checked before anything is placed. What it says about the runner is shown, but never decides what is
//! deleted.

use super::state::{self, RunnerFile};
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::{Zeroize as _, Zeroizing};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// The files of a runner that the server created; GitHub sends these three.
const FILES: [&str; 3] = [".runner", ".credentials", ".credentials_rsaparams"];

/// Why a text is not a just-in-time configuration. No variant holds any part of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is empty.
    #[error("the just-in-time configuration is empty")]
    Empty,
    /// The outer layer is not base64.
    #[error("the just-in-time configuration is not base64")]
    NotBase64 {
        /// It looks like JSON, which may be the whole answer of the API.
        json: bool,
    },
    /// The decoded text is not a JSON object with string values.
    #[error("the just-in-time configuration is not a JSON object that maps file names to base64 texts")]
    NotAMap,
    /// It has a file that is not part of a runner.
    #[error("the just-in-time configuration has the unknown file {name:?}")]
    UnknownFile {
        /// Its name.
        name: String,
    },
    /// It does not have a file that every runner has.
    #[error("the just-in-time configuration has no {name}")]
    MissingFile {
        /// Its name.
        name: &'static str,
    },
    /// A file with an invalid content.
    #[error("{name} in the just-in-time configuration cannot be used: {why}")]
    BadFile {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Failure for Error {
    fn class(&self) -> Class {
        Class::Data
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotBase64 { json: true } => {
                "Write only the value of `encoded_jit_config` to the file, not the whole answer of the API."
                    .to_owned()
            }
            _ => "Write the `encoded_jit_config` that GitHub returned to the file, unchanged and without anything else."
                .to_owned(),
        })
    }

    fn situation(&self) -> &'static Situation {
        &situation::JIT_CONFIG
    }
}

/// A checked just-in-time configuration: the value for the listener, and the runner that it describes.
#[derive(Debug, Clone)]
pub struct JitIdentity {
    encoded: Secret,
    runner: RunnerFile,
}

impl JitIdentity {
    /// Checks a configuration; white space in it is ignored, as the runner does.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let compact: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        if compact.is_empty() {
            return Err(Error::Empty);
        }
        let not_base64 = || Error::NotBase64 { json: compact.starts_with('{') };
        let map = Zeroizing::new(STANDARD.decode(compact.as_bytes()).map_err(|_| not_base64())?);
        let encoded = Secret::new(&compact).ok_or_else(not_base64)?;
        let mut files = Files(serde_json::from_slice(&map).map_err(|_| Error::NotAMap)?);
        if let Some(name) = files.0.keys().find(|name| !FILES.contains(&name.as_str())) {
            return Err(Error::UnknownFile { name: name.chars().take(80).collect() });
        }
        let mut runner = None;
        for name in FILES {
            let content = files.take(name)?;
            let bad = |why: &str| Error::BadFile { name, why: why.to_owned() };
            if name == ".runner" {
                runner = Some(state::parse(&content).map_err(|why| bad(&why))?);
            } else if !is_object(&content) {
                return Err(bad("it is not a JSON object"));
            }
        }
        let runner = runner.ok_or(Error::MissingFile { name: FILES[0] })?;
        Ok(Self { encoded, runner })
    }

    /// The value for the listener.
    #[must_use]
    pub fn encoded(&self) -> &Secret {
        &self.encoded
    }

    /// The runner, as the configuration describes it.
    #[must_use]
    pub fn runner(&self) -> &RunnerFile {
        &self.runner
    }
}

/// The map, whose values are wiped when it is dropped.
struct Files(BTreeMap<String, String>);

impl Files {
    fn take(&mut self, name: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let text = Zeroizing::new(self.0.remove(name).ok_or(Error::MissingFile { name })?);
        let content = STANDARD.decode(text.as_bytes());
        content.map(Zeroizing::new).map_err(|_| Error::BadFile { name, why: "it is not base64".to_owned() })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.0.values_mut().for_each(zeroize);
    }
}

fn zeroize(text: &mut String) {
    text.zeroize();
}

/// Whether it is a JSON object, after an optional byte order mark. Its values are not copied.
fn is_object(content: &[u8]) -> bool {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    content.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(content).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RUNNER: &str = r#"{"agentId":23,"agentName":"box-1","ephemeral":true,"workFolder":"_work"}"#;

    fn encode(text: &str) -> String {
        STANDARD.encode(text)
    }

    fn config(files: &serde_json::Value) -> String {
        encode(&files.to_string())
    }

    fn good() -> serde_json::Value {
        json!({".runner": encode(RUNNER), ".credentials": encode("{}"), ".credentials_rsaparams": encode("\u{feff}{}")})
    }

    fn refused(text: &str) -> Error {
        let error = JitIdentity::parse(text).unwrap_err();
        assert_eq!(error.class(), Class::Data);
        assert!(error.hint().unwrap().contains("encoded_jit_config"));
        error
    }

    #[test]
    fn what_the_server_sends_is_taken_and_says_who_the_runner_is() {
        let text = config(&good());
        let wrapped = format!("{}\n{}\n", &text[..40], &text[40..]);
        let identity = JitIdentity::parse(&wrapped).unwrap();
        assert_eq!(identity.encoded().expose(), text);
        assert_eq!((identity.runner().agent_id, identity.runner().agent_name.as_str()), (23, "box-1"));
        assert!(!format!("{identity:?}").contains(&text[..40]), "{identity:?}");
    }

    /// GitHub's own service writes every value of `.runner` as a text.
    #[test]
    fn numbers_and_flags_may_be_texts() {
        let mut files = good();
        files[".runner"] =
            encode(r#"{"AgentId":"1042","AgentName":"x","Ephemeral":"True","PoolName":null}"#).into();
        let identity = JitIdentity::parse(&config(&files)).unwrap();
        assert_eq!((identity.runner().agent_id, identity.runner().ephemeral), (1042, true));
    }

    #[test]
    fn anything_else_is_refused_without_showing_it() {
        assert!(matches!(refused(" \n"), Error::Empty));
        assert!(matches!(refused("not base64!"), Error::NotBase64 { json: false }));
        assert!(matches!(refused(r#"{"encoded_jit_config": "e30="}"#), Error::NotBase64 { json: true }));
        for text in ["", "[]", "text", r#"{".runner": 1}"#, r#"{".runner": {}}"#] {
            assert!(matches!(refused(&encode(&format!("{text} "))), Error::NotAMap), "{text}");
        }
        for name in ["../.bashrc", "/etc/passwd", ".env", "bin/Runner.Listener", ".runner_migrated", ""] {
            let mut files = good();
            files[name] = encode("CANARY").into();
            let error = refused(&config(&files));
            assert!(matches!(&error, Error::UnknownFile { name: found } if found == name), "{error}");
            assert!(!format!("{error} {error:?}").contains("CANARY"));
        }
        for name in FILES {
            let mut files = good();
            files.as_object_mut().unwrap().remove(name);
            assert!(
                matches!(refused(&config(&files)), Error::MissingFile { name: missing } if missing == name)
            );
            for content in ["no base64!".to_owned(), encode("[]"), encode("{"), encode("")] {
                let mut files = good();
                files[name] = content.into();
                assert!(matches!(refused(&config(&files)), Error::BadFile { name: bad, .. } if bad == name));
            }
        }
    }
}
