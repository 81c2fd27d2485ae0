use super::*;
use crate::deadline::Stop;

/// The relevant lines of each distribution's os-release, and the command that installs libicu, OpenSSL, Kerberos and
/// ldd there. If only apt knows a name, the command queries it; `ICU` and `SSL` stand for that.
const KNOWN: [(&str, &str); 22] = [
    ("ID=debian\nVERSION_ID=\"11\"\nPRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"", APT),
    ("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"", APT),
    ("ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"", APT),
    ("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux forky/sid\"", APT),
    ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"20.04\"\nPRETTY_NAME=\"Ubuntu 20.04.6 LTS\"", APT),
    ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"22.04\"\nPRETTY_NAME=\"Ubuntu 22.04.5 LTS\"", APT),
    ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nPRETTY_NAME=\"Ubuntu 24.04.2 LTS\"", APT),
    ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"26.04\"\nPRETTY_NAME=\"Ubuntu 26.04 LTS\"", APT),
    ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"22\"\nPRETTY_NAME=\"Linux Mint 22\"", APT),
    ("ID=raspbian\nID_LIKE=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Raspbian GNU/Linux 12\"", APT),
    ("ID=fedora\nVERSION_ID=42\nPRETTY_NAME=\"Fedora Linux 42 (Cloud Edition)\"", DNF),
    (
        "ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.6\"\nPRETTY_NAME=\"Red Hat Enterprise Linux 9.6\"",
        DNF,
    ),
    (
        "ID=\"rhel\"\nID_LIKE=\"centos fedora\"\nVERSION_ID=\"10.0\"\nPRETTY_NAME=\"Red Hat Enterprise Linux 10.0\"",
        DNF,
    ),
    (
        "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\nPRETTY_NAME=\"Rocky Linux 9.4\"",
        DNF,
    ),
    (
        "ID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"8.10\"\nPRETTY_NAME=\"AlmaLinux 8.10\"",
        DNF,
    ),
    ("ID=\"centos\"\nID_LIKE=\"rhel fedora\"\nVERSION_ID=\"9\"\nPRETTY_NAME=\"CentOS Stream 9\"", DNF),
    ("ID=\"ol\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.5\"\nPRETTY_NAME=\"Oracle Linux Server 9.5\"", DNF),
    ("ID=\"amzn\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"2023\"\nPRETTY_NAME=\"Amazon Linux 2023.7\"", DNF),
    (
        "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\nPRETTY_NAME=\"openSUSE Leap 15.6\"",
        ZYPPER,
    ),
    (
        "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\nVERSION_ID=\"20260101\"\nPRETTY_NAME=\"Tumbleweed\"",
        ZYPPER,
    ),
    (
        "ID=\"sles\"\nID_LIKE=\"suse\"\nVERSION_ID=\"15.7\"\nPRETTY_NAME=\"SUSE Linux Enterprise Server 15 SP7\"",
        ZYPPER,
    ),
    (
        "ID=\"sles\"\nID_LIKE=\"suse\"\nVERSION_ID=\"16.0\"\nPRETTY_NAME=\"SUSE Linux Enterprise Server 16.0\"",
        ZYPPER,
    ),
];
const APT: &str = "DEBIAN_FRONTEND=noninteractive chroot ROOT apt-get --option=DPkg::Lock::Timeout=300 update && \
    DEBIAN_FRONTEND=noninteractive chroot ROOT apt-get --option=DPkg::Lock::Timeout=300 install --yes \
    --no-install-recommends ICU SSL libgssapi-krb5-2 libc-bin";
const DNF: &str =
    "chroot ROOT dnf install -y --setopt=install_weak_deps=0 libicu openssl-libs krb5-libs glibc-common";
const ZYPPER: &str = "ZYPP_LOCK_TIMEOUT=300 chroot ROOT zypper --non-interactive refresh && \
    ZYPP_LOCK_TIMEOUT=300 chroot ROOT zypper --non-interactive install --no-recommends libicu libopenssl3 krb5 glibc";

