//! What the cloud's metadata service says that this machine is: for the runner's name and labels.

use crate::cloud::aws::Aws;
use crate::cloud::{Metadata, Method, Oddity, PATIENCE, address, azure, gcp};
use crate::deadline::Deadline;
use crate::error::situation::{self, Situation};
use crate::error::{Class, Failure};
use crate::host::Provider;
use crate::net::{self, Http, Url};
use serde::Deserialize;
use std::time::Duration;

/// How long the service may stay silent: the network of a machine that boots comes up within that.
const LONGEST: Duration = Duration::from_secs(60);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest value. Instance ids have 36 characters at most.
const LIMIT: usize = 63;

/// This machine in its cloud. Every value is a word of letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `aws`, `azure` or `gcp`.
    pub cloud: &'static str,
    /// Its id, which no other machine gets.
    pub instance_id: String,
    /// Such as `eu-west-1`, `westeurope`, `europe-west1`.
    pub region: String,
    /// Such as `eu-west-1a`, `westeurope-1`, `europe-west1-b`; machines of Azure may have none.
    pub zone: Option<String>,
    /// Such as `m7g.large`, `Standard_D2s_v5`, `n2-standard-4`.
    pub instance_type: String,
}

impl Identity {
    /// The labels for `--label-from cloud`: the cloud, the region, the zone and the instance type.
    #[must_use]
    pub fn labels(&self) -> Vec<&str> {
        let mut labels = vec![self.cloud, &self.region];
        labels.extend(self.zone.as_deref());
        labels.push(&self.instance_type);
        labels
    }
}

/// Why the machine's identity is unknown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cloud is known.
    #[error(
        "{needed} needs a machine of AWS, Azure or Google Cloud, and this machine's firmware names none of them"
    )]
    NoCloud {
        /// The option, or its part, that needs one.
        needed: String,
    },
    /// The service cannot be reached.
    #[error("the cloud's metadata service did not answer within {} s", waited.as_secs())]
    Silent {
        /// For how long it was asked.
        waited: Duration,
        /// The last failure.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service refuses, or answers nonsense.
    #[error("the cloud's metadata service does not say what this machine is")]
    Refused {
        /// What it answered.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure for Error {
    fn class(&self) -> Class {
        match self {
            Self::NoCloud { .. } => Class::Config,
            Self::Silent { .. } => Class::TempFail,
            Self::Refused { .. } => Class::Unavailable,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoCloud { .. } => {
                "Set --cloud if it is one, or leave the option out: {hostname} and {machine-id} work everywhere.".to_owned()
            }
            Self::Silent { .. } => "Check the network; try again later.".to_owned(),
            Self::Refused { .. } => {
                "Check that the metadata service is enabled for this machine, and that --cloud is right.".to_owned()
            }
        })
    }

    fn situation(&self) -> &'static Situation {
        match self {
            Self::NoCloud { .. } | Self::Refused { .. } => &situation::METADATA_REFUSED,
            Self::Silent { .. } => &situation::METADATA_SILENT,
        }
    }
}

/// Asks the first of `providers` that answers, at `base` or the usual address, until `deadline` or for a minute. `needed` is
/// the option that needs it.
///
/// `http` must not use a proxy: use [`crate::cloud::client`].
///
/// # Errors
/// The service does not answer in time, or not with an identity.
pub async fn identity(
    http: &Http,
    providers: &[Provider],
    base: Option<&Url>,
    needed: &str,
    deadline: Deadline,
) -> Result<Identity, Error> {
    let deadline = deadline.within(LONGEST);
    let metadata = Metadata { http, base: base.cloned().unwrap_or_else(address), patience: PATIENCE };
    loop {
        let (mut passes, mut last) = (false, None);
        for provider in providers {
            let answer = match provider {
                Provider::Aws => of_aws(&metadata).await,
                Provider::Azure => of_azure(&metadata).await,
                Provider::Gcp => of_gcp(&metadata).await,
            };
            match answer {
                Ok(identity) => return Ok(identity),
                Err(oddity) => {
                    passes |= oddity.passes();
                    last = Some(oddity);
                }
            }
        }
        let Some(source) = last.map(Box::new) else {
            return Err(Error::NoCloud { needed: needed.to_owned() });
        };
        if !passes {
            return Err(Error::Refused { source });
        }
        if deadline.left() < PAUSE {
            return Err(Error::Silent { waited: deadline.total(), source });
        }
        tracing::debug!(cause = crate::error::chain(&source), "the metadata service does not answer yet");
        tokio::time::sleep(PAUSE).await;
    }
}

