//! Determines the cloud of this machine by its firmware, without any network access.

use super::Root;
use std::path::Path;

/// A cloud that announces the termination of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Amazon EC2.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Compute Engine.
    Gcp,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aws, Self::Azure, Self::Gcp];
}

/// The firmware's strings (DMI); empty if they do not exist.
#[derive(Debug, Default)]
struct Firmware {
    sys_vendor: String,
    product_name: String,
    chassis_asset_tag: String,
    bios_version: String,
}

impl Firmware {
    fn read(root: &Root) -> Self {
        let read = |name: &str| {
            let path = root.resolve(&Path::new("/sys/class/dmi/id").join(name));
            let text = path.and_then(|path| fs_err::read_to_string(path).ok());
            text.map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        Self {
            sys_vendor: read("sys_vendor"),
            product_name: read("product_name"),
            chassis_asset_tag: read("chassis_asset_tag"),
            bios_version: read("bios_version"),
        }
    }

    /// The strings are those by which cloud-init recognises its data sources.
    fn provider(&self) -> Option<Provider> {
        // Machines on Xen, before Nitro, have "Xen" as their vendor and "4.11.amazon" as their BIOS.
        if self.sys_vendor == "Amazon EC2" || self.bios_version.to_ascii_lowercase().ends_with("amazon") {
            Some(Provider::Aws)
        } else if self.chassis_asset_tag == "7783-7084-3265-9085-8269-3286-77" {
            // Every Hyper-V machine has this vendor; only Azure has this tag.
            Some(Provider::Azure)
        } else if self.product_name == "Google Compute Engine" {
            Some(Provider::Gcp)
        } else {
            None
        }
    }
}

/// The cloud that the firmware names; `None` if it names none, or cannot be read (containers without `/sys`, Windows).
#[must_use]
pub fn cloud(root: &Root) -> Option<Provider> {
    Firmware::read(root).provider()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cloud_is_known_by_its_firmware_and_nothing_else_is_taken_for_one() {
        let azure = "7783-7084-3265-9085-8269-3286-77";
        for (vendor, product, tag, bios, expected) in [
            ("Amazon EC2", "m7g.large", "Amazon EC2", "1.0", Some(Provider::Aws)),
            ("Xen", "HVM domU", "", "4.11.amazon", Some(Provider::Aws)),
            ("Microsoft Corporation", "Virtual Machine", azure, "090008", Some(Provider::Azure)),
            ("Google", "Google Compute Engine", "", "Google", Some(Provider::Gcp)),
            ("Microsoft Corporation", "Virtual Machine", "1234-5678", "090008", None),
            ("Xen", "HVM domU", "", "4.17.3", None),
            ("Google", "Chromebox", "", "Google_Fizz", None),
            ("QEMU", "Standard PC (Q35 + ICH9, 2009)", "", "1.16.2", None),
            ("", "", "", "", None),
        ] {
            let firmware = Firmware {
                sys_vendor: vendor.to_owned(),
                product_name: product.to_owned(),
                chassis_asset_tag: tag.to_owned(),
                bios_version: bios.to_owned(),
            };
            assert_eq!(firmware.provider(), expected, "{firmware:?}");
        }
    }

    #[test]
    fn the_firmware_is_read_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path().into());
        assert_eq!(cloud(&root), None);
        let firmware = dir.path().join("sys/class/dmi/id");
        fs_err::create_dir_all(&firmware).unwrap();
        fs_err::write(firmware.join("product_name"), "Google Compute Engine\n").unwrap();
        assert_eq!(cloud(&root), Some(Provider::Gcp));
    }
}