async fn command_for(os_release: &str) -> Result<String, Error> {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path().into());
    let needs = behind(&["libicuuc.so.74", "libssl.so.3", "libgssapi_krb5.so.2", "ldd"]);
    assert_eq!(words(&needs), ["libicu", "OpenSSL", "Kerberos (GSSAPI)", "ldd"]);
    let command = command(&root, &Distribution::parse(os_release), &needs, &Stop::never()).await?;
    Ok(command.replace(dir.path().to_str().unwrap(), "ROOT"))
}

#[tokio::test]
async fn each_distribution_has_its_command() {
    let by_shell = |start: &str, pattern: &str| {
        format!("\"$(chroot ROOT apt-cache pkgnames {start} | grep -Ex '{pattern}' | sort -V | tail -n 1)\"")
    };
    for (os_release, expected) in KNOWN {
        let expected = expected
            .replace("ICU", &by_shell("libicu", "libicu[0-9.]+(t64)?"))
            .replace("SSL", &by_shell("libssl", r"libssl3t64|libssl3|libssl1\.1"));
        assert_eq!(command_for(os_release).await.unwrap(), expected, "{os_release}");
    }
}

#[tokio::test]
async fn where_nothing_can_be_done_it_is_said_with_the_list() {
    for (os_release, name) in [
        ("ID=arch\nPRETTY_NAME=\"Arch Linux\"", "Arch Linux"),
        ("ID=alpine\nVERSION_ID=3.22\nPRETTY_NAME=\"Alpine Linux v3.22\"", "Alpine Linux v3.22"),
        ("ID=nixos\nVERSION_ID=\"25.11\"", "nixos"),
        ("ID=\"opensuse-microos\"\nID_LIKE=\"suse opensuse\"\nPRETTY_NAME=MicroOS", "MicroOS"),
        ("", "a system without /etc/os-release"),
    ] {
        let error = command_for(os_release).await.unwrap_err();
        assert_eq!(error.class(), Class::Unavailable);
        assert!(error.to_string().contains(&format!("packages on {name}, and")), "{error}");
        assert!(error.hint().unwrap().contains("libicu, OpenSSL, Kerberos (GSSAPI), zlib"), "{error:?}");
    }
}

#[tokio::test]
async fn a_system_whose_c_library_is_too_old_is_refused() {
    for (os_release, glibc) in [
        (
            "ID=\"amzn\"\nID_LIKE=\"centos rhel fedora\"\nVERSION_ID=\"2\"\nPRETTY_NAME=\"Amazon Linux 2\"",
            "2.26",
        ),
        ("ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"7.9\"\nPRETTY_NAME=\"RHEL 7.9\"", "2.17"),
        ("ID=\"sles\"\nID_LIKE=\"suse\"\nVERSION_ID=\"12.5\"\nPRETTY_NAME=\"SLES 12 SP5\"", "2.22"),
        ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"18.04\"\nPRETTY_NAME=\"Ubuntu 18.04\"", "2.27"),
    ] {
        let error = command_for(os_release).await.unwrap_err();
        assert_eq!(error.class(), Class::Unavailable);
        assert!(error.to_string().contains(&format!("glibc {glibc}")), "{error}");
    }
}

#[tokio::test]
async fn a_system_whose_packages_belong_to_an_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path().into());
    fs_err::create_dir_all(dir.path().join("ostree/repo")).unwrap();
    let coreos = Distribution::parse("ID=fedora\nVERSION_ID=42\nPRETTY_NAME=\"Fedora CoreOS\"");
    let error = command(&root, &coreos, &behind(&["ldd"]), &Stop::never()).await.unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }), "{error}");
}

#[test]
fn each_need_is_found_by_the_soname_that_ldd_prints() {
    for (printed, what) in [
        ("libicuuc.so.72", "libicu"),
        ("libssl.so.1.1", "OpenSSL"),
        ("libgssapi_krb5.so.2", "Kerberos (GSSAPI)"),
        ("libz.so.1", "zlib"),
        ("libstdc++.so.6", "libstdc++"),
        ("libgcc_s.so.1", "libgcc"),
        ("ldconfig", "ldconfig"),
    ] {
        assert_eq!(words(&behind(&[printed])), [what]);
    }
    assert_eq!(behind(&["libcurl.so.4"]), [] as [&Need; 0]);
}