impl Oddity {
    /// Whether it may be another one in a moment.
    fn passes(&self) -> bool {
        match self {
            Self::Net(net::Error::Transport { trouble, .. }) => trouble.passes(),
            Self::Net(error) => matches!(error, net::Error::Deadline { .. }),
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Redirected { .. } | Self::Nonsense { .. } => false,
        }
    }
}

/// A word that a name and a label can hold.
fn word(text: &str, url: &str) -> Result<String, Oddity> {
    let is_word = (1..=LIMIT).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if is_word {
        return Ok(text.to_owned());
    }
    Err(Oddity::Nonsense { url: url.to_owned(), expected: "a word of letters, digits, `.`, `_` and `-`" })
}

fn missing(path: &str) -> Oddity {
    Oddity::Status { url: path.to_owned(), status: 404 }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AwsDocument {
    instance_id: String,
    region: String,
    availability_zone: String,
    instance_type: String,
}

async fn of_aws(metadata: &Metadata<'_>) -> Result<Identity, Oddity> {
    let path = "/latest/dynamic/instance-identity/document";
    let document = Aws::default().get(metadata, path).await?.ok_or_else(|| missing(path))?;
    let it: AwsDocument = document.json("the identity of an instance")?;
    let word = |text: &str| word(text, &document.url);
    Ok(Identity {
        cloud: "aws",
        instance_id: word(&it.instance_id)?,
        region: word(&it.region)?,
        zone: Some(word(&it.availability_zone)?),
        instance_type: word(&it.instance_type)?,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AzureDocument {
    vm_id: String,
    location: String,
    /// A number; empty where the region has no zones or the machine is in none.
    #[serde(default)]
    zone: String,
    vm_size: String,
}

async fn of_azure(metadata: &Metadata<'_>) -> Result<Identity, Oddity> {
    let path = "/metadata/instance/compute";
    let query = Some("api-version=2021-02-01&format=json");
    let answer = metadata.ask(Method::GET, path, query, &azure::HEADERS).await?;
    let document = answer.ok_or_else(|| missing(path))?;
    let it: AzureDocument = document.json("the description of a machine")?;
    let word = |text: &str| word(text, &document.url);
    let region = word(&it.location)?;
    let zone = (!it.zone.is_empty()).then(|| word(&format!("{region}-{}", it.zone))).transpose()?;
    Ok(Identity {
        cloud: "azure",
        instance_id: word(&it.vm_id)?,
        region,
        zone,
        instance_type: word(&it.vm_size)?,
    })
}

async fn of_gcp(metadata: &Metadata<'_>) -> Result<Identity, Oddity> {
    // `zone` and `machine-type` are paths, such as projects/123456/zones/europe-west1-b.
    let get = async |name: &str| {
        let path = format!("/computeMetadata/v1/instance/{name}");
        let answer = metadata.ask(Method::GET, &path, None, &gcp::HEADERS).await?;
        let document = answer.ok_or_else(|| missing(&path))?;
        let text = document.word()?;
        word(text.rsplit('/').next().unwrap_or_default(), &document.url)
    };
    let instance_id = get("id").await?;
    let zone = get("zone").await?;
    let region = zone.rsplit_once('-').map_or(zone.as_str(), |(region, _)| region).to_owned();
    Ok(Identity {
        cloud: "gcp",
        instance_id,
        region,
        zone: Some(zone),
        instance_type: get("machine-type").await?,
    })
}
