//! The names of packages, which differ between releases.

/// The name of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// The same in every release.
    Plain(&'static str),
    /// The first of these that exists.
    Either(&'static [&'static str]),
    /// This prefix with the highest existing version, which only the package manager knows.
    Newest(&'static str),
}

impl Name {
    /// The shell expression that finds the name.
    pub(super) fn in_shell(&self, inside: &str) -> String {
        match self {
            Self::Plain(name) => (*name).to_owned(),
            Self::Either(names) => {
                let (first, pattern) = (common_start(names), names.join("|").replace('.', "\\."));
                format!(
                    "\"$({inside}apt-cache pkgnames {first} | grep -Ex '{pattern}' | sort -V | tail -n 1)\""
                )
            }
            Self::Newest(prefix) => format!(
                "\"$({inside}apt-cache pkgnames {prefix} | grep -Ex '{prefix}[0-9.]+(t64)?' | sort -V | tail -n 1)\""
            ),
        }
    }

    pub(super) fn in_words(self) -> String {
        match self {
            Self::Plain(name) => name.to_owned(),
            Self::Either(names) => names.join(" or "),
            Self::Newest(prefix) => format!("{prefix}<version>"),
        }
    }
}

fn common_start(names: &[&str]) -> String {
    let Some((first, others)) = names.split_first() else { return String::new() };
    let shared = |length: &usize| others.iter().all(|other| other.get(..*length) == first.get(..*length));
    first[..(0..=first.len()).rev().find(shared).unwrap_or(0)].to_owned()
}

/// The version in a package's name: `libicu72`, `libicu74t64`; `None` for `libicu-dev`.
pub(super) fn version_behind(name: &str, prefix: &str) -> Option<Vec<u32>> {
    let rest = name.strip_prefix(prefix)?;
    rest.strip_suffix("t64").unwrap_or(rest).split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_in_a_name_is_found_and_other_packages_are_not() {
        let version = |name| version_behind(name, "libicu");
        assert_eq!(version("libicu72"), Some(vec![72]));
        assert_eq!(version("libicu74t64"), Some(vec![74]));
        assert!(version("libicu100") > version("libicu76"), "as numbers, not as texts");
        for other in ["libicu-dev", "libicu72-dbg", "libicu4j-java", "libicu", "icu-devtools"] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn what_cannot_be_asked_now_is_asked_by_the_command_itself() {
        assert_eq!(Name::Plain("zlib1g").in_shell(""), "zlib1g");
        assert_eq!(
            Name::Newest("libicu").in_shell(""),
            "\"$(apt-cache pkgnames libicu | grep -Ex 'libicu[0-9.]+(t64)?' | sort -V | tail -n 1)\""
        );
        assert_eq!(
            Name::Either(&["libssl3t64", "libssl3", "libssl1.1"]).in_shell(""),
            "\"$(apt-cache pkgnames libssl | grep -Ex 'libssl3t64|libssl3|libssl1\\.1' | sort -V | tail -n 1)\""
        );
    }
}
