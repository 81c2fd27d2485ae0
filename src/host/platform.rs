//! The platform of this machine: that of the kernel *and* that of its programs, which can differ.
//!
//! The runner is a program, so the architecture of programs decides: a system with 32-bit programs on a 64-bit ARM
//! kernel gets the 32-bit runner.

use super::{Error, Root};
use std::fmt;
use std::str::FromStr;

/// An operating system, in GitHub's words for runner applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Os {
    /// Linux, `linux`.
    Linux,
    /// macOS, `osx`.
    Osx,
    /// Windows, `win`.
    Win,
}

impl Os {
    /// The one that this program was compiled for.
    #[must_use]
    pub const fn ours() -> Self {
        if cfg!(windows) {
            Self::Win
        } else if cfg!(target_os = "macos") {
            Self::Osx
        } else {
            Self::Linux
        }
    }
}

/// An architecture, in GitHub's words for runner applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86, `x64`.
    X64,
    /// 64-bit ARM, `arm64`.
    Arm64,
    /// 32-bit ARM with hardware floating point, version 7 or later, `arm`.
    Arm,
}

/// What a runner application is selected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// Operating system.
    pub os: Os,
    /// Architecture.
    pub arch: Arch,
}

/// The C library that programs are linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// The GNU one, which GitHub's runner needs on Linux.
    Gnu,
    /// musl, as on Alpine, where the runner does not start.
    Musl,
    /// Not Linux, or it could not be determined.
    Unknown,
}

/// A word that is not an operating system or architecture with a runner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of {known}")]
pub struct UnknownWord {
    word: String,
    known: &'static str,
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linux => "linux",
            Self::Osx => "osx",
            Self::Win => "win",
        })
    }
}

impl FromStr for Os {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "linux" => Ok(Self::Linux),
            "osx" | "macos" | "darwin" => Ok(Self::Osx),
            "win" | "windows" => Ok(Self::Win),
            _ => Err(UnknownWord { word: word.into(), known: "linux, osx, win" }),
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
            Self::Arm => "arm",
        })
    }
}

impl FromStr for Arch {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "x64" | "x86_64" | "x86-64" | "amd64" => Ok(Self::X64),
            "arm64" | "aarch64" | "armv8" => Ok(Self::Arm64),
            "arm" | "armhf" | "arm32" | "armv7" | "armv7l" | "armv8l" => Ok(Self::Arm),
            _ => Err(UnknownWord { word: word.into(), known: "x64, arm64, arm" }),
        }
    }
}

impl FromStr for Platform {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let (os, arch) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self { os: os.parse()?, arch: arch.parse()? })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.os, self.arch))
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Gnu => "glibc",
            Self::Musl => "musl",
            Self::Unknown => "unknown",
        })
    }
}

/// A Linux distribution, by os-release(5). Fields are empty if it does not have them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distribution {
    /// `debian`, `fedora`, `amzn`, ...
    pub id: String,
    /// The distributions that it derives from, the closest first.
    pub id_like: Vec<String>,
    /// `12`, `24.04`; rolling ones have none.
    pub version: String,
    /// The name for display.
    pub pretty: String,
}

impl Distribution {
    /// Whether it is one of these or derives from one.
    #[must_use]
    pub fn is_like(&self, ids: &[&str]) -> bool {
        std::iter::once(&self.id).chain(&self.id_like).any(|id| ids.contains(&id.as_str()))
    }

    /// Reads the text of an os-release file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))
                .next_back()
                .map(unquote)
                .unwrap_or_default()
        };
        Self {
            id: field("ID"),
            id_like: field("ID_LIKE").split_whitespace().map(Into::into).collect(),
            version: field("VERSION_ID"),
            pretty: field("PRETTY_NAME"),
        }
    }

    /// The one under the root.
    #[must_use]
    pub fn of(root: &Root) -> Self {
        ["/etc/os-release", "/usr/lib/os-release"]
            .into_iter()
            .filter_map(|path| root.resolve(path.as_ref()))
            .find_map(|path| fs_err::read_to_string(path).ok())
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }
}

/// Parses a value in the subset of shell syntax that os-release(5) allows.
fn unquote(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(inside) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            let mut plain = String::new();
            let mut chars = inside.chars();
            while let Some(char) = chars.next() {
                plain.extend(if char == '\\' && quote == '"' { chars.next() } else { Some(char) });
            }
            return plain;
        }
    }
    value.into()
}

/// A machine, or an image for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The platform of its runner.
    pub platform: Platform,
    /// The kernel's own word for itself: `x86_64`, `aarch64`, `armv7l`.
    pub kernel_machine: String,
    /// What its programs are built for, and how that was determined.
    pub userland: String,
    /// Their C library.
    pub libc: Libc,
    /// Which Linux it is; empty elsewhere.
    pub distribution: Distribution,
    /// Notes for the user about the detection, as full sentences.
    pub notes: Vec<String>,
}

/// Examines the kernel and the programs under the root. [`Error::Unsupported`] if GitHub has no runner for them.
pub fn detect(root: &Root) -> Result<Machine, Error> {
    let machine = super::detect::machine(root)?;
    tracing::debug!(?machine, "detected the machine");
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_read_as_it_is_written() {
        let platform = Platform { os: Os::Linux, arch: Arch::Arm64 };
        assert_eq!(platform.to_string().parse(), Ok(platform));
        assert!("linux".parse::<Platform>().is_err() && "arm64-linux".parse::<Platform>().is_err());
    }

    #[test]
    fn githubs_words_and_the_worlds_are_read_and_githubs_are_written() {
        for (word, os) in [("linux", Os::Linux), ("macOS", Os::Osx), ("osx", Os::Osx), ("Windows", Os::Win)] {
            assert_eq!(word.parse(), Ok(os));
            assert_eq!(os.to_string().parse(), Ok(os));
        }
        for (word, arch) in [("amd64", Arch::X64), ("aarch64", Arch::Arm64), ("armv7l", Arch::Arm)] {
            assert_eq!(word.parse(), Ok(arch));
            assert_eq!(arch.to_string().parse(), Ok(arch));
        }
        let error = "riscv64".parse::<Arch>().unwrap_err();
        assert_eq!(error.to_string(), "\"riscv64\" is not one of x64, arm64, arm");
        assert_eq!(Platform { os: Os::Osx, arch: Arch::Arm64 }.to_string(), "osx-arm64");
    }

    #[test]
    fn a_distribution_is_read_with_any_quoting() {
        let text = "# comment\nNAME=Amazon\nID=\"amzn\"\nID_LIKE='fedora rhel'\nVERSION_ID=2023\nPRETTY_NAME=\"A \\\"B\\\"\"\n";
        let found = Distribution::parse(text);
        assert_eq!(
            found,
            Distribution {
                id: "amzn".into(),
                id_like: vec!["fedora".into(), "rhel".into()],
                version: "2023".into(),
                pretty: "A \"B\"".into()
            }
        );
        assert!(found.is_like(&["rhel"]) && found.is_like(&["amzn"]) && !found.is_like(&["debian"]));
        assert_eq!(Distribution::parse(""), Distribution::default());
    }
}
