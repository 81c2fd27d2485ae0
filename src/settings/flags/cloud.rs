//! The options about the machine's cloud.

#![expect(clippy::doc_markdown, reason = "these comments are the help texts, printed as they are")]

use crate::host::{self, Provider, Root};
use clap::{Args, ValueEnum};
use url::Url;

/// What jobs may use of this machine's cloud.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cloud options")]
pub struct Metadata {
    /// Let jobs use the cloud's metadata service, and with it the identity of this machine
    ///
    /// Otherwise, as root, runup denies it to the runner's user at each start, with routing rules for TCP port 80 of
    /// 169.254.169.254, fd00:ec2::254 and similar addresses, and does not start the runner if it cannot set them. For
    /// containers that a job starts, also set a hop limit of 1 in the cloud.
    #[arg(long)]
    pub allow_metadata: bool,
}

/// The cloud of this machine, which can reclaim it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cloud options")]
pub struct Cloud {
    /// Cloud of this machine, for {instance-id}, {region} and --label-from, and for the termination notices of spot machines
    /// that `run` watches for
    #[arg(long, value_enum, default_value = "auto", value_name = "CLOUD")]
    pub cloud: CloudChoice,
    /// URL of the cloud's metadata service [default: http://169.254.169.254]
    #[arg(long, value_name = "URL", value_parser = parse_metadata_url)]
    pub metadata_url: Option<Url>,
}

impl Cloud {
    /// The clouds to ask. If the URL is known but the cloud is not, all of them are asked.
    #[must_use]
    pub fn providers(&self, root: &Root) -> Vec<Provider> {
        match self.cloud {
            CloudChoice::Auto => match host::cloud(root) {
                Some(provider) => vec![provider],
                None if self.metadata_url.is_some() => Provider::ALL.to_vec(),
                None => Vec::new(),
            },
            CloudChoice::Aws => vec![Provider::Aws],
            CloudChoice::Azure => vec![Provider::Azure],
            CloudChoice::Gcp => vec![Provider::Gcp],
            CloudChoice::None => Vec::new(),
        }
    }
}

fn parse_metadata_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error: url::ParseError| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("expected an http(s) URL".to_owned()) }
}

/// A cloud, or how to detect it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CloudChoice {
    /// The cloud that the machine's firmware names
    Auto,
    /// Amazon EC2
    Aws,
    /// Microsoft Azure
    Azure,
    /// Google Compute Engine
    Gcp,
    /// No cloud: it is not asked for anything
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_is_the_one_set_else_the_firmwares_else_none() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().to_owned());
        let metadata_url = || Some("http://127.0.0.1:1".parse().unwrap());
        let of = |cloud, metadata_url| Cloud { cloud, metadata_url }.providers(&root);
        assert_eq!(of(CloudChoice::Auto, None), []);
        assert_eq!(of(CloudChoice::Auto, metadata_url()), Provider::ALL);
        assert_eq!(of(CloudChoice::None, metadata_url()), []);
        let firmware = dir.path().join("sys/class/dmi/id");
        fs_err::create_dir_all(&firmware).unwrap();
        fs_err::write(firmware.join("sys_vendor"), "Amazon EC2\n").unwrap();
        assert_eq!(of(CloudChoice::Auto, metadata_url()), [Provider::Aws]);
        assert_eq!(of(CloudChoice::Gcp, None), [Provider::Gcp]);
        assert_eq!(of(CloudChoice::None, None), []);
    }

    #[test]
    fn the_metadata_url_is_http_only() {
        assert!(parse_metadata_url("http://169.254.169.254").is_ok());
        assert!(parse_metadata_url("file:///etc/passwd").is_err());
        assert!(parse_metadata_url("169.254.169.254").is_err());
    }
}
